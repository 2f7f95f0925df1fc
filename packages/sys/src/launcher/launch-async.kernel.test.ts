import { spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { AT, errandAsync, F, Fd, LaunchProgram, launchAsync, O, syscall } from '../index.js';
import { cgroup2, children, finished, memory, programOf, scratchFolder } from './fixture.js';

const folder = scratchFolder();

describe('launchAsync', () => {
  async function standing(start: (signal: AbortSignal) => Promise<{ pid: number; pidfd: Fd }>) {
    const stop = new AbortController();
    let ticks = 0;
    const ticker = setInterval(() => ticks++, 5);
    const known = children();
    const settled = start(stop.signal).then(
      (launched) => launched,
      (error: unknown) => error,
    );
    await sleep(150);
    clearInterval(ticker);
    // The one who waits in the clone was there before.
    const pid = children()
      .filter((child) => !known.includes(child))
      .sort((a, b) => Number(a) - Number(b))
      .at(-1);
    return { stop, settled, ticks, pid };
  }

  const fifo = () => {
    const path = join(folder, `fifo${Math.random()}`);
    expect(spawnSync('mkfifo', [path]).status).toBe(0);
    return path;
  };
  const reading = (path: string) =>
    programOf((program) => program.step('host', 'openat', [AT.FDCWD, path, O.CLOEXEC, 0]));

  it('lets the event loop turn while the child stands still, and goes on with it', async () => {
    const path = fifo();
    const { settled, ticks, pid } = await standing((signal) => launchAsync(reading(path), { signal }));
    expect(ticks).toBeGreaterThan(5);
    expect(readFileSync(`/proc/${pid}/comm`, 'utf8')).toBe(readFileSync('/proc/self/comm', 'utf8'));
    closeSync(openSync(path, 'w'));
    const launched = (await settled) as { pid: number; pidfd: Fd };
    expect(launched.pid).toBe(Number(pid));
    expect(finished(launched).code).toBe(0);
  });

  it('kills a child that stands still when it is aborted', async () => {
    const path = fifo();
    const before = memory();
    const { settled, stop, pid } = await standing((signal) => launchAsync(reading(path), { signal }));
    expect(existsSync(`/proc/${pid}`)).toBe(true);
    stop.abort(new Error('enough'));
    expect(await settled).toMatchObject({ message: 'enough' });
    expect(existsSync(`/proc/${pid}`)).toBe(false);
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  });

  it('starts nothing for a signal that is aborted already', async () => {
    const path = join(folder, 'not-made');
    const program = programOf((it) => it.step('host', 'mkdirat', [AT.FDCWD, path, 0o700]));
    const told: string[] = [];
    program.undo(() => told.push('undo'));
    program.defer(() => told.push('defer'));
    await expect(launchAsync(program, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    expect(existsSync(path)).toBe(false);
    expect(told).toEqual(['undo', 'defer']);
  });

  it('keeps nothing open in the child but what this launch needs, however often a program is launched', async () => {
    const out = Fd.own(syscall('memfd_create', 'out', 1));
    const program = programOf(
      (it) => {
        it.step('fds', 'dup3', [out, 1, 0]);
        it.closeFrom(3);
      },
      ['/bin/ls', '/proc/self/fd'],
    );
    // Where the pipe of the first launch was, another descriptor is at the second.
    finished(await launchAsync(program));
    const strangers = Array.from({ length: 4 }, () => syscall('fcntl', 2, F.DUPFD, 512));
    finished(await launchAsync(program));
    for (const fd of strangers) closeSync(fd);
    const listed = readFileSync(`/proc/self/fd/${out.number}`, 'utf8').trim().split('\n');
    out.close();
    expect(listed.filter((number) => number === '1').length).toBe(2);
    expect(listed.filter((number) => Number(number) > 4)).toEqual([]);
  });

  it('has read its table before it says so, also where the child has six hundred descriptors', async () => {
    const program = programOf((it) => {
      for (let i = 3; i < 600; i++) it.step('fds', 'dup3', [2, i, 0]);
      it.closeFrom(600);
      it.step('cwd', 'ppoll', [null, 0, Buffer.from(new BigInt64Array([0n, 100_000_000n]).buffer), null, 0]);
    });
    const started = performance.now();
    const launched = await launchAsync(program);
    expect(performance.now() - started).toBeGreaterThan(90);
    expect(finished(launched).code).toBe(0);
  });

  it('rejects with the step that failed, and with the signal that killed the child', async () => {
    const failing = programOf((program) => program.step('cwd', 'chdir', ['/no/such']));
    await expect(launchAsync(failing)).rejects.toMatchObject({ code: 'ENOENT', step: { index: 1, of: 2 } });
    const path = fifo();
    const { settled, pid } = await standing((signal) => launchAsync(reading(path), { signal }));
    process.kill(Number(pid), 'SIGKILL');
    expect(await settled).toMatchObject({ name: 'KernelError', syscall: 'openat', info: { signal: 9 } });
    expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  it('runs forty of them at once', async () => {
    const paths = Array.from({ length: 40 }, fifo);
    const started = paths.map((path) => launchAsync(reading(path)));
    await sleep(50);
    for (const path of paths.reverse()) closeSync(openSync(path, 'w'));
    const codes = (await Promise.all(started)).map((launched) => finished(launched).code);
    expect(codes).toEqual(Array(40).fill(0));
  });

  describe.skipIf(!cgroup2)('in a frozen cgroup [needs root and cgroup v2]', () => {
    async function frozen(action: (path: string, start: (signal: AbortSignal) => Promise<never>) => Promise<void>) {
      const path = join(cgroup2 as string, `isotest-${process.pid}`);
      mkdirSync(path);
      writeFileSync(join(path, 'cgroup.freeze'), '1');
      const directory = Fd.open(path, { directory: true });
      const start = (signal: AbortSignal) =>
        launchAsync(
          programOf((program) => program.cgroup(directory)),
          { signal },
        ) as Promise<never>;
      try {
        await action(path, start);
      } finally {
        directory.close();
        rmdirSync(path);
      }
    }

    it('starts once it is thawed', () =>
      frozen(async (path, start) => {
        const { settled, ticks, pid } = await standing(start);
        expect(ticks).toBeGreaterThan(5);
        expect(readFileSync(join(path, 'cgroup.procs'), 'utf8').trim()).toBe(pid);
        writeFileSync(join(path, 'cgroup.freeze'), '0');
        expect(finished((await settled) as { pidfd: Fd }).code).toBe(0);
      }));

    it('is killed by its signal', () =>
      frozen(async (_, start) => {
        const { settled, stop, pid } = await standing(start);
        stop.abort(new Error('enough'));
        expect(await settled).toMatchObject({ message: 'enough' });
        expect(existsSync(`/proc/${pid}`)).toBe(false);
      }));
  });
});

describe('errandAsync', () => {
  it('lets the event loop turn while the child stands still; what it opened is open here', async () => {
    const path = join(folder, 'errand');
    expect(spawnSync('mkfifo', [path]).status).toBe(0);
    const program = new LaunchProgram('errand');
    const opened = program.step('host', 'openat', [AT.FDCWD, path, O.CLOEXEC, 0]);
    const before = memory();
    let done = false;
    const errand = errandAsync(program).then(() => {
      done = true;
    });
    let ticks = 0;
    const ticker = setInterval(() => ticks++, 5);
    await sleep(100);
    clearInterval(ticker);
    expect([done, ticks > 5]).toEqual([false, true]);
    closeSync(openSync(path, 'w'));
    await errand;
    const fd = Fd.own(opened.value as number);
    expect(readlinkSync(`/proc/self/fd/${fd.number}`)).toBe(path);
    fd.close();
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  });

  it('leaves nothing open of one that failed, and runs forty at once', async () => {
    const before = memory();
    const one = async (i: number) => {
      const program = new LaunchProgram('errand');
      const opened = program.step('host', 'openat', [AT.FDCWD, '/etc', O.CLOEXEC, 0]);
      if (i % 2) program.step('host', 'chdir', ['/no/such']);
      try {
        await errandAsync(program);
        closeSync(opened.value as number);
        return 'done';
      } catch (error) {
        return (error as NodeJS.ErrnoException).code;
      }
    };
    const all = await Promise.all(Array.from({ length: 40 }, (_, i) => one(i)));
    expect(all).toEqual(Array.from({ length: 40 }, (_, i) => (i % 2 ? 'ENOENT' : 'done')));
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  });
});
