import { execFileSync, spawn as nodeSpawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AT,
  attempt,
  CLONE,
  type ExitStatus,
  errand,
  F,
  Fd,
  KernelError,
  LaunchProgram,
  launch,
  launchAsync,
  O,
  PR,
  park,
  reap,
  StringArray,
  syscall,
} from '../index.js';
import * as arm64 from './arm64.js';
import * as x64 from './x64.js';

const root = process.getuid?.() === 0;
const userns = spawnSync('unshare', ['-U', 'true']).status === 0;
const cgroup2 = root
  ? /^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 .*? rw/m.exec(readFileSync('/proc/self/mountinfo', 'utf8'))?.[1]
  : undefined;
const allNamespaces =
  CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWTIME;

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-sys-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

type Build = (program: LaunchProgram) => void;

function programOf(build: Build = () => {}, argv = ['/bin/true']): LaunchProgram {
  const program = new LaunchProgram();
  build(program);
  program.step('exec', 'execve', [argv[0] as string, new StringArray(argv), new StringArray([])]);
  return program;
}

function errandOf(build: Build): LaunchProgram {
  const program = new LaunchProgram('errand');
  build(program);
  return program;
}

function finished({ pidfd }: { pidfd: Fd }): ExitStatus {
  const status = reap(pidfd, { block: true });
  pidfd.close();
  return status as ExitStatus;
}

/** What a launched program writes. */
function textOf(argv: string[], build: Build = () => {}): string {
  const out = Fd.own(syscall('memfd_create', 'out', 1));
  try {
    const program = programOf((it) => {
      build(it);
      it.step('fds', 'dup3', [out, 1, 0]);
    }, argv);
    expect(finished(launch(program)).code).toBe(0);
    return readFileSync(`/proc/self/fd/${out.number}`, 'utf8');
  } finally {
    out.close();
  }
}

function thrownBy(action: () => unknown): KernelError {
  try {
    action();
  } catch (error) {
    if (KernelError.is(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const children = () =>
  readdirSync('/proc/self/task')
    .flatMap((task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').split(' '))
    .filter((pid) => pid !== '');

const field = (status: string, name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1];

/** Everything of this process that a launch might change by mistake. */
function self(): Record<string, unknown> & { namespaces: string[] } {
  const status = readFileSync('/proc/self/status', 'utf8');
  const names = 'Umask Uid Gid Groups SigBlk SigIgn SigCgt CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp';
  return {
    ...Object.fromEntries(names.split(' ').map((name) => [name, field(status, name)])),
    dumpable: syscall('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0),
    cwd: readlinkSync('/proc/self/cwd'),
    root: readlinkSync('/proc/self/root'),
    limits: readFileSync('/proc/self/limits', 'utf8'),
    session: readFileSync('/proc/self/stat', 'utf8').split(') ')[1]?.split(' ').slice(1, 6),
    namespaces: [
      ...new Set(
        readdirSync('/proc/self/task').flatMap((task) =>
          readdirSync(`/proc/self/task/${task}/ns`).map(
            (name) => `${name} ${readlinkSync(`/proc/self/task/${task}/ns/${name}`)}`,
          ),
        ),
      ),
    ].sort(),
  };
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function memory() {
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  return {
    lines: maps.length,
    shared: maps.filter((line) => line.includes('/dev/zero')).length,
    kilobytes: Number.parseInt(field(readFileSync('/proc/self/status', 'utf8'), 'VmSize') ?? '', 10),
    descriptors: readdirSync('/proc/self/fd').length,
    children: children().length,
  };
}

describe('what is left behind', () => {
  /** Fails where each of a thousand rounds leaves so much as one page, one mapping, one descriptor or one child. */
  function leavesNothing(round: (i: number) => void) {
    const thousand = () => {
      const before = memory();
      for (let i = 0; i < 1000; i++) round(i);
      collectGarbage();
      const after = memory();
      expect(after).toMatchObject({
        shared: before.shared,
        descriptors: before.descriptors,
        children: before.children,
      });
      return { lines: after.lines - before.lines, kilobytes: after.kilobytes - before.kilobytes };
    };
    round(0);
    let grown = thousand();
    // V8's heap grows once or twice, by more than that; a leak grows every time.
    for (let i = 0; i < 4 && grown.kilobytes >= 4000; i++) grown = thousand();
    expect(grown.kilobytes).toBeLessThan(4000);
    expect(grown.lines).toBeLessThan(100);
  }

  const steps: Build[] = [
    (program) => program.step('host', 'openat', [AT.FDCWD, '/etc', O.CLOEXEC, 0]),
    (program) => program.step('host', 'memfd_create', ['x', 1]),
    (program) => program.step('limits', 'umask', [0o77]),
    (program) => program.step('cwd', 'chdir', ['/']),
  ];
  const broken: Build = (program) => program.step('cwd', 'chdir', ['/no/such']);

  it('is nothing after 1000 processes', () => {
    leavesNothing(() => expect(finished(launch(programOf())).code).toBe(0));
  });

  it('is nothing after 1000 errands', () => {
    leavesNothing(() => {
      const program = new LaunchProgram('errand');
      const slot = program.step('host', 'openat', [AT.FDCWD, '/etc', O.CLOEXEC, 0]);
      errand(program);
      closeSync(slot.value as number);
    });
  });

  it.each([
    ['processes', (build: Build) => launch(programOf(build))],
    ['errands', (build: Build) => errand(errandOf(build))],
  ])('is nothing after 1000 %s that fail at each step in turn', (_, start) => {
    leavesNothing((i) => {
      const at = i % (steps.length + 1);
      const error = thrownBy(() =>
        start((program) => {
          for (const step of steps.slice(0, at)) step(program);
          broken(program);
        }),
      );
      expect(error).toMatchObject({ code: 'ENOENT', syscall: 'chdir', path: '/no/such', step: { index: at + 1 } });
    });
  });

  it('is nothing after 200 launches that do not wait', async () => {
    const round = async () => expect(finished(await launchAsync(programOf())).code).toBe(0);
    for (let i = 0; i < 20; i++) await round();
    const before = memory();
    for (let i = 0; i < 200; i++) await round();
    expect(memory()).toMatchObject({
      shared: before.shared,
      descriptors: before.descriptors,
      children: before.children,
    });
  });

  it('is nothing when a program or its interpreter is not there', () => {
    const script = join(folder, 'script');
    writeFileSync(script, '#!/no/such/interpreter\n', { mode: 0o755 });
    const before = memory();
    for (const path of ['/no/such', script, '/etc/passwd', folder]) {
      expect(thrownBy(() => launch(programOf(undefined, [path])))).toMatchObject({ syscall: 'execve', path });
    }
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  });

  it('is told by undo, started and defer in their order', () => {
    const told: string[] = [];
    const listen: Build = (program) => {
      program.undo(() => told.push('undo 1'));
      program.undo(() => told.push('undo 2'));
      program.defer(() => told.push('defer'));
      program.started((pid) => told.push(`started ${existsSync(`/proc/${pid}`)}`));
    };
    finished(launch(programOf(listen)));
    thrownBy(() => launch(programOf(listen, ['/no/such'])));
    expect(told).toEqual(['started true', 'defer', 'undo 2', 'undo 1', 'defer']);
  });
});

describe('this process', () => {
  it('is as it was, whatever the child changes of itself', () => {
    const before = self();
    const change: Build = (program) => {
      program.step('host', 'setsid', []);
      program.step('host', 'personality', [0x0040000]);
      program.step('limits', 'prlimit64', [0, 7, Buffer.from(new BigUint64Array([50n, 60n]).buffer), null]);
      program.step('limits', 'umask', [0o77]);
      program.step('privileges', 'prctl', [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0]);
      program.step('cwd', 'chdir', ['/usr']);
      program.step('signals', 'rt_sigaction', [10, ignoring, null, 8]);
      program.step('signals', 'rt_sigprocmask', [2, Buffer.alloc(8, 1), null, 8]);
    };
    const [cwd, limit, ...rest] = textOf(['/bin/sh', '-c', 'pwd; ulimit -n; cat /proc/self/status'], change).split(
      '\n',
    );
    const status = rest.join('\n');
    expect([cwd, limit]).toEqual(['/usr', '50']);
    expect(field(status, 'Umask')).toBe('0077');
    expect(field(status, 'NoNewPrivs')).toBe('1');
    expect(field(status, 'SigIgn')).not.toBe(before.SigIgn);
    expect(self()).toEqual(before);
    errand(errandOf(change));
    expect(self()).toEqual(before);
    thrownBy(() => launch(programOf(change, ['/no/such'])));
    expect(self()).toEqual(before);
  });

  it.skipIf(!root)('keeps its ids and capabilities while the child changes its own [needs root]', () => {
    const before = self();
    const change: Build = (program) => {
      program.step('bounding', 'prctl', [PR.CAPBSET_DROP, 21, 0, 0, 0]);
      program.step('credentials', 'setgroups', [2, Buffer.from(new Uint32Array([7, 8]).buffer)]);
      program.step('credentials', 'setresgid', [2345, 2345, 2345]);
      program.step('credentials', 'setresuid', [1234, 1234, 1234]);
    };
    const status = textOf(['/bin/cat', '/proc/self/status'], change);
    expect(field(status, 'Uid')).toBe('1234\t1234\t1234\t1234');
    expect(field(status, 'Gid')).toBe('2345\t2345\t2345\t2345');
    expect(field(status, 'Groups')?.trim()).toBe('7 8');
    expect(field(status, 'CapEff')).toBe('0000000000000000');
    expect(self()).toEqual(before);
    errand(errandOf(change));
    expect(self()).toEqual(before);
    thrownBy(() => launch(programOf(change, ['/no/such'])));
    expect(self()).toEqual(before);
  });

  it.skipIf(!root)('stays in its namespaces while children are born into new ones [needs root]', () => {
    const before = self();
    const names = ['mnt', 'cgroup', 'uts', 'ipc', 'pid', 'net', 'time'];
    const links = names.map((name) => `/proc/self/ns/${name}`);
    const unshare: Build = (program) => program.unshare(allNamespaces);
    const inside = textOf(['/usr/bin/readlink', ...links], unshare)
      .trim()
      .split('\n');
    expect(inside.map((link) => link.split(':')[0])).toEqual(names);
    for (const link of inside) expect(before.namespaces.join('\n')).not.toContain(link);
    expect(self()).toEqual(before);
    errand(errandOf(unshare));
    thrownBy(() => launch(programOf(unshare, ['/no/such'])));
    expect(self()).toEqual(before);
  });

  it.skipIf(!root)('stays readable after a child has joined where others live [needs root]', () => {
    const other = park(CLONE.NEWUTS | CLONE.NEWPID | CLONE.NEWNET);
    const before = self();
    const held = ['uts', 'net', 'pid'].map((name) => Fd.open(`/proc/${other.pid}/ns/${name}`));
    try {
      const enter: Build = (program) => {
        for (const [i, type] of [CLONE.NEWUTS, CLONE.NEWNET, CLONE.NEWPID].entries()) program.join(held[i] as Fd, type);
      };
      const inside = textOf(
        ['/usr/bin/readlink', '/proc/self/ns/uts', '/proc/self/ns/net', '/proc/self/ns/pid'],
        enter,
      );
      expect(inside.trim().split('\n')).toEqual(
        ['uts', 'net', 'pid'].map((name) => readlinkSync(`/proc/${other.pid}/ns/${name}`)),
      );
      expect(self()).toEqual(before);
      thrownBy(() => launch(programOf(enter, ['/no/such'])));
      expect(self()).toEqual(before);
      errand(errandOf((program) => program.join(held[0] as Fd, CLONE.NEWUTS)));
      expect(self()).toEqual(before);
    } finally {
      for (const fd of held) fd.close();
      other.end();
    }
  });

  it('never has the launcher’s code writable and executable', () => {
    finished(launch(programOf()));
    const code = Buffer.from((process.arch === 'arm64' ? arm64 : x64).code, 'hex');
    const found: string[] = [];
    const mem = openSync('/proc/self/mem', 'r');
    for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
      const [, from, to, mode] = /^(\w+)-(\w+) (\S+) \S+ \S+ 0\s*$/.exec(line) ?? [];
      if (!from || !to || !mode?.includes('x')) continue;
      const page = Buffer.alloc(Number.parseInt(to, 16) - Number.parseInt(from, 16));
      readSync(mem, page, 0, page.length, Number.parseInt(from, 16));
      if (page.includes(code)) found.push(mode);
    }
    closeSync(mem);
    expect(found).toEqual(['r-xp']);
  });
});

const ignoring = Buffer.alloc(32);
ignoring[0] = 1;

describe('signals', () => {
  it('are neither ignored nor blocked in a child that resets them, although Node ignores SIGPIPE', () => {
    expect(Number.parseInt(field(readFileSync('/proc/self/status', 'utf8'), 'SigIgn') ?? '', 16) & (1 << 12)).not.toBe(
      0,
    );
    const status = textOf(['/bin/cat', '/proc/self/status'], (program) => {
      for (let signal = 1; signal <= 64; signal++)
        program.step('signals', 'rt_sigaction', [signal, Buffer.alloc(32), null, 8], { ignore: ['EINVAL'] });
      program.step('signals', 'rt_sigprocmask', [2, Buffer.alloc(8), null, 8]);
    });
    for (const name of ['SigBlk', 'SigIgn', 'SigCgt']) expect(field(status, name)).toBe('0000000000000000');
  });

  it('are blocked in the child, and have no handler of ours there', () => {
    const before = field(readFileSync('/proc/self/status', 'utf8'), 'SigBlk');
    const bytes = new LaunchProgram('errand');
    const fd = bytes.step('host', 'openat', [AT.FDCWD, '/proc/thread-self/status', O.CLOEXEC, 0]);
    const out = bytes.output(4096);
    bytes.step('host', 'read', [fd, out, 4096]);
    errand(bytes);
    closeSync(fd.value as number);
    const status = out.bytes.toString();
    expect(field(status, 'SigCgt')).toBe('0000000000000000');
    // All but SIGKILL and SIGSTOP.
    expect(field(status, 'SigBlk')).toBe('fffffffffffbfeff');
    expect(field(readFileSync('/proc/self/status', 'utf8'), 'SigBlk')).toBe(before);
  });

  it.each([
    ['process', (build: Build) => launch(programOf(build))],
    ['errand', (build: Build) => errand(errandOf(build))],
  ])('that kill it before its end (%s) are an error with the step', (_, start) => {
    const before = memory();
    const error = thrownBy(() =>
      start((program) => {
        const pid = program.step('host', 'getpid', []);
        program.step('host', 'kill', [pid, 9]);
        program.step('cwd', 'chdir', ['/']);
      }),
    );
    expect(error).toMatchObject({ syscall: 'kill', step: { index: 2, phase: 'host' }, info: { signal: 9 } });
    expect(error.hint).toMatch(/signal 9/);
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  });
});

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
    const [pid] = children().filter((child) => !known.includes(child));
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
    await expect(launchAsync(program, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
    expect(existsSync(path)).toBe(false);
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

describe('steps', () => {
  it('take results of earlier steps in every place', () => {
    const path = join(folder, 'source');
    writeFileSync(path, '0123456789');
    const program = new LaunchProgram('errand');
    const directory = program.step('host', 'openat', [AT.FDCWD, folder, O.DIRECTORY | O.CLOEXEC, 0]);
    const source = program.step('host', 'openat', [directory, 'source', O.RDWR | O.CLOEXEC, 0]);
    const number = (value: number) => program.step('host', 'lseek', [source, value, 0]);
    const mode = number(0o600);
    const copy = program.step('host', 'openat', [directory, 'copy', number(O.RDWR | O.CREAT), mode]);
    program.step('host', 'lseek', [source, number(2), number(0)]);
    const copied = program.step('host', 'copy_file_range', [source, null, copy, null, mode, number(0)]);
    program.step('host', 'ftruncate', [source, number(4)]);
    errand(program);
    for (const slot of [directory, source, copy]) closeSync(slot.value as number);
    // copy_file_range began at 0: the last step that moved the offset was its flags.
    expect(readFileSync(join(folder, 'copy'), 'utf8')).toBe('0123456789');
    expect(copied.value).toBe(10);
    expect(statSync(join(folder, 'copy')).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toBe('0123');
  });

  it('fill memory that is read afterwards, or that later steps read', () => {
    const program = new LaunchProgram('errand');
    const ends = program.output(8);
    program.step('host', 'pipe2', [ends, O.CLOEXEC]);
    const name = program.output(390);
    program.step('host', 'uname', [name]);
    const fd = program.step('host', 'openat', [AT.FDCWD, folder, O.DIRECTORY | O.CLOEXEC, 0]);
    program.step('host', 'mkdirat', [fd, name, 0o700]);
    const untouched = program.output(5);
    errand(program);
    const [reader, writer] = [ends.bytes.readInt32LE(0), ends.bytes.readInt32LE(4)];
    expect(readlinkSync(`/proc/self/fd/${reader}`)).toMatch(/^pipe:/);
    expect(readlinkSync(`/proc/self/fd/${writer}`)).toBe(readlinkSync(`/proc/self/fd/${reader}`));
    for (const open of [reader, writer, fd.value as number]) closeSync(open);
    expect(name.bytes.length).toBe(390);
    expect(readdirSync(folder)).toContain(name.bytes.toString().split('\0')[0]);
    expect(untouched.bytes).toEqual(Buffer.alloc(5));
  });

  it('leave the slots of steps that were not reached without a value', () => {
    const program = new LaunchProgram('errand');
    const first = program.step('host', 'getppid', []);
    const failed = program.step('host', 'chdir', ['/no/such']);
    const never = program.step('host', 'getpid', []);
    thrownBy(() => errand(program));
    expect([first.value, failed.value, never.value]).toEqual([process.pid, -2, undefined]);
  });

  it('go on after ignored errors, and after no other', () => {
    const ignoring = (path: string, ignore: string[]) =>
      errand(errandOf((program) => program.step('cwd', 'chdir', [path], { ignore })));
    ignoring('/no/such', ['ENOENT']);
    ignoring('/no/such', ['EPERM', 'EACCES', 'EIO', 'EBUSY', 'EXDEV', 'ELOOP', 'ENOTDIR', 'ENOENT']);
    ignoring('/etc/passwd', ['*']);
    expect(thrownBy(() => ignoring('/etc/passwd', ['ENOENT', 'EPERM'])).code).toBe('ENOTDIR');
    expect(thrownBy(() => ignoring('/no/such', [])).code).toBe('ENOENT');
  });

  it('are repeated until it works', async () => {
    const path = join(folder, 'slow');
    spawnSync('mkfifo', [path]);
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    const writer = nodeSpawn('sh', ['-c', `sleep 0.1; printf abc >${path}`]);
    const program = new LaunchProgram('errand');
    const out = program.output(3);
    const retry = { on: ['EINTR', 'EAGAIN'], times: 1e12 };
    const read = program.step('host', 'read', [fd, out, 3], { retry });
    errand(program);
    expect(read.value).toBe(3);
    expect(out.bytes.toString()).toBe('abc');
    closeSync(fd);
    await new Promise((resolve) => writer.on('close', resolve));
  });

  it('take the way that the kernel’s answers choose, however branches nest', () => {
    type Node = { dir: true } | { fails: boolean; tests: number; yes?: Node[]; no?: Node[] };
    const { nodes } = fc.letrec<{ nodes: Node[]; node: Node }>((tie) => ({
      nodes: fc.array(tie('node'), { maxLength: 3 }),
      node: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constant({ dir: true as const }),
        fc.record(
          { fails: fc.boolean(), tests: fc.integer({ min: 1, max: 3 }), yes: tie('nodes'), no: tie('nodes') },
          { requiredKeys: ['fails', 'tests'] },
        ),
      ),
    }));
    let round = 0;
    fc.assert(
      fc.property(nodes, (tree) => {
        const base = join(folder, `tree${round++}`);
        mkdirSync(base);
        const program = new LaunchProgram('errand');
        const expected: string[] = [];
        let count = 0;
        const add = (list: readonly Node[], taken: boolean) => {
          for (const node of list) {
            if ('dir' in node) {
              const name = `d${count++}`;
              program.step('host', 'mkdirat', [AT.FDCWD, join(base, name), 0o700]);
              if (taken) expected.push(name);
              continue;
            }
            const { fails, tests, yes, no } = node;
            const test = () => {
              for (let i = 0; i < tests; i++) {
                // Some succeed with 0, some with another number; the last may fail.
                if (fails && i === tests - 1) program.step('host', 'chdir', ['/no/such']);
                else program.step('host', i % 2 ? 'getppid' : 'sched_yield', []);
              }
            };
            program.attempt('host', ['EACCES', 'ENOENT'], test, {
              ...(yes && { onSuccess: () => add(yes, taken && !fails) }),
              ...(no && { onError: () => add(no, taken && fails) }),
            });
          }
        };
        add(tree, true);
        errand(program);
        expect(readdirSync(base).sort()).toEqual(expected.sort());
        rmSync(base, { recursive: true });
      }),
      { numRuns: 200 },
    );
  });

  it('fail where a branch is not for their error', () => {
    const program = errandOf((it) =>
      it.attempt('host', ['ENOENT'], () => it.step('host', 'chdir', ['/etc/passwd']), { onError: () => {} }),
    );
    expect(thrownBy(() => errand(program))).toMatchObject({ code: 'ENOTDIR', step: { index: 1 } });
  });

  it('may be many, with long arguments', () => {
    const program = new LaunchProgram('errand');
    for (let i = 0; i < 2000; i++) program.step('host', 'mkdirat', [AT.FDCWD, '/'.repeat(500), 0], { ignore: ['*'] });
    const last = program.step('host', 'openat', [AT.FDCWD, 'é'.repeat(2000), 0, 0], { ignore: ['ENAMETOOLONG'] });
    errand(program);
    expect(last.value).toBe(-36);
  });

  it('are the same in a second launch of the same program', () => {
    const program = new LaunchProgram('errand');
    const pid = program.step('host', 'getpid', []);
    errand(program);
    const first = pid.value;
    errand(program);
    expect(pid.value).toBeGreaterThan(0);
    expect(pid.value).not.toBe(first);
  });

  describe.skipIf(!userns)('with a file system context [needs user namespaces]', () => {
    function bogus(ending: 'process' | 'errand') {
      const other = park(CLONE.NEWUSER | CLONE.NEWNS);
      const held = ['user', 'mnt'].map((name) => Fd.open(`/proc/${other.pid}/ns/${name}`));
      try {
        const program = new LaunchProgram(ending);
        program.join(held[0] as Fd, CLONE.NEWUSER);
        program.join(held[1] as Fd, CLONE.NEWNS);
        const context = program.step('mount', 'fsopen', ['tmpfs', 1]);
        const set = (key: string, value: string) =>
          program.step('mount', 'fsconfig', [context, 1, key, value, 0], { context, hint: 'look it up' });
        set('size', '1m');
        set('bogus', 'x');
        set('mode', '755');
        if (ending === 'errand') return thrownBy(() => errand(program));
        program.step('exec', 'execve', ['/bin/true', new StringArray([]), new StringArray([])]);
        return thrownBy(() => launch(program));
      } finally {
        for (const fd of held) fd.close();
        other.end();
      }
    }

    it.each(['process', 'errand'] as const)('fail with the words of the kernel (%s)', (ending) => {
      const error = bogus(ending);
      expect(error).toMatchObject({ code: 'EINVAL', syscall: 'fsconfig', step: { index: 5, phase: 'mount' } });
      expect(error.kernelMessage).toBe("tmpfs: Unknown parameter 'bogus'");
      expect(error.message).toContain("tmpfs: Unknown parameter 'bogus'");
      expect(error.hint).toBe('look it up');
    });
  });
});

describe('park', () => {
  it.skipIf(!userns)('holds new namespaces until it ends [needs user namespaces]', () => {
    const parked = park(CLONE.NEWUSER | CLONE.NEWUTS);
    const link = readlinkSync(`/proc/${parked.pid}/ns/uts`);
    expect(link).not.toBe(readlinkSync('/proc/self/ns/uts'));
    const listed = () => spawnSync('lsns', ['-n', '-t', 'uts', '-o', 'NS'], { encoding: 'utf8' }).stdout.split(/\s+/);
    const inode = /\d+/.exec(link)?.[0];
    expect(listed()).toContain(inode);
    parked.end();
    parked.end();
    expect(existsSync(`/proc/${parked.pid}`)).toBe(false);
    expect(listed()).not.toContain(inode);
  });

  it('fails as the clone does', () => {
    const before = memory();
    // A thread has no signal handlers of its own.
    expect(thrownBy(() => park(CLONE.THREAD))).toMatchObject({ code: 'EINVAL', syscall: 'clone3' });
    expect(memory()).toMatchObject({ shared: before.shared, descriptors: before.descriptors });
  });
});

it.skipIf(!root)('clones twice to join a pid namespace, and leaves nothing of either child [needs root]', () => {
  const parked = park(CLONE.NEWPID);
  const namespace = Fd.open(`/proc/${parked.pid}/ns/pid`);
  const before = memory();
  const enter = (more: Build, argv?: string[]) =>
    launch(
      programOf((program) => {
        program.join(namespace, CLONE.NEWPID);
        more(program);
      }, argv),
    );
  try {
    const launched = enter(() => {}, ['/bin/sleep', '60']);
    expect(field(readFileSync(`/proc/${launched.pid}/status`, 'utf8'), 'NSpid')).toMatch(/^\d+\t\d+$/);
    expect(field(readFileSync(`/proc/${launched.pid}/status`, 'utf8'), 'PPid')).toBe(String(process.pid));
    expect(children().length).toBe(before.children + 1);
    attempt('pidfd_send_signal', launched.pidfd, 9, null, 0);
    expect(finished(launched).signal).toBe(9);
    expect(thrownBy(() => enter((program) => program.step('cwd', 'chdir', ['/no/such'])))).toMatchObject({
      code: 'ENOENT',
      step: { index: 3, phase: 'cwd' },
    });
    const killed = thrownBy(() =>
      enter((program) => program.step('host', 'kill', [program.step('host', 'getpid', []), 9])),
    );
    expect(killed).toMatchObject({ syscall: 'kill', step: { index: 4 }, info: { signal: 9 } });
    expect(memory()).toMatchObject({ descriptors: before.descriptors, children: before.children });
  } finally {
    namespace.close();
    parked.end();
  }
});

/** A worker thread that has the sources. What tsx must compile for it is compiled before: its compiler would stay a zombie. */
function worker(script: string, workerData: unknown): Worker {
  const url = pathToFileURL(join(import.meta.dirname, '../index.ts')).href;
  const load = `import('tsx/esm/api').then(({ register }) => register()).then(() => import('${url}'))`;
  execFileSync(process.execPath, ['--conditions=iso-source', '-e', load]);
  return new Worker(`${load}.then(async (sys) => {${script}});`, {
    eval: true,
    execArgv: ['--conditions=iso-source'],
    workerData,
  });
}

it('launches from eight worker threads at once', { timeout: 60_000 }, async () => {
  const bystander = nodeSpawn('sleep', ['60']);
  const ours = launch(programOf(undefined, ['/bin/sleep', '60']));
  const script = `
    const { errand, launch, LaunchProgram, reap, StringArray } = sys;
    const { workerData, parentPort } = require('node:worker_threads');
    const ready = new Int32Array(workerData);
    Atomics.add(ready, 0, 1);
    while (Atomics.load(ready, 0) < 8) await new Promise((resolve) => setTimeout(resolve, 5));
    const codes = [];
    for (let i = 0; i < 50; i++) {
      const program = new LaunchProgram();
      program.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', 'exit ' + i]), new StringArray([])]);
      const { pidfd } = launch(program);
      const asked = new LaunchProgram('errand');
      const parent = asked.step('host', 'getppid', []);
      errand(asked);
      codes.push(parent.value === process.pid ? reap(pidfd, { block: true }).code : 'stranger');
      pidfd.close();
    }
    parentPort.postMessage(codes);`;
  const ready = new SharedArrayBuffer(4);
  const codes = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const thread = worker(script, ready);
      const message = await new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
      await thread.terminate();
      return message;
    }),
  );
  expect(codes).toEqual(Array(8).fill(Array.from({ length: 50 }, (_, i) => i)));
  for (const pid of [bystander.pid, ours.pid]) expect(readFileSync(`/proc/${pid}/stat`, 'utf8')).toMatch(/\) [SR] /);
  bystander.kill();
  expect(await new Promise((resolve) => bystander.on('exit', (_, signal) => resolve(signal)))).toBe('SIGTERM');
  expect(attempt('pidfd_send_signal', ours.pidfd, 9, null, 0)).toBe(0);
  expect(finished(ours).signal).toBe(9);
});

it('gives the child nothing of this process’s descriptors but what is not close-on-exec', () => {
  const open = syscall('fcntl', 2, F.DUPFD, 700);
  const closed = syscall('fcntl', 2, F.DUPFD_CLOEXEC, 700);
  try {
    const listed = textOf(['/bin/ls', '/proc/self/fd']).split('\n');
    expect(listed).toContain(String(open));
    expect(listed).not.toContain(String(closed));
    const all = textOf(['/bin/ls', '/proc/self/fd'], (program) => program.closeFrom(3)).split('\n');
    expect(all).not.toContain(String(open));
  } finally {
    closeSync(open);
    closeSync(closed);
  }
});
