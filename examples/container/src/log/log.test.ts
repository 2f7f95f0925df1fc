import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ContainerLog, type LogEntry, logFile, parseLogOptions } from './container-log.js';
import { rotatedEntries, rotatedLines } from './lines.js';
import { RotatedFile } from './rotated.js';
import { parseTime } from './time.js';

/** A disk that has room for so many bytes more. */
const disk = vi.hoisted(() => ({ room: Number.POSITIVE_INFINITY }));
vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const writeSync = (fd: number, bytes: Buffer, at: number, length = bytes.length - at) => {
    if (disk.room === 0) throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
    const written = fs.writeSync(fd, bytes, at, Math.min(length, disk.room));
    disk.room -= written;
    return written;
  };
  return { ...fs, writeSync };
});

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterEach(() => {
  disk.room = Number.POSITIVE_INFINITY;
  rmSync(folder, { recursive: true, force: true });
});

async function lines(path: string, options: Parameters<typeof rotatedLines>[1] = {}): Promise<string[]> {
  const all: string[] = [];
  for await (const line of rotatedLines(path, options)) all.push(line);
  return all;
}

const entries = () =>
  readFileSync(logFile(folder), 'utf8')
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as LogEntry);

describe('a log', () => {
  it('has an entry for each line, whatever is in it and however it comes', () => {
    {
      using log = new ContainerLog(folder);
      log.write('stdout', Buffer.from('one\ntw'));
      log.write('stderr', Buffer.from('back\\slash "quote" \x1b\n\n'));
      log.write('stdout', Buffer.from('o \\n\n"three"\x00\né'));
      log.write('stdout', Buffer.from([0xff, 0x0a]));
      log.write('stderr', Buffer.from('no end'));
    }
    expect(entries().map(({ log, stream }) => [stream, log])).toEqual([
      ['stdout', 'one\n'],
      ['stderr', 'back\\slash "quote" \x1b\n'],
      ['stderr', '\n'],
      ['stdout', 'two \\n\n'],
      ['stdout', '"three"\x00\n'],
      ['stdout', 'é\ufffd\n'],
      ['stderr', 'no end'],
    ]);
  });

  it('has a long line in several entries, none of which ends within a character', () => {
    const long = 'é'.repeat(20_000);
    {
      using log = new ContainerLog(folder);
      log.write('stdout', Buffer.from(`x${long}`));
      log.write('stdout', Buffer.from('\nlast\n'));
    }
    const texts = entries().map(({ log }) => log);
    expect(texts.join('')).toBe(`x${long}\nlast\n`);
    expect(texts.length).toBe(4);
    expect(Math.max(...texts.map((text) => Buffer.byteLength(text)))).toBeLessThanOrEqual(16384);
  });

  it('loses whole lines on a full disk, and goes on when there is room', async () => {
    {
      using log = new ContainerLog(folder);
      log.write('stdout', Buffer.from('one\nbegun '));
      disk.room = 20;
      expect(() => log.write('stdout', Buffer.from('lost\ntwo '))).toThrow('no space');
      expect(entries().map(({ log }) => log)).toEqual(['one\n']);
      disk.room = Number.POSITIVE_INFINITY;
      log.write('stdout', Buffer.from('end\nnever ended'));
      disk.room = 5;
      expect(() => log[Symbol.dispose]()).toThrow('no space');
    }
    expect(entries().map(({ log }) => log)).toEqual(['one\n', 'two end\n']);
    // Of a writer that was killed.
    appendFileSync(logFile(folder), '{"log":"hal\n{"log":"last"}\n');
    const logs: string[] = [];
    for await (const { log } of rotatedEntries<LogEntry>(logFile(folder))) logs.push(log);
    expect(logs).toEqual(['one\n', 'two end\n', 'last']);
  });

  it('takes docker’s options', () => {
    expect(parseLogOptions(['max-file=3', 'max-size=10k'])).toEqual({ maxBytes: 10240, files: 3 });
    for (const texts of [
      ['max-file=3'],
      ['max-size=0'],
      ['max-size'],
      ['max-file=0', 'max-size=1k'],
      ['compress=true'],
    ])
      expect(() => parseLogOptions(texts)).toThrow();
  });
});

describe('a rotated file', () => {
  it('keeps so many, each as large as was said and a line', async () => {
    const path = join(folder, 'f');
    {
      using file = RotatedFile.open(path, { maxBytes: 10, files: 3 });
      file.append(Array.from({ length: 10 }, (_, i) => `line ${i}\n`).join(''));
    }
    expect(readdirSync(folder).sort()).toEqual(['f', 'f.1', 'f.2']);
    expect(readFileSync(`${path}.2`, 'utf8')).toBe('line 4\nline 5\n');
    expect(await lines(path)).toEqual([4, 5, 6, 7, 8, 9].map((i) => `line ${i}`));
    for (let last = 0; last <= 8; last++)
      expect(await lines(path, { last })).toEqual(
        [4, 5, 6, 7, 8, 9].slice(Math.max(0, 6 - last)).map((i) => `line ${i}`),
      );
    {
      using file = RotatedFile.open(path, { maxBytes: 7 });
      file.append('a\nbbbbbbbb\nc\n');
    }
    expect(readFileSync(path, 'utf8')).toBe('c\n');
  });

  it('goes on when it could not be rotated', () => {
    const path = join(folder, 'f');
    mkdirSync(`${path}.1`);
    using file = RotatedFile.open(path, { maxBytes: 2, files: 2 });
    file.append('a\n');
    expect(() => file.append('b\n')).toThrow();
    expect(() => file.append('c\n')).toThrow();
    rmdirSync(`${path}.1`);
    file.append('d\n');
    expect([readFileSync(`${path}.1`, 'utf8'), readFileSync(path, 'utf8')]).toEqual(['a\n', 'd\n']);
  });

  it('is held by who follows it no longer than it is read', async () => {
    const path = join(folder, 'f');
    using file = RotatedFile.open(path, { maxBytes: 2, files: 2 });
    file.append('0\n');
    const following = rotatedLines(path, { until: () => false });
    for (let i = 0; i < 10; i++) {
      expect((await following.next()).value).toBe(`${i}`);
      file.append(`${i + 1}\n`);
    }
    const held = readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return [];
      }
    });
    await following.return();
    // The one that is written, and the last one that was read.
    expect(held.filter((target) => target.startsWith(path)).length).toBeLessThanOrEqual(3);
  });

  it('loses nothing to who follows it while it is renamed', async () => {
    const path = join(folder, 'f');
    let over = false;
    const following = lines(path, { until: () => over, last: 0 });
    {
      using file = RotatedFile.open(path, { maxBytes: 50, files: 20 });
      for (let i = 0; i < 100; i++) {
        file.append(`line ${i}\n`);
        if (i % 7 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
      }
      over = true;
      file.append('last\n');
    }
    const all = await following;
    expect(all.at(-1)).toBe('last');
    // What was there before the first look is not asked for.
    expect(all.slice(0, -1)).toEqual(Array.from({ length: all.length - 1 }, (_, i) => `line ${101 - all.length + i}`));
    expect(all.length).toBeGreaterThan(90);
    expect(await lines(join(folder, 'none'))).toEqual([]);
  });
});

it('times are docker’s', () => {
  expect(parseTime('1700000000.5')).toBe(1_700_000_000_500);
  expect(parseTime('2026-01-31T12:00:00Z')).toBe(Date.UTC(2026, 0, 31, 12));
  expect(parseTime('2026-01-31')).toBe(new Date(2026, 0, 31).getTime());
  expect(Math.abs(Date.now() - 5_400_000 - parseTime('1h30m'))).toBeLessThan(1000);
  for (const text of ['', 'yesterday', '1x', '-5m']) expect(() => parseTime(text)).toThrow('not a time');
});
