import { execFileSync, spawn as nodeSpawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, readlinkSync, readSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { AT, attempt, CLONE, errand, F, LaunchProgram, launch, launchAsync, O, PR, park, syscall } from '../index.js';
import * as arm64 from './arm64.js';
import {
  type Build,
  collectGarbage,
  errandOf,
  field,
  finished,
  memory,
  programOf,
  root,
  scratchFolder,
  self,
  textOf,
  thrownBy,
  userns,
  worker,
} from './fixture.js';
import * as x64 from './x64.js';

const allNamespaces =
  CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWTIME;

const folder = scratchFolder();

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

  it('is nothing of a program that cannot end as it is asked to', () => {
    const before = memory();
    let undone = 0;
    const errandProgram = new LaunchProgram('errand');
    errandProgram.undo(() => undone++);
    expect(() => launch(errandProgram)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    const withoutExec = new LaunchProgram();
    withoutExec.undo(() => undone++);
    expect(() => launch(withoutExec)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(undone).toBe(2);
    expect(memory()).toMatchObject({ descriptors: before.descriptors });
  });

  it('is no copy of a descriptor when an errand fails', () => {
    const before = memory();
    const program = new LaunchProgram('errand');
    const fd = program.step('host', 'openat', [AT.FDCWD, '/', O.PATH | O.CLOEXEC, 0]);
    program.step('host', 'fcntl', [fd, F.DUPFD_CLOEXEC, 100]);
    program.step('host', 'chdir', ['/no/such']);
    expect(() => errand(program)).toThrow(/ENOENT/);
    expect(memory()).toMatchObject({ descriptors: before.descriptors });
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

  it('never has the launcher’s code writable and executable', () => {
    finished(launch(programOf()));
    const code = Buffer.from((process.arch === 'arm64' ? arm64 : x64).code, 'hex');
    const found: string[] = [];
    const mem = openSync('/proc/self/mem', 'r');
    for (const line of readFileSync('/proc/self/maps', 'utf8').split('\n')) {
      const [, from, to, mode] = /^(\w+)-(\w+) (\S+) \S+ \S+ 0\s*$/.exec(line) ?? [];
      if (!from || !to || !mode?.includes('x')) continue;
      const page = Buffer.alloc(Number.parseInt(to, 16) - Number.parseInt(from, 16));
      // Room that V8 keeps for its own.
      if (page.length > 1 << 20) continue;
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

it('takes no longer from a process of half a gigabyte', { timeout: 60_000 }, () => {
  const script = `
    import { launch, LaunchProgram, reap, StringArray } from ${JSON.stringify(join(import.meta.dirname, '../index.ts'))};
    const best = () => {
      const times = Array.from({ length: 21 }, () => {
        const program = new LaunchProgram();
        program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
        const start = performance.now();
        const { pidfd } = launch(program);
        const time = performance.now() - start;
        reap(pidfd, { block: true });
        pidfd.close();
        return time;
      });
      return Math.min(...times);
    };
    best();
    const small = best();
    const much = Buffer.alloc(512 * 1024 * 1024, 1);
    console.log(small, best(), much.length, process.memoryUsage().rss);`;
  const node = [...fromSources, '--input-type=module', '-e', script];
  const [small, large, , rss] = execFileSync(process.execPath, node, { encoding: 'utf8' }).split(' ').map(Number) as [
    number,
    number,
    number,
    number,
  ];
  expect(rss).toBeGreaterThan(500e6);
  // A copy of so many pages takes some 20 ms.
  expect(large).toBeLessThan(3 * small + 3);
});
