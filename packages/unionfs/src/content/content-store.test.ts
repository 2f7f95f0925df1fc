import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { ContentStore } from './content-store.js';
import { digestOf, splitDigest } from './digest.js';
import { ImageError } from './error.js';

let folder = '';
let content: ContentStore;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-content-'));
  content = await ContentStore.open(folder);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function* pieces(bytes: Uint8Array, length = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}
const partial = () => {
  const directory = join(folder, '.iso/partial');
  return existsSync(directory) ? readdirSync(directory) : [];
};
const reason = async (work: Promise<unknown>) => {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  return ImageError.is(error) ? error.reason : error;
};

describe('digests', () => {
  it('are what they say and nothing that leads elsewhere', () => {
    const hex = 'a'.repeat(64);
    expect(splitDigest(`sha256:${hex}`)).toEqual({ algorithm: 'sha256', hex });
    for (const bad of ['', ':', 'sha256', 'sha256:', `sha256:${'a'.repeat(63)}`, `sha256:${'A'.repeat(64)}`]) {
      expect(() => splitDigest(bad)).toThrow(ImageError);
    }
    for (const bad of [`sha256:${hex}/..`, `../..:${hex}`, `sha256:../../../${hex}`, `sha256:${hex}\0`, `md5:${hex}`]) {
      expect(() => splitDigest(bad)).toThrow(ImageError);
    }
    expect(() => content.path('constructor:aa')).toThrow(ImageError);
  });
});

describe('ContentStore', () => {
  it('gives back what it was given, by its hash', async () => {
    const bytes = randomBytes(3_000_001);
    const blob = await content.write(pieces(bytes, 65_537), { size: bytes.length });
    expect(blob).toEqual({
      digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}`,
      size: bytes.length,
    });
    expect(readFileSync(content.path(blob.digest)).equals(bytes)).toBe(true);
    expect(statSync(content.path(blob.digest)).mode & 0o777).toBe(0o444);
    expect((await content.read(blob.digest)).equals(bytes)).toBe(true);
    expect(await content.verify(blob.digest)).toBe(bytes.length);
    expect(await content.size(blob.digest)).toBe(bytes.length);
    const listed = [];
    for await (const found of content.list()) listed.push(found);
    expect(listed).toEqual([blob]);
    expect(await content.remove(blob.digest)).toBe(true);
    expect(await content.remove(blob.digest)).toBe(false);
    expect(await content.size(blob.digest)).toBeUndefined();
    expect(await reason(content.read(blob.digest))).toBe('notFound');
    expect(partial()).toEqual([]);
  });

  it('takes sha512, and the empty blob', async () => {
    const digest = `sha512:${createHash('sha512').update('hello').digest('hex')}`;
    expect(await content.write(pieces(Buffer.from('hello')), { digest })).toEqual({ digest, size: 5 });
    expect((await content.read(digest)).toString()).toBe('hello');
    const empty = await content.write([]);
    expect(empty).toEqual({ digest: digestOf(Buffer.alloc(0)), size: 0 });
    expect((await content.read(empty.digest)).length).toBe(0);
  });

  it('shows nothing that is not what was announced, and leaves nothing of it', async () => {
    const bytes = randomBytes(5000);
    const other = digestOf(Buffer.from('other'));
    expect(await reason(content.write(pieces(bytes), { digest: other }))).toBe('wrongDigest');
    expect(await reason(content.write(pieces(bytes), { size: 4999 }))).toBe('wrongSize');
    expect(await reason(content.write(pieces(bytes), { size: 5001 }))).toBe('wrongSize');
    expect(await reason(content.write(pieces(bytes), { limit: 4999 }))).toBe('tooLarge');
    const broken = new Error('the line broke');
    async function* breaking() {
      yield bytes;
      throw broken;
    }
    expect(await reason(content.write(breaking()))).toBe(broken);
    expect(await reason(content.write(pieces(bytes), { signal: AbortSignal.abort(broken) }))).toBe(broken);
    expect(await reason(content.write(pieces(bytes), { digest: 'sha256:../x' }))).toBe('badName');
    expect(partial()).toEqual([]);
    for await (const _ of content.list()) throw new Error('a blob');
  });

  it('stops an endless source at its limit', async () => {
    let sent = 0;
    async function* endless() {
      for (; ; sent += 65536) yield Buffer.alloc(65536);
    }
    expect(await reason(content.write(endless(), { limit: 1 << 20 }))).toBe('tooLarge');
    expect(sent).toBeLessThan(2 << 20);
  });

  it('finds what went bad on disk', async () => {
    const { digest } = await content.write(pieces(randomBytes(100_000)));
    rmSync(content.path(digest));
    writeFileSync(content.path(digest), randomBytes(100_000));
    expect(await reason(content.verify(digest))).toBe('wrongDigest');
    expect(await reason(content.read(digest))).toBe('wrongDigest');
    // Written again it is well.
    const bytes = Buffer.from('fine');
    const fine = digestOf(bytes);
    writeFileSync(content.path(fine), 'bad!');
    await content.write([bytes], { digest: fine });
    expect(await content.verify(fine)).toBe(4);
  });

  it('takes the same blob from many at once', async () => {
    const bytes = randomBytes(300_000);
    const digest = digestOf(bytes);
    const stores = await Promise.all(Array.from({ length: 12 }, () => ContentStore.open(folder)));
    const written = await Promise.all(
      stores.map((store, i) => store.write(pieces(bytes, 7000 + i), i % 2 ? { digest } : {})),
    );
    expect(new Set(written.map((blob) => blob.digest))).toEqual(new Set([digest]));
    expect((await content.read(digest)).equals(bytes)).toBe(true);
    expect(partial()).toEqual([]);
  });

  it('goes on with what is there of a blob', async () => {
    const bytes = randomBytes(200_000);
    const digest = digestOf(bytes);
    {
      await using first = await content.begin({ digest, size: bytes.length });
      await first.write(bytes.subarray(0, 77_777));
      first.keep();
    }
    expect(partial()).toHaveLength(1);
    await using second = await content.begin({ digest, size: bytes.length });
    expect(second.offset).toBe(77_777);
    await second.write(bytes.subarray(77_777));
    expect(await second.commit()).toEqual({ digest, size: bytes.length });
    expect((await content.read(digest)).equals(bytes)).toBe(true);
    // What was left of something else does no harm: it is found out, and does not stay.
    {
      await using wrong = await content.begin({ digest });
      await wrong.write(Buffer.from('wrong'));
      wrong.keep();
    }
    await using third = await content.begin({ digest });
    expect(third.offset).toBe(5);
    expect(await reason(third.commit())).toBe('wrongDigest');
    await third[Symbol.asyncDispose]().catch(() => {});
    expect(partial()).toEqual([]);
  });

  it('waits for who writes the same blob, and gives up waiting when it is told to', async () => {
    const digest = digestOf(Buffer.from('slow'));
    await using slow = await content.begin({ digest });
    const stop = new AbortController();
    const waiting = content.begin({ digest, signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await slow.write(Buffer.from('slow'));
    await slow.commit();
    await using next = await content.begin({ digest });
    expect(next.offset).toBe(0);
  });

  it('collects what nothing needs, but not while somebody holds it', async () => {
    const kept = await content.write([Buffer.from('kept')]);
    const lost = await content.write([Buffer.from('lost')]);
    {
      await using left = await content.begin({ digest: digestOf(Buffer.from('x')) });
      await left.write(Buffer.from('half'));
      left.keep();
    }
    await using busy = await content.begin();
    const needed = async () => new Set([kept.digest]);
    {
      using _ = await content.hold();
      using __ = await content.hold();
      await expect(content.collect(needed, { signal: AbortSignal.timeout(30) })).rejects.toThrow();
      expect(await content.size(lost.digest)).toBe(4);
    }
    expect(await content.collect(needed, { dryRun: true })).toEqual([lost]);
    expect(partial()).toHaveLength(2);
    expect(await content.collect(needed)).toEqual([lost]);
    expect(partial()).toHaveLength(1);
    await busy.write(Buffer.from('alive'));
    const { digest } = await busy.commit();
    expect((await content.read(digest)).toString()).toBe('alive');
    expect(await content.size(lost.digest)).toBeUndefined();
  });

  it('goes on where a process was killed', { timeout: 30_000 }, async () => {
    const bytes = Buffer.alloc(8 << 20, 'kill me');
    const digest = digestOf(bytes);
    const url = JSON.stringify(new URL('./content-store.ts', import.meta.url).href);
    const code = `
      const { ContentStore } = await import(${url});
      const content = await ContentStore.open(${JSON.stringify(folder)});
      const ingest = await content.begin({ digest: ${JSON.stringify(digest)}, size: ${bytes.length} });
      const bytes = Buffer.alloc(${bytes.length}, 'kill me');
      await ingest.write(bytes.subarray(0, 3000000));
      console.log('there');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, [...fromSources, '--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    // It holds the lock while it lives.
    await expect(content.begin({ digest, signal: AbortSignal.timeout(20) })).rejects.toThrow();
    child.kill('SIGKILL');
    await once(child, 'exit');
    await using ingest = await content.begin({ digest, size: bytes.length });
    expect(ingest.offset).toBe(3_000_000);
    await ingest.write(bytes.subarray(ingest.offset));
    await ingest.commit();
    expect(await content.verify(digest)).toBe(bytes.length);
  });
});
