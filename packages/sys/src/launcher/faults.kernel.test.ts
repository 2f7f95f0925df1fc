import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import {
  AT,
  errand,
  errandAsync,
  F,
  KernelError,
  LaunchProgram,
  launch,
  launchAsync,
  O,
  StringArray,
  type SyscallName,
  syscall,
  syscallNumber,
} from '../index.js';
import { root } from './fixture.js';

const strace = spawnSync('strace', ['-V']).status === 0 && spawnSync('strace', ['-f', 'true']).status === 0;
const userns = spawnSync('unshare', ['-U', '-r', 'true']).status === 0;
const here = (path: string) => JSON.stringify(join(import.meta.dirname, path));
const node = [...fromSources, '--input-type=module', '-e'];

/** Tries each way to start something and prints how it went, as seen from this process. */
const tries = `
  import { readdirSync, readFileSync } from 'node:fs';
  import { CLONE, errand, errandAsync, Fd, LaunchProgram, launch, launchAsync, park, reap, StringArray, syscall as make, watchFd } from ${here('../index.ts')};
  const children = () => readFileSync('/proc/thread-self/children', 'utf8');
  // What serves the first watcher stays open for the next.
  const counter = Fd.own(make('eventfd2', 1, 0));
  await watchFd(counter);
  counter.close();
  const told = {};
  const attempt = async (name, action) => {
    const descriptors = readdirSync('/proc/self/fd').length;
    try {
      const launched = await action();
      told[name] = launched?.pidfd ? reap(launched.pidfd, { block: true }).code : 'done';
      launched?.pidfd?.close();
    } catch ({ name: kind, code, feature, syscall, hint }) {
      told[name] = { kind, code, feature, syscall, hint };
    }
    const left = readdirSync('/proc/self/fd').length - descriptors;
    if (left) told[name + ' descriptors'] = left;
    if (children()) told[name + ' children'] = children();
  };
  const program = (build = () => {}) => {
    const it = new LaunchProgram();
    build(it);
    it.step('exec', 'execve', ['/bin/sh', new StringArray(['sh', '-c', 'exit 7']), new StringArray([])]);
    return it;
  };
  const asked = () => {
    const it = new LaunchProgram('errand');
    const parent = it.step('host', 'getppid', []);
    errand(it);
    if (parent.value !== process.pid) throw new Error('not our child');
  };
  const askedAsync = async () => {
    const it = new LaunchProgram('errand');
    const parent = it.step('host', 'getppid', []);
    await errandAsync(it);
    if (parent.value !== process.pid) throw new Error('not our child');
  };
  const broken = (it) => it.step('cwd', 'chdir', ['/no/such']);
  const everything = async () => {
    await attempt('launch', () => launch(program()));
    await attempt('launchAsync', () => launchAsync(program()));
    await attempt('errand', asked);
    await attempt('errandAsync', askedAsync);
    await attempt('broken', () => launch(program(broken)));
    await attempt('again', () => launch(program()));
  };
  const net = Fd.open('/proc/self/ns/net');
  const cgroup = Fd.open('/proc/self', { directory: true });
  const needClone3 = async () => {
    await attempt('cgroup', () => launch(program((it) => it.cgroup(cgroup))));
    await attempt('twice', () => launch(program((it) => { it.join(net, CLONE.NEWNET); it.unshare(CLONE.NEWPID); })));
  };
`;

/** Lets a call of the main thread and its children fail by seccomp; the threads of libuv and V8 are there already. */
const filter = `
  import { attempt as call } from ${here('../index.ts')};
  import { native } from ${here('../raw/native.ts')};
  const filterCall = (number, errno) => {
    launch(program()).pidfd.close();
    const bytes = Buffer.alloc(32);
    const rows = [[0x20, 0, 0, 0], [0x15, 0, 1, number], [0x06, 0, 0, 0x50000 + errno], [0x06, 0, 0, 0x7fff0000]];
    for (const [i, [code, yes, no, k]] of rows.entries()) {
      bytes.writeUInt16LE(code, i * 8);
      bytes[i * 8 + 2] = yes;
      bytes[i * 8 + 3] = no;
      bytes.writeUInt32LE(k, i * 8 + 4);
    }
    const program_ = Buffer.alloc(16);
    program_.writeUInt16LE(4, 0);
    program_.writeBigUInt64LE(BigInt(native().address(bytes)), 8);
    if (call('prctl', 38, 1, 0, 0, 0) || call('prctl', 22, 2, program_, 0, 0)) throw new Error('no seccomp');
  };
`;

function filtered(errno: number, action: string, call: SyscallName = 'clone3'): Record<string, unknown> {
  const script = `${tries}${filter}
    filterCall(${syscallNumber(call)}, ${errno});
    while (children()) reap(Number(children().split(' ')[0]), { block: true });
    ${action}
    console.log(JSON.stringify(told));`;
  return JSON.parse(execFileSync(process.execPath, [...node, script], { encoding: 'utf8' }));
}

describe('without clone3', () => {
  const fallen = {
    launch: 7,
    launchAsync: 7,
    errand: 'done',
    errandAsync: 'done',
    broken: { kind: 'KernelError', code: 'ENOENT', syscall: 'chdir' },
    again: 7,
  };

  it('launches by clone where a seccomp filter answers ENOSYS', () => {
    expect(filtered(38, 'await everything();')).toEqual(fallen);
  });

  it('says that clone3 is lacking where clone cannot do the same', () => {
    const lacking = { kind: 'UnsupportedError', code: 'EUNSUPPORTED', feature: 'clone3' };
    expect(filtered(38, 'await needClone3();')).toEqual({ cgroup: lacking, twice: lacking });
  });

  it.skipIf(!strace)(
    'makes clone with the same flags, and shares no memory with what does not hold it up [needs strace]',
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'iso-sys-'));
      try {
        const log = join(folder, 'log');
        const script = `${tries} await everything(); console.log(JSON.stringify(told));`;
        const args = ['-f', '-o', log, '-e', 'trace=clone,clone3', '-e', 'inject=clone3:error=ENOSYS'];
        const { stdout } = spawnSync('strace', [...args, process.execPath, ...node, script], { encoding: 'utf8' });
        expect(JSON.parse(stdout)).toEqual(fallen);
        const clones = readFileSync(log, 'utf8').match(/ clone\(.*CLONE_(PIDFD|PARENT_SETTID\|SIGCHLD).*/g) ?? [];
        const flags = clones.map((line) => /flags=([\w|]+)/.exec(line)?.[1]);
        expect(flags).toEqual([
          'CLONE_VM|CLONE_PIDFD|CLONE_VFORK|SIGCHLD',
          'CLONE_VM|CLONE_PIDFD|SIGCHLD',
          'CLONE_VFORK|CLONE_PARENT|CLONE_PARENT_SETTID|SIGCHLD',
          'CLONE_VM|CLONE_FILES|CLONE_PIDFD|CLONE_VFORK',
          // An errand has every signal blocked.
          'CLONE_VM|CLONE_FILES|CLONE_PIDFD|SIGCHLD',
          'CLONE_VM|CLONE_FILES|CLONE_VFORK|CLONE_PARENT|CLONE_PARENT_SETTID|SIGCHLD',
          'CLONE_VM|CLONE_PIDFD|CLONE_VFORK|SIGCHLD',
          'CLONE_VM|CLONE_PIDFD|CLONE_VFORK|SIGCHLD',
        ]);
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
  );
});

describe.each(['pidfd_open', 'close_range', 'openat2'] as const)('without %s', (call) => {
  const lacking = { kind: 'UnsupportedError', code: 'EUNSUPPORTED', feature: call };

  it('launches all the same, or says what is lacking and leaves nothing', () => {
    const action = `
      await everything();
      await attempt('closing', () => launch(program((it) => it.closeFrom(3))));
      await attempt('beneath', () => launch(program((it) => it.step('cwd', 'openat2', [-100, '/', Buffer.alloc(24), 24]))));
      await attempt('cloned twice', () => launch(program((it) => {
        it.join(net, CLONE.NEWNET, { exposed: false });
        it.unshare(CLONE.NEWPID);
      })));`;
    const told = filtered(38, action, call);
    const twice = root ? 7 : { kind: 'KernelError', code: 'EPERM', syscall: 'setns' };
    expect(told).toEqual({
      launch: 7,
      launchAsync: call === 'pidfd_open' ? lacking : 7,
      errand: 'done',
      errandAsync: call === 'pidfd_open' ? lacking : 'done',
      broken: { kind: 'KernelError', code: 'ENOENT', syscall: 'chdir' },
      again: 7,
      closing: call === 'close_range' ? lacking : 7,
      beneath: call === 'openat2' ? lacking : 7,
      'cloned twice': call === 'pidfd_open' ? lacking : twice,
    });
  });
});

const memory = '/sys/fs/cgroup/memory';
const accounted = root && existsSync(`${memory}/memory.limit_in_bytes`);

// The kernel ends whoever shares the memory of what it ends for want of memory, but for those who wait in a vfork.
it.skipIf(!accounted)(
  'a cgroup without memory ends no one but the child [needs root and the v1 memory controller]',
  () => {
    const path = `${memory}/iso-test-${process.pid}-none`;
    mkdirSync(path);
    try {
      writeFileSync(`${path}/memory.limit_in_bytes`, '65536');
      const script = `${tries}
      const poor = () => program((it) => {
        const tasks = Fd.open('${path}/tasks', { flags: 1 });
        it.defer(() => tasks.close());
        it.step('birth', 'write', [tasks, '0', 1]);
        it.unshare(CLONE.NEWNS);
        for (let i = 0; i < 60; i++) it.step('mount', 'open_tree', [-100, '/', 0x8000 | 1]);
      });
      await attempt('launch', () => launch(poor()));
      await attempt('launchAsync', () => launchAsync(poor()));
      console.log(JSON.stringify(told));`;
      const told = JSON.parse(execFileSync(process.execPath, [...node, script], { encoding: 'utf8' }));
      const refused = { kind: 'KernelError', code: 'ENOMEM', syscall: 'open_tree' };
      expect(told).toEqual({ launch: refused, launchAsync: refused });
    } finally {
      rmdirSync(path);
    }
  },
);

describe('a clone that is refused', () => {
  it.each([
    ['EPERM', 1, /CAP_SYS_ADMIN/],
    ['EAGAIN', 11, /RLIMIT_NPROC.*pids\.max/],
    ['ENOSPC', 28, /max_\*_namespaces/],
    ['EBUSY', 16, /leaf/],
    ['EACCES', 13, /cgroup\.procs/],
  ])('by %s is an error with a hint, and leaves nothing', (code, errno, hint) => {
    const told = filtered(errno, 'await everything(); await needClone3();');
    const ways = ['launch', 'launchAsync', 'errand', 'errandAsync', 'broken', 'again', 'cgroup', 'twice'];
    expect(Object.keys(told)).toEqual(ways);
    for (const way of ways) expect(told[way]).toMatchObject({ kind: 'KernelError', code, syscall: 'clone3' });
    expect((told.cgroup as { hint: string }).hint).toMatch(hint);
    // The hint on cgroups is for launches into one.
    if (errno === 1 || errno === 11 || errno === 28) expect((told.launch as { hint: string }).hint).toMatch(hint);
    else expect(told.launch).not.toHaveProperty('hint');
  });

  /** The same without a filter: the kernel itself refuses, to a plain user. */
  function refused(prefix: readonly string[], action: string): Record<string, unknown> {
    const script = `${tries}
      import { syscall } from ${here('../index.ts')};
      ${action}
      console.log(JSON.stringify(told));`;
    const args = [...prefix, process.execPath, ...node, script];
    return JSON.parse(execFileSync('env', args, { encoding: 'utf8' }));
  }
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const plain = process.getuid?.() === 0 ? nobody : [];

  it('for RLIMIT_NPROC is EAGAIN', () => {
    const told = refused(
      plain,
      `await attempt('before', () => launch(program()));
      syscall('prlimit64', 0, 6, Buffer.from(new BigUint64Array([1n, 1n]).buffer), null);
      await attempt('after', () => launch(program()));`,
    );
    expect(told).toEqual({
      before: 7,
      after: { kind: 'KernelError', code: 'EAGAIN', syscall: 'clone3', hint: expect.stringMatching(/RLIMIT_NPROC/) },
    });
  });

  it('for want of CAP_SYS_ADMIN is EPERM', () => {
    const told = refused(plain, `await attempt('uts', () => launch(program((it) => it.unshare(CLONE.NEWUTS))));`);
    expect(told).toEqual({
      uts: { kind: 'KernelError', code: 'EPERM', syscall: 'clone3', hint: expect.stringMatching(/CAP_SYS_ADMIN/) },
    });
  });

  it.skipIf(!userns)('for the limit on namespaces is ENOSPC [needs user namespaces]', () => {
    const none = 'echo 0 >/proc/sys/user/max_uts_namespaces; exec "$0" "$@"';
    const told = refused(
      ['unshare', '-U', '-r', 'sh', '-c', none],
      `await attempt('uts', () => launch(program((it) => it.unshare(CLONE.NEWUTS))));
      await attempt('ipc', () => launch(program((it) => it.unshare(CLONE.NEWIPC))));`,
    );
    expect(told).toEqual({
      uts: { kind: 'KernelError', code: 'ENOSPC', syscall: 'clone3', hint: expect.stringMatching(/max_/) },
      ipc: 7,
    });
  });
});

describe('a step that fails', () => {
  type Step = Parameters<LaunchProgram['step']>;
  const good: Step[] = [
    ['birth', 'openat', [AT.FDCWD, '/etc', O.CLOEXEC, 0]],
    ['host', 'memfd_create', ['x', 1]],
    ['host', 'eventfd2', [0, O.CLOEXEC]],
    ['limits', 'umask', [0o22]],
    ['privileges', 'getppid', []],
    ['cwd', 'chdir', ['/']],
  ];
  const breaks: [code: string, step: Step][] = [
    ['ENOENT', ['host', 'chdir', ['/no/such']]],
    ['EBADF', ['host', 'fchdir', [-1]]],
    ['ENOTDIR', ['host', 'chdir', ['/etc/passwd']]],
    ['EINVAL', ['host', 'socket', [1, -1, 0]]],
    ['EFAULT', ['host', 'openat', [AT.FDCWD, 1, 0, 0]]],
    ['ESRCH', ['host', 'getpgid', [0x3fffffff]]],
  ];
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const children = () => readFileSync('/proc/thread-self/children', 'utf8');

  function broken(ending: 'process' | 'errand', at: number, [, [, name, args]]: (typeof breaks)[number]) {
    const program = new LaunchProgram(ending);
    for (const [i, [phase, ...rest]] of good.entries()) {
      if (i === at) program.step(phase, name, args);
      else program.step(phase, ...rest);
    }
    if (ending === 'process')
      program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    return program;
  }

  async function rejected(action: () => unknown): Promise<KernelError> {
    try {
      await action();
    } catch (error) {
      if (KernelError.is(error)) return error;
      throw error;
    }
    throw new Error('did not fail');
  }

  it.each([
    ['launch', (at: number, how: (typeof breaks)[number]) => launch(broken('process', at, how)), 1],
    ['launchAsync', (at: number, how: (typeof breaks)[number]) => launchAsync(broken('process', at, how)), 1],
    ['errand', (at: number, how: (typeof breaks)[number]) => errand(broken('errand', at, how)), 1],
    ['errandAsync', (at: number, how: (typeof breaks)[number]) => errandAsync(broken('errand', at, how)), 1],
  ] as const)('is named, at every place and for every error, and leaves nothing (%s)', async (way, start, more) => {
    // What serves the first watcher stays open for the next.
    await rejected(() => start(0, breaks[0] as (typeof breaks)[number]));
    const before = descriptors();
    const waiting = children();
    for (const [at, [phase]] of good.entries()) {
      for (const how of breaks) {
        const error = await rejected(() => start(at, how));
        expect(error, way).toMatchObject({
          code: how[0],
          syscall: how[1][1],
          step: { index: at + 1, of: good.length + more, phase },
        });
      }
    }
    expect(descriptors()).toBe(before);
    expect(children()).toBe(waiting);
  });

  it('can say what to do about it', () => {
    const program = new LaunchProgram('errand');
    program.step('cwd', 'chdir', ['/no/such'], { hint: 'make it first', text: 'cd there' });
    expect(() => errand(program)).toThrow(
      'cd there: ENOENT, no such file or directory (step 1 of 2, cwd); make it first',
    );
  });

  it.skipIf(!strace)('is repeated exactly as often as was said, for the errors that were named [needs strace]', () => {
    const script = `import { errand, LaunchProgram, syscall } from ${here('../index.ts')};
      const low = syscall('eventfd2', 0, 0o4000);
      const high = syscall('fcntl', low, ${F.DUPFD}, 700);
      const run = (fd, on, times) => {
        const program = new LaunchProgram('errand');
        program.step('host', 'read', [fd, program.output(8), 8], times === undefined ? {} : { retry: { on, times } });
        try { errand(program); } catch (error) { console.log(error.code); }
      };
      run(high, ['EINTR', 'EAGAIN'], 5);
      run(high, ['EAGAIN'], 0);
      run(high, ['EINTR'], 9);
      run(high);`;
    const folder = mkdtempSync(join(tmpdir(), 'iso-sys-'));
    try {
      const log = join(folder, 'log');
      const { stdout } = spawnSync('strace', ['-f', '-o', log, '-e', 'trace=read', process.execPath, ...node, script], {
        encoding: 'utf8',
      });
      expect(stdout).toBe('EAGAIN\n'.repeat(4));
      const reads = readFileSync(log, 'utf8').match(/^\d+ +read\(700,.*EAGAIN/gm) ?? [];
      const pids = reads.map((line) => line.split(' ')[0]);
      const counts = [...new Set(pids)].map((pid) => pids.filter((other) => other === pid).length);
      expect(counts).toEqual([6, 1, 1, 1]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('leaves open what was open before the errand', () => {
    const kept = syscall('eventfd2', 0, O.CLOEXEC);
    const program = new LaunchProgram('errand');
    program.step('host', 'fcntl', [kept, F.GETFD, 0]);
    program.step('cwd', 'chdir', ['/no/such']);
    expect(() => errand(program)).toThrow(/ENOENT/);
    expect(syscall('fcntl', kept, F.GETFD, 0)).toBe(1);
    syscall('close', kept);
  });
});
