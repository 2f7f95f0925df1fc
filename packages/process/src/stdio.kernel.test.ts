import { spawn as nodeSpawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  createWriteStream,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fd, O, syscall } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { inNode } from './fixture.js';
import { type Child, OutputLimitError, run, spawn } from './index.js';

let folder = '';
beforeEach(() => void (folder = mkdtempSync(join(tmpdir(), 'iso-test-'))));
afterEach(() => rmSync(folder, { recursive: true }));

/** What a process has open, as the kernel says. */
const openIn = (pid: number) =>
  Object.fromEntries(readdirSync(`/proc/${pid}/fd`).map((fd) => [fd, readlinkSync(`/proc/${pid}/fd/${fd}`)]));

describe('descriptors', () => {
  it('stand exactly at their numbers, with holes, as child_process leaves them', async () => {
    const file = openSync('/etc/passwd', 'r');
    const stdio = ['ignore', 'ignore', 'ignore', file, null, file, 'ignore', undefined, 'ignore', 'pipe'] as const;
    const theirs = nodeSpawn('sleep', ['60'], { stdio: [...stdio] });
    await using ours = await spawn('sleep', ['60'], { stdio });
    closeSync(file);
    // While it loads its libraries it has them open.
    await vi.waitFor(() => expect(Object.keys(openIn(ours.pid)).length).toBe(6), { timeout: 20_000 });
    const kind = (text = '') => text.replace(/\[\d+\]/, '');
    const [node, iso] = [openIn(theirs.pid as number), openIn(ours.pid)];
    theirs.kill();
    await once(theirs, 'close');
    expect(Object.keys(iso)).toEqual(['0', '1', '2', '3', '5', '9']);
    for (const fd of Object.keys(iso)) expect(kind(iso[fd])).toBe(kind(node[fd]));
  });

  it('are nobody else’s: what Node itself was started with stays outside', { timeout: 120_000 }, async () => {
    const out = await inNode(
      `const { spawn } = iso; const { readdirSync } = await import('node:fs');
       const child = await spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', null, null, 'ignore', 1] });
       const open = () => readdirSync('/proc/' + child.pid + '/fd').join();
       // While it loads its libraries it has them open.
       for (let i = 0; i < 200 && open() !== '0,1,2,6'; i++) await new Promise((resolve) => setTimeout(resolve, 50));
       console.log(open()); child.kill(); await child.exited;`,
      { shell: 'exec "$0" "$@" 4</etc/passwd 5</etc/passwd 50</etc/passwd' },
    );
    expect(out).toBe('0,1,2,6\n');
  });

  it('are /dev/null where this process has none', { timeout: 120_000 }, async () => {
    const report = join(folder, 'report');
    await inNode(
      `const { run, spawn } = iso; const { closeSync, readlinkSync, writeFileSync } = await import('node:fs');
       const links = (pid) => [0, 1, 2].map((fd) => readlinkSync('/proc/' + pid + '/fd/' + fd));
       const first = await spawn('sleep', ['60'], { stdio: 'inherit' }); const lines = links(first.pid);
       closeSync(0);
       const second = await spawn('sleep', ['60'], { stdio: 'inherit' }); lines.push(...links(second.pid));
       for (const child of [first, second]) { child.kill(); await child.exited; }
       lines.push((await run('cat', [], { input: 'through' })).stdout);
       writeFileSync(${JSON.stringify(report)}, lines.join());`,
      { shell: 'exec "$0" "$@" <&- >&- 2>&-' },
    );
    expect(readFileSync(report, 'utf8')).toBe(`${Array(6).fill('/dev/null').join()},through`);
  });

  it('may be a directory: what the program makes of that is its own business', async () => {
    using directory = Fd.open('/etc', { directory: true });
    const { code, stderr } = await run('cat', [], { stdio: [directory, 'pipe', 'pipe'], check: false });
    expect([code, stderr]).toEqual([1, expect.stringMatching(/directory/)]);
  });

  it('may be streams', async () => {
    const file = createWriteStream(join(folder, 'out'));
    await once(file, 'open');
    const server = createServer().listen(join(folder, 'socket'));
    const [[accepted], client] = await Promise.all([once(server, 'connection'), connect(join(folder, 'socket'))]);
    await run('sh', ['-c', 'echo to-file; echo to-socket >&2'], { stdio: ['ignore', file as never, accepted] });
    accepted.end();
    const [chunk] = await once(client, 'data');
    expect([readFileSync(join(folder, 'out'), 'utf8'), String(chunk)]).toEqual(['to-file\n', 'to-socket\n']);
    const closed = Promise.all([file, client, server].map((stream) => once(stream, 'close')));
    file.destroy();
    client.destroy();
    server.close();
    await closed;
  });

  it('go both ways from number 3 on', async () => {
    const child = await spawn('sh', ['-c', 'read line <&3; echo "got $line" >&3'], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    const [, , , socket] = child.stdio;
    (socket as NodeJS.WritableStream).write('a line\n');
    expect(String((await once(socket as never, 'data'))[0])).toBe('got a line\n');
    await once(child, 'close');
  });

  it('block, as programs expect of the first three', async () => {
    const ends = Buffer.alloc(8);
    syscall('pipe2', ends, O.CLOEXEC | O.NONBLOCK);
    using reader = Fd.own(ends.readInt32LE(0));
    using writer = Fd.own(ends.readInt32LE(4));
    const running = run('cat', [], { stdio: [reader, 'pipe', 'pipe'] });
    await sleep(100);
    syscall('write', writer, 'late', 4);
    writer.close();
    expect((await running).stdout).toBe('late');
  });

  it.each([[3.5], [-1], ['file'], [{}], [Number.NaN], [true]])('refuses %s', async (item) => {
    await expect(spawn('true', [], { stdio: ['ignore', 'ignore', item as never] })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });
});

describe('streams', () => {
  it('hold a writer back that nobody reads, and lose nothing: 100 MB', async () => {
    const script = 'exec head -c 100000000 /dev/zero';
    const expected = createHash('sha256').update(Buffer.alloc(100_000_000)).digest('hex');
    const child = await spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'] });
    await sleep(200);
    const written = Number(/wchar: (\d+)/.exec(readFileSync(`/proc/${child.pid}/io`, 'utf8'))?.[1]);
    expect(written).toBeGreaterThan(10_000);
    expect(written).toBeLessThan(1_000_000);
    const hash = createHash('sha256');
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) hash.update(chunk);
    expect(await child.exited).toMatchObject({ code: 0 });
    expect(hash.digest('hex')).toBe(expected);
  });

  it('take input that is never read, and input that is read in part', async () => {
    const input = Buffer.alloc(5_000_000, 'x');
    expect((await run('sleep', ['0.05'], { input })).code).toBe(0);
    expect((await run('head', ['-c', '3'], { input })).stdout).toBe('xxx');
    expect((await run('wc', ['-c'], { input })).stdout.trim()).toBe('5000000');
  });

  it('take input from a stream, and end with its error', async () => {
    async function* lines() {
      for (const line of ['a\n', Buffer.from('b\n'), 'c\n']) yield line;
    }
    expect((await run('cat', [], { input: lines() })).stdout).toBe('a\nb\nc\n');
    async function* endless() {
      for (;;) yield Buffer.alloc(65_536);
    }
    expect((await run('head', ['-c', '10'], { input: endless() })).stdout).toHaveLength(10);
    async function* broken() {
      yield 'a';
      throw new Error('no more');
    }
    await expect(run('cat', [], { input: broken() })).rejects.toThrow('no more');
    await expect(run('cat', [], { input: 'a', stdio: ['ignore', 'pipe', 'pipe'] })).rejects.toThrow(/standard input/);
  });

  it('end when the child closes them, before its exit', async () => {
    const child = await spawn('sh', ['-c', 'echo x; exec >&-; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    for await (const chunk of child.stdout as AsyncIterable<Buffer>) text += chunk;
    expect([text, child.exitCode, readlinkSync(`/proc/${child.pid}/exe`)]).toEqual(['x\n', null, expect.any(String)]);
    child.kill();
    await child.exited;
  });

  it('end of a child that is gone before anybody here has heard of its start', async () => {
    for (let i = 0; i < 30; i++) {
      const child = await spawn('true', [], { gate: 'open', stdio: ['ignore', 'pipe', 'pipe'] });
      await once(child, 'close', { signal: AbortSignal.timeout(5000) });
      expect(child.exitCode).toBe(0);
      expect((await run('echo', ['x'], { gate: 'open' })).stdout).toBe('x\n');
    }
  });

  it('keep to maxBuffer', async () => {
    const error = await run('yes', [], { maxBuffer: 1000 }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(OutputLimitError);
    expect(error).toMatchObject({ signal: 'SIGKILL', stdout: 'y\n'.repeat(500) });
    expect((await run('printf', ['abc'], { maxBuffer: 3 })).stdout).toBe('abc');
    await expect(run('printf', ['abcd'], { maxBuffer: 3 })).rejects.toThrow(/more than 3 bytes/);
    await expect(run('true', [], { maxBuffer: -1 })).rejects.toThrow(TypeError);
    await expect(run('true', [], { maxBuffer: Number.NaN })).rejects.toThrow(TypeError);
  });

  it('do not wait for grandchildren of a child that was ended before its time', async () => {
    const started = Date.now();
    const script = ['-c', 'sleep 30 & echo $!; wait'];
    const error = await run('sh', script, { timeout: 100 }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'ExitError', timedOut: true });
    const signal = AbortSignal.timeout(100);
    await expect(run('sh', script, { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(Date.now() - started).toBeLessThan(20_000);
    process.kill(Number((error as { stdout: string }).stdout), 'SIGKILL');
  });

  it('do not wait longer for grandchildren of a child that has ended by itself', async () => {
    const started = Date.now();
    const script = ['-c', 'sleep 30 & echo $!'];
    const late = await run('sh', script, { timeout: 300 }).catch((reason: unknown) => reason);
    expect(late).toMatchObject({ name: 'ExitError', code: 0, timedOut: true });
    const unchecked = await run('sh', script, { timeout: 300, check: false });
    expect(unchecked).toMatchObject({ code: 0, timedOut: true });
    const signal = AbortSignal.timeout(300);
    await expect(run('sh', script, { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
    expect(await run('sh', ['-c', 'sleep 0.2 & echo x'], { timeout: 20_000 })).toMatchObject({
      timedOut: false,
      stdout: 'x\n',
    });
    expect(Date.now() - started).toBeLessThan(20_000);
    for (const { stdout } of [late, unchecked] as { stdout: string }[]) process.kill(Number(stdout), 'SIGKILL');
  });
});

describe('events', () => {
  /** Events in their order, of a child of either kind. */
  async function events(child: Child | ReturnType<typeof nodeSpawn>, read: boolean): Promise<string[]> {
    const seen: string[] = [];
    const closed = new Promise((resolve) => (child as NodeJS.EventEmitter).once('close', resolve));
    for (const name of ['spawn', 'exit', 'close', 'error'])
      (child as NodeJS.EventEmitter).on(name, (a: unknown, b: unknown) =>
        seen.push(`${name} ${a instanceof Error ? `${a.name} ${(a as { code?: string }).code}` : `${a} ${b}`}`),
      );
    if (read) {
      child.stdout
        ?.on('data', () => {})
        .on('end', () => seen.push('stdout end'))
        .on('close', () => seen.push('stdout close'));
    }
    await closed;
    return seen.map((line) => line.replace('undefined undefined', '').trim());
  }

  it.each([
    ['output read', 'echo x; exit 3', true],
    ['output unread', 'echo x', false],
    ['no output', 'exit 0', false],
    ['a lot of output unread', 'head -c 50000 /dev/zero', false],
    ['a signal', 'kill -9 $$', true],
    ['a grandchild holds the output', 'sleep 0.3 & exit 4', true],
    ['output closed early', 'exec >&- 2>&-; sleep 0.1', true],
  ])('come as those of child_process: %s', async (_, script, read) => {
    const theirs = await events(nodeSpawn('sh', ['-c', script]), read);
    const ours = await events(await spawn('sh', ['-c', script]), read);
    // Whether a stream ends before or after the exit is the kernel's and the loop's luck.
    const rest = (lines: string[]) => lines.filter((line) => !line.startsWith('stdout'));
    expect(rest(ours)).toEqual(rest(theirs));
    expect(ours.slice().sort()).toEqual(theirs.slice().sort());
  });

  it('come as those of child_process: abort', async () => {
    const [a, b] = [new AbortController(), new AbortController()];
    const theirs = nodeSpawn('sleep', ['60'], { signal: a.signal });
    const ours = await spawn('sleep', ['60'], { signal: b.signal });
    const both = Promise.all([events(theirs, false), events(ours, false)]);
    await sleep(50);
    for (const controller of [a, b]) controller.abort();
    const [node, iso] = await both;
    expect(iso).toEqual(node);
    expect(iso).toContain('error AbortError ABORT_ERR');
  });

  it('kill: false and no error once it ended, killed only where a signal went out', async () => {
    const child = await spawn('sleep', ['60'], { stdio: 'ignore' });
    expect([child.kill(0), child.killed]).toEqual([true, false]);
    expect(() => child.kill('SIGNOTHING' as never)).toThrow(TypeError);
    expect([child.kill('SIGKILL'), child.killed]).toEqual([true, true]);
    await child.exited;
    expect([child.kill(), child.kill(0), child.signalCode]).toEqual([false, false, 'SIGKILL']);
    const other = await spawn('true', [], { stdio: 'ignore' });
    await other.exited;
    expect([other.kill(), other.killed]).toEqual([false, false]);
  });

  it('an input that the child has closed is an error of that stream', async () => {
    const child = await spawn('sh', ['-c', 'exec <&-; exec sleep 60'], { stdio: ['pipe', 'ignore', 'ignore'] });
    await sleep(50);
    const failed = once(child.stdin as never, 'error');
    const write = setInterval(() => child.stdin?.write('x'), 10);
    expect((await failed)[0]).toMatchObject({ code: 'EPIPE' });
    clearInterval(write);
    child.kill();
    await child.exited;
  });

  it('refuses times and signals that there are not, before anything starts', async () => {
    for (const options of [
      { timeout: -1 },
      { timeout: 2 ** 31 },
      { timeout: Number.NaN },
      { killSignal: 'SIGNO' as never },
    ])
      await expect(spawn('true', [], options)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });
});
