import { AsyncLocalStorage } from 'node:async_hooks';
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { fromSources, importSource } from '../../../test/typescript.js';
import {
  Fd,
  FdWatcher,
  KernelError,
  LaunchProgram,
  launch,
  type Readiness,
  reap,
  StringArray,
  syscall,
  watchFd,
} from './index.js';
import { cgroup2, worker } from './launcher/fixture.js';

const python = spawnSync('python3', ['-c', '']).status === 0;
const NONBLOCK = 0o4000;
const CLOEXEC = 0o2000000;

function pipe(): [reader: Fd, writer: Fd] {
  const ends = Buffer.alloc(8);
  syscall('pipe2', ends, NONBLOCK | CLOEXEC);
  return [Fd.own(ends.readInt32LE(0)), Fd.own(ends.readInt32LE(4))];
}

/** How often a watcher calls back within a time. */
async function calls(fd: Fd, event: Readiness, action: () => unknown, ms = 60): Promise<number> {
  let count = 0;
  const watcher = new FdWatcher(fd, event, () => count++);
  await action();
  await sleep(ms);
  watcher.close();
  const told = count;
  await sleep(20);
  expect(count, 'after close').toBe(told);
  return count;
}

/** How /proc/self/fdinfo shows a descriptor that an epoll watches. */
const watched = (fd: Fd) => new RegExp(`^tfd:\\s+${fd.number} `, 'm');

/** A script in a process of its own. */
function evaluate(script: string): { stdout: string; stderr: string; status: number | null } {
  return spawnSync(process.execPath, [...fromSources, '--input-type=module', '-e', script], { encoding: 'utf8' });
}

describe('FdWatcher', () => {
  it.each([
    ['EPERM', () => Fd.open('/etc/passwd')],
    ['EPERM', () => Fd.open(tmpdir(), { directory: true })],
  ])('says %s of what cannot be polled', (code, open) => {
    using fd = open();
    expect(() => new FdWatcher(fd, 'readable', () => {})).toThrow(expect.objectContaining({ code }));
  });

  it('says EBADF of a number that is not open', () => {
    expect(() => new FdWatcher(987_654, 'readable', () => {})).toThrow(expect.objectContaining({ code: 'EBADF' }));
  });

  it.each([
    ['readible', () => {}],
    ['readable', undefined],
  ])('says that it cannot wait so: %s, %s', (event, callback) => {
    const [reader, writer] = pipe();
    const make = () => new FdWatcher(reader, event as Readiness, callback as () => void);
    expect(make).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    reader.close();
    writer.close();
  });

  it('of a number that was closed, and is another file’s by now, takes nothing from that one’s', async () => {
    const [reader, writer] = pipe();
    const kept = Fd.own(syscall('fcntl', reader, 1030, 0));
    const { number } = reader;
    const first = new FdWatcher(reader, 'readable', () => {});
    // The file is open still, by the other descriptor, and so the kernel goes on to watch it.
    reader.close();
    const again = Fd.own(syscall('eventfd2', 1, CLOEXEC));
    expect(again.number).toBe(number);
    let told = 0;
    const second = new FdWatcher(again, 'readable', () => told++);
    first.close();
    await sleep(30);
    expect(told).toBeGreaterThan(1);
    second.close();
    const before = process.cpuUsage();
    syscall('write', writer, 'x', 1);
    await sleep(200);
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000, 'milliseconds of work in 200').toBeLessThan(100);
    await watchFd(kept);
    for (const fd of [kept, writer, again]) fd.close();
  });

  it('is one of several on a descriptor', async () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const fd = Fd.own(syscall('eventfd2', 1, 0));
      let calls = 0;
      const done = () => { if (++calls === 2) { a.close(); b.close(); fd.close(); console.log('both'); } };
      let one, two;
      const a = new FdWatcher(fd, 'readable', () => { if (!one) { one = true; done(); } });
      const b = new FdWatcher(fd, 'readable', () => { if (!two) { two = true; done(); } });`;
    expect(evaluate(script)).toMatchObject({ stdout: 'both\n', status: 0 });
  });

  it('tells the others of what happened although one of them threw', () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const seen = [];
      process.on('uncaughtException', (error) => seen.push(error.message));
      for (const name of ['a', 'b', 'c']) {
        const fd = Fd.own(syscall('eventfd2', 1, 0));
        const watcher = new FdWatcher(fd, 'readable', () => { watcher.close(); throw new Error(name); });
      }
      process.on('exit', () => console.log(seen.sort().join()));`;
    expect(evaluate(script)).toMatchObject({ stdout: 'a,b,c\n', status: 0 });
  });

  it('lets an exception of its callback through', () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const fd = Fd.own(syscall('eventfd2', 1, 0));
      const watcher = new FdWatcher(fd, 'readable', () => { watcher.close(); throw new Error('seen'); });
      process.on('uncaughtException', (error) => { console.log(error.message); process.exit(3); });`;
    expect(evaluate(script)).toMatchObject({ stdout: 'seen\n', status: 3 });
  });

  it('says nothing any more when Node has ended, whatever is to be read then', () => {
    const script = `
      import { Fd, FdWatcher, syscall } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
      const fd = Fd.own(syscall('eventfd2', 1, 0));
      let ended = false;
      process.on('exit', () => (ended = true));
      new FdWatcher(fd, 'readable', () => { if (ended) console.log('late'); }).unref();`;
    expect(evaluate(script)).toMatchObject({ stdout: '', stderr: '', status: 0 });
    expect(evaluate(`${script} process.exit(4);`)).toMatchObject({ stdout: '', stderr: '', status: 4 });
  });

  it('tells that something can be read, again and again, and only then', async () => {
    const [reader, writer] = pipe();
    expect(await calls(reader, 'readable', () => {})).toBe(0);
    expect(await calls(reader, 'readable', () => syscall('write', writer, 'x', 1))).toBeGreaterThan(1);
    expect(readSync(reader.number, Buffer.alloc(9))).toBe(1);
    expect(await calls(reader, 'readable', () => {})).toBe(0);
    writer.close();
    expect(await calls(reader, 'readable', () => {})).toBeGreaterThan(0);
    reader.close();
  });

  it('tells that something can be written, and only then', async () => {
    const [reader, writer] = pipe();
    expect(await calls(writer, 'writable', () => {})).toBeGreaterThan(0);
    const much = Buffer.alloc(65536);
    syscall('write', writer, much, much.length);
    expect(await calls(writer, 'writable', () => {})).toBe(0);
    expect(await calls(writer, 'writable', () => readSync(reader.number, much))).toBeGreaterThan(0);
    reader.close();
    writer.close();
  });

  it('tells of an end of a child by its pidfd', async () => {
    const child = spawn('sleep', ['0.1']);
    const code = new Promise((resolve) => child.on('exit', resolve));
    const pidfd = Fd.own(syscall('pidfd_open', child.pid as number, 0));
    const start = performance.now();
    await watchFd(pidfd);
    expect(performance.now() - start).toBeGreaterThan(20);
    pidfd.close();
    expect(await code).toBe(0);
  });

  it.each(['readable', 'priority'] as const)('calls back in the context of who made it (%s)', async (event) => {
    const storage = new AsyncLocalStorage<string>();
    const seen: (string | undefined)[] = [];
    const [reader, writer] = pipe();
    const watchers = ['a', 'b'].map((name) =>
      storage.run(name, () => {
        // A pipe has no urgent data; that nobody can write to it any more, each is told.
        const watcher = new FdWatcher(reader, event, () => {
          watcher.close();
          seen.push(storage.getStore());
        });
        return watcher;
      }),
    );
    writer.close();
    await expect.poll(() => seen.toSorted()).toEqual(['a', 'b']);
    for (const watcher of watchers) watcher.close();
    reader.close();
  });

  it('lets promises go on at once, whatever else the loop waits for', async () => {
    const busy = setTimeout(() => {}, 60_000);
    const counter = Fd.own(syscall('eventfd2', 1, NONBLOCK | CLOEXEC));
    const start = performance.now();
    for (let i = 0; i < 20; i++) await watchFd(counter);
    expect(performance.now() - start).toBeLessThan(5_000);
    counter.close();
    clearTimeout(busy);
  });

  it('may be closed in its callback, and twice', async () => {
    const [reader, writer] = pipe();
    let count = 0;
    const watcher = new FdWatcher(reader, 'readable', () => {
      count++;
      watcher.close();
      watcher.close();
    });
    syscall('write', writer, 'x', 1);
    await sleep(50);
    expect(count).toBe(1);
    // The same descriptor can be watched again.
    await watchFd(reader);
    reader.close();
    writer.close();
  });

  it('leaves nothing in libuv’s epoll', async () => {
    const [reader, writer] = pipe();
    const lists = () => {
      let text = '';
      for (let fd = 0; fd < 64; fd++)
        if (existsSync(`/proc/self/fdinfo/${fd}`)) text += readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
      return text;
    };
    const watcher = new FdWatcher(reader, 'readable', () => {});
    await sleep(5);
    expect(lists()).toMatch(watched(reader));
    watcher.close();
    await sleep(5);
    expect(lists()).not.toMatch(watched(reader));
    reader.close();
    writer.close();
  });

  it('watches 200 descriptors at once', async () => {
    const pipes = Array.from({ length: 200 }, pipe);
    const ready = pipes.map(([reader]) => watchFd(reader));
    for (const [, writer] of pipes) syscall('write', writer, 'x', 1);
    expect((await Promise.all(ready)).length).toBe(200);
    for (const [reader, writer] of pipes) {
      reader.close();
      writer.close();
    }
  });

  it('refuses to watch what cannot be polled', () => {
    const file = Fd.open('/etc/passwd');
    expect(() => new FdWatcher(file, 'priority', () => {})).toThrow(KernelError);
    expect(() => new FdWatcher(file, 'priority', () => {})).toThrow(/EPERM/);
    file.close();
    expect(() => new FdWatcher(0x7fffff, 'priority', () => {})).toThrow(/EBADF/);
  });

  it('lets the process end after unref, and holds it before', () => {
    const run = (more: string) =>
      spawnSync(
        process.execPath,
        [
          ...fromSources,
          '--input-type=module',
          '-e',
          `import { Fd, FdWatcher, syscall } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
          const watcher = new FdWatcher(syscall('eventfd2', 0, 0), 'readable', () => {});
          ${more}; console.log('loaded');`,
        ],
        { encoding: 'utf8', timeout: process.env.ISO_SLOW ? 30_000 : 3000 },
      );
    expect(run('watcher.unref()')).toMatchObject({ status: 0, stdout: 'loaded\n' });
    expect(run('watcher.unref().close()')).toMatchObject({ status: 0, stdout: 'loaded\n' });
    expect(run('watcher.unref().ref()')).toMatchObject({ status: null, signal: 'SIGTERM', stdout: 'loaded\n' });
  });

  it('works in a worker thread, and beside one', async () => {
    const script = `
      const { workerData, parentPort } = require('node:worker_threads');
      const watcher = new sys.FdWatcher(workerData, 'readable', () => {
        watcher.close();
        parentPort.postMessage('readable');
      });
      parentPort.postMessage('waiting');`;
    const [reader, writer] = pipe();
    const [other, otherWriter] = pipe();
    const thread = worker(script, reader.number);
    const messages: unknown[] = [];
    thread.on('message', (message) => messages.push(message));
    const failed = new Promise<never>((_, reject) => thread.once('error', reject));
    const seen = async (message: string) => {
      while (!messages.includes(message)) await Promise.race([sleep(5), failed]);
    };
    await seen('waiting');
    const here = watchFd(other);
    await sleep(50);
    expect(messages).toEqual(['waiting']);
    syscall('write', writer, 'x', 1);
    await seen('readable');
    syscall('write', otherWriter, 'x', 1);
    await here;
    await thread.terminate();
    for (const fd of [reader, writer, other, otherWriter]) fd.close();
  });

  describe('in a worker thread', () => {
    const descriptors = () =>
      readdirSync('/proc/self/fd').filter((fd) => {
        const path = `/proc/self/fd/${fd}`;
        return existsSync(`/proc/self/fdinfo/${fd}`) && /socket|eventpoll/.test(readlinkSync(path));
      }).length;
    const threads = () => readdirSync('/proc/self/task').length;

    it('that is terminated leaves nothing, whatever it was doing', { timeout: 60_000 }, async () => {
      const [quiet, writer] = pipe();
      const ready = Fd.own(syscall('eventfd2', 1, NONBLOCK | CLOEXEC));
      const script = `
        const { workerData, parentPort } = require('node:worker_threads');
        let calls = 0;
        new sys.FdWatcher(workerData.quiet, 'readable', () => {});
        new sys.FdWatcher(workerData.ready, 'readable', () => {
          if (++calls === workerData.after) parentPort.postMessage('now');
        });`;
      const seen: (number | undefined)[][] = [];
      for (let after = 1; after <= 8; after++) {
        const thread = worker(script, { quiet: quiet.number, ready: ready.number, after });
        await new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
        await thread.terminate();
        // The small thread goes a moment later.
        const before = seen[0];
        for (let i = 0; i < 200 && before && (descriptors() !== before[0] || threads() > (before[1] ?? 0)); i++)
          await sleep(10);
        await sleep(before ? 0 : 200);
        seen.push([descriptors(), threads()]);
      }
      expect(seen.map(([open]) => open)).toEqual(Array(8).fill(seen[0]?.[0]));
      expect(seen.at(-1)?.[1]).toBeLessThanOrEqual(seen[0]?.[1] ?? 0);
      for (const fd of [quiet, writer, ready]) fd.close();
    });

    it('that is terminated while it launches does no harm to the process', () => {
      const script = `
        import { Worker } from 'node:worker_threads';
        import { errand, launch, LaunchProgram, reap, StringArray, syscall } from ${JSON.stringify(join(import.meta.dirname, 'index.ts'))};
        const worker = \`${importSource(new URL('index.ts', import.meta.url))}.then(async (sys) => {
            // koffi itself ends the process when a worker is terminated while that loads it.
            sys.syscall('getpid');
            require('node:worker_threads').parentPort.postMessage('ready');
            for (;;) {
              const program = new sys.LaunchProgram();
              program.step('credentials', 'setfsgid', [0]);
              program.step('exec', 'execve', ['/bin/true', new sys.StringArray(['true']), new sys.StringArray([])]);
              const { pidfd } = await sys.launchAsync(program);
              await sys.watchFd(pidfd);
              sys.reap(pidfd);
              pidfd.close();
            }
          });\`;
        for (let i = 0; i < 6; i++) {
          const thread = new Worker(worker, { eval: true, execArgv: ['--conditions=iso-source'] });
          await new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
          await new Promise((resolve) => setTimeout(resolve, 3 * i));
          await thread.terminate();
        }
        const program = new LaunchProgram();
        program.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', 'exit 7']), new StringArray([])]);
        console.log(reap(launch(program).pidfd, { block: true }).code, syscall('prctl', 3, 0, 0, 0, 0));
        process.exit(0);`;
      expect(evaluate(script)).toMatchObject({ stdout: '7 1\n', status: 0 });
    });
  });

  describe('priority', () => {
    it.skipIf(!python)('tells of urgent data of a socket, not of other data [needs python3]', async () => {
      // Node can neither send urgent data nor hold a socket whose descriptor others may watch.
      const sender = spawn('python3', [
        '-c',
        `import socket, sys
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c = s.accept()[0]
for line in sys.stdin:
    c.send(b"x", socket.MSG_OOB if line.strip() == "urgent" else 0)
    print("sent", flush=True)`,
      ]);
      const said = () => new Promise<string>((resolve) => sender.stdout.once('data', (data) => resolve(String(data))));
      const port = Number(await said());
      const socket = Fd.own(syscall('socket', 2, 1 | NONBLOCK | CLOEXEC, 0));
      const address = Buffer.from([2, 0, port >> 8, port & 255, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
      try {
        try {
          syscall('connect', socket, address, 16);
        } catch (error) {
          if (!KernelError.is(error, 'EINPROGRESS')) throw error;
        }
        await watchFd(socket, { for: 'writable' });
        const send = (what: string) => {
          const sent = said();
          sender.stdin.write(`${what}\n`);
          return sent;
        };
        expect(await calls(socket, 'priority', () => send('plain'))).toBe(0);
        expect(await calls(socket, 'priority', () => send('urgent'))).toBeGreaterThan(1);
        expect(syscall('recvfrom', socket, Buffer.alloc(1), 1, 1, null, null)).toBe(1);
        expect(await calls(socket, 'priority', () => {})).toBe(0);
      } finally {
        socket.close();
        sender.stdin.end();
        await new Promise((resolve) => sender.on('exit', resolve));
      }
    });

    it.skipIf(!cgroup2)('tells of each change of cgroup.events [needs root and cgroup v2]', async () => {
      const path = join(cgroup2 as string, `isotest-${process.pid}`);
      mkdirSync(path);
      const events = Fd.open(join(path, 'cgroup.events'));
      const child = spawn('sleep', ['60']);
      const exited = new Promise((resolve) => child.on('exit', resolve));
      const read = () => {
        const bytes = Buffer.alloc(99);
        return bytes.toString('utf8', 0, syscall('pread64', events, bytes, 99, 0));
      };
      try {
        expect(read()).toContain('populated 0');
        const seen: string[] = [];
        const watcher = new FdWatcher(events, 'priority', () => seen.push(read()));
        await sleep(30);
        expect(seen).toEqual([]);
        writeFileSync(join(path, 'cgroup.procs'), String(child.pid));
        await sleep(50);
        child.kill('SIGKILL');
        await exited;
        await sleep(50);
        watcher.close();
        expect(seen.map((text) => /populated (\d)/.exec(text)?.[1])).toEqual(['1', '0']);
      } finally {
        child.kill('SIGKILL');
        await exited;
        events.close();
        rmdirSync(path);
      }
    });

    it('closes the epoll of its own', async () => {
      const [reader, writer] = pipe();
      await watchFd(writer, { for: 'writable' });
      const descriptors = () => readdirSync('/proc/self/fd').length;
      const before = descriptors();
      const watchers = [new FdWatcher(reader, 'readable', () => {}), new FdWatcher(writer, 'writable', () => {})];
      expect(descriptors()).toBe(before);
      watchers.push(new FdWatcher(reader, 'priority', () => {}));
      expect(descriptors()).toBe(before + 1);
      for (const watcher of watchers) watcher.close();
      expect(descriptors()).toBe(before);
      reader.close();
      writer.close();
    });
  });
});

describe('watchFd', () => {
  it('gives up for its signal', async () => {
    const [reader, writer] = pipe();
    await expect(watchFd(reader, { signal: AbortSignal.abort(new Error('never')) })).rejects.toThrow('never');
    const stop = new AbortController();
    const waiting = watchFd(reader, { signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    syscall('write', writer, 'x', 1);
    await watchFd(reader, { signal: new AbortController().signal });
    reader.close();
    writer.close();
  });
});

describe('reap', () => {
  it('looks once, or waits; says how it ended; and only once', () => {
    const program = new LaunchProgram();
    program.step('exec', 'execve', [
      '/bin/sh',
      new StringArray(['sh', '-c', 'sleep 0.05; kill -9 $$']),
      new StringArray([]),
    ]);
    const { pidfd } = launch(program);
    expect(reap(pidfd)).toBeUndefined();
    const status = reap(pidfd, { block: true });
    expect(status).toMatchObject({ code: null, signal: 9, coreDumped: false });
    expect(status?.usage.maxRssBytes).toBeGreaterThan(100_000);
    // It waited for its sleep.
    expect(status?.usage.voluntarySwitches).toBeGreaterThan(0);
    expect(status?.usage.minorFaults).toBeGreaterThan(10);
    expect(() => reap(pidfd)).toThrow(/ECHILD/);
    pidfd.close();
  });
});
