import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attempt,
  CLONE,
  errand,
  Fd,
  KernelError,
  LaunchProgram,
  launch,
  type Phase,
  park,
  phases,
  StringArray,
  type SyscallName,
  UnsupportedError,
} from '../index.js';
import { RecordingKernel } from '../testing/index.js';
import { stepText } from './explain.js';

const exec = (program: LaunchProgram) =>
  program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray(['A=1'])]);

function thrownBy(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

/** The calls of `explain()`, line by line. */
const calls = (program: LaunchProgram) =>
  program
    .explain()
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/^ *\d* +\w+ +/, ''));

describe('joining several namespaces of a process at once', () => {
  it('counts each of them', () => {
    const program = new LaunchProgram();
    program.join(Fd.borrow(3), CLONE.NEWNS | CLONE.NEWPID);
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
    expect(program.hasOwnRoot).toBe(true);
    expect(program.hidesMemory).toBe(true);
    expect(program.explain()).toMatch(/nest +clone3\(.*CLONE_PARENT/);
  });
});

describe('what a program refuses', () => {
  const invalid = expect.objectContaining({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
  const both = ['process', 'errand'] as const;

  it.each<SyscallName>([
    'brk',
    'io_destroy',
    'io_setup',
    'madvise',
    'membarrier',
    'mlock',
    'mlock2',
    'mlockall',
    'mmap',
    'mprotect',
    'mremap',
    'mseal',
    'munlock',
    'munlockall',
    'munmap',
    'pkey_mprotect',
    'process_madvise',
    'remap_file_pages',
    'rseq',
    'set_robust_list',
    'set_tid_address',
    'shmat',
    'shmdt',
    'userfaultfd',
  ])('%s, which would act on the memory of this process', (name) => {
    for (const ending of both)
      for (const phase of phases)
        expect(thrownBy(() => new LaunchProgram(ending).step(phase, name, []))).toEqual(invalid);
  });

  it.each([4, 35, 41, 65, 67])('prctl(%i), which would act on the memory of this process', (option) => {
    for (const ending of both)
      expect(thrownBy(() => new LaunchProgram(ending).step('host', 'prctl', [option, 1, 0, 0, 0]))).toEqual(invalid);
  });

  it.each([
    ['prctl', [4n, 0]],
    ['prctl', [2 ** 32 + 4, 0]],
    ['prctl', [-(2 ** 32) + 4, 0]],
    ['clone3', [0, 88]],
    ['arch_prctl', [0x1002, 0]],
    ['pkey_alloc', [0, 0]],
    ['migrate_pages', [0, 0, 0, 0]],
  ] as const)('%s, in whatever form', (name, args) => {
    expect(thrownBy(() => new LaunchProgram().step('host', name, args))).toEqual(invalid);
  });

  it.each<SyscallName>(['fork', 'vfork', 'clone'])('%s, which the launcher does', (name) => {
    for (const ending of both)
      expect(thrownBy(() => new LaunchProgram(ending).step('host', name, []))).toEqual(invalid);
  });

  it.each<SyscallName>(['close', 'close_range', 'dup2', 'dup3', 'execve', 'execveat'])(
    '%s in an errand, and not in a process',
    (name) => {
      expect(thrownBy(() => new LaunchProgram('errand').step('host', name, []))).toEqual(invalid);
      expect(new LaunchProgram().step('host', name, []).label).toBe(name);
    },
  );

  it('a user namespace in unshare, and what is no namespace', () => {
    for (const flags of [CLONE.NEWUSER, CLONE.NEWUSER | CLONE.NEWNS, CLONE.VM, CLONE.FILES, CLONE.NEWNS | 1]) {
      const program = new LaunchProgram();
      expect(thrownBy(() => program.unshare(flags))).toEqual(invalid);
      expect(program.unshared).toBe(0);
    }
  });

  it('more than six arguments, and what no register holds', () => {
    const step = (...args: unknown[]) => thrownBy(() => new LaunchProgram().step('host', 'getppid', args as number[]));
    expect(step(1, 2, 3, 4, 5, 6, 7)).toEqual(invalid);
    for (const bad of [1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2n ** 64n, -(2n ** 63n) - 1n])
      expect(step(bad), String(bad)).toEqual(invalid);
    for (const bad of [undefined, true, Symbol.iterator, () => 0, {}, [], { number: 1 }, new Date()])
      expect(step(bad), String(bad)).toEqual(invalid);
    expect(new LaunchProgram().step('host', 'getppid', [1, 2n ** 64n - 1n, null, '', Buffer.alloc(0), -1]).label).toBe(
      'getppid',
    );
  });

  it('in an errand, what would act on its descriptors by another name', () => {
    const step = (...args: Parameters<LaunchProgram['step']>) =>
      thrownBy(() => new LaunchProgram('errand').step(...args));
    for (const command of [2, 2n, 2 ** 32 + 2]) expect(step('host', 'fcntl', [9, command, 1])).toEqual(invalid);
    for (const request of [0x5450, 0x5451]) expect(step('host', 'ioctl', [9, request])).toEqual(invalid);
    expect(step('host', 'unshare', [CLONE.FILES | CLONE.NEWNS])).toEqual(invalid);
    const program = new LaunchProgram('errand');
    // What is asked for is known when the program is made, not when it runs.
    const two = program.step('host', 'getpid', []);
    expect(thrownBy(() => program.step('host', 'fcntl', [9, two, 1]))).toEqual(invalid);
    expect(thrownBy(() => program.step('host', 'prctl', [two, 0, 0, 0, 0]))).toEqual(invalid);
  });

  it('results of no earlier step', () => {
    const later = new LaunchProgram();
    later.step('host', 'fchdir', [later.step('cwd', 'getpid', [])]);
    expect(thrownBy(() => later.explain())).toEqual(invalid);
    const other = new LaunchProgram();
    const foreign = new LaunchProgram();
    foreign.step('host', 'fchdir', [other.step('host', 'getpid', [])]);
    expect(thrownBy(() => foreign.explain())).toEqual(invalid);
    const memory = new LaunchProgram();
    memory.step('host', 'uname', [other.output(390)]);
    expect(thrownBy(() => memory.explain())).toEqual(invalid);
    for (const size of [-1, 1.5, Number.NaN, 2 ** 31, '8' as unknown as number])
      expect(
        thrownBy(() => other.output(size)),
        String(size),
      ).toEqual(invalid);
  });

  it('no change of its arguments afterwards', () => {
    const args = ['/etc'];
    const strings = ['fine'];
    const program = new LaunchProgram();
    program.step('cwd', 'chdir', args);
    const array = new StringArray(strings);
    args[0] = 'a\0b';
    strings[0] = 'a\0b';
    program.step('exec', 'execve', ['/x', array, new StringArray([])]);
    expect(calls(program).slice(1)).toEqual(['chdir("/etc")', 'execve("/x", ["fine"], [])']);
  });

  it('strings that the kernel would read as others', () => {
    const bad = ['\0', 'a\0', '\0a', '\ud800', 'a\udc00', '\udc00\ud800', 'x\ud83d'];
    for (const text of bad) {
      const program = new LaunchProgram();
      expect(
        thrownBy(() => program.step('host', 'chdir', [text])),
        JSON.stringify(text),
      ).toEqual(invalid);
      const array = new StringArray(['fine', text]);
      expect(thrownBy(() => program.step('exec', 'execve', ['/x', array, new StringArray([])]))).toEqual(invalid);
    }
    expect(new LaunchProgram().step('host', 'chdir', ['\ud83d\ude00 \u00e9 \uffff \x01']).label).toBe('chdir');
  });

  it('a phase that is none, a second cgroup, two ways to go on', () => {
    const program = new LaunchProgram();
    expect(thrownBy(() => program.step('start' as Phase, 'getppid', []))).toEqual(invalid);
    program.cgroup(Fd.borrow(0));
    expect(thrownBy(() => program.cgroup(Fd.borrow(0)))).toEqual(invalid);
    const twice = () =>
      program.attempt('host', ['EPERM'], () => program.step('host', 'getppid', [], { ignore: ['EIO'] }), {});
    expect(thrownBy(twice)).toEqual(invalid);
  });
});

describe('explain', () => {
  it('shows arguments as they will be, and results by their row', () => {
    const program = new LaunchProgram();
    const fd = program.step('host', 'openat', [-100, '/etc/é"', 0, 0]);
    program.step('host', 'read', [fd, program.output(12), 12], { ignore: ['EIO', 'EPERM'] });
    program.step('cwd', 'fchdir', [fd]);
    program.step('signals', 'rt_sigprocmask', [2, Buffer.alloc(8), null, 8]);
    exec(program);
    expect(calls(program)).toEqual([
      'clone3(CLONE_VM|CLONE_PIDFD|CLONE_VFORK|CLONE_CLEAR_SIGHAND)',
      'openat(AT_FDCWD, "/etc/é\\"", 0, 0)',
      'read(<1>, <12 bytes>, 12)   # EIO EPERM: go on',
      'fchdir(<1>)',
      'rt_sigprocmask(2, <8 bytes>, NULL, 8)',
      'execve("/bin/true", ["true"], ["A=1"])',
    ]);
  });

  it('shows where a branch leads', () => {
    const program = new LaunchProgram('errand');
    program.attempt('host', ['EPERM'], () => program.step('host', 'chdir', ['/a']), {
      onSuccess: () => program.step('host', 'chdir', ['/b']),
      onError: () => program.step('host', 'chdir', ['/c']),
    });
    const [clone, ...rows] = calls(program);
    expect(clone).toBe('clone3(CLONE_VM|CLONE_FILES|CLONE_PIDFD|CLONE_VFORK|CLONE_CLEAR_SIGHAND)');
    expect(rows).toEqual(['chdir("/a")   # EPERM: to 3', 'chdir("/b")   # then to 4', 'chdir("/c")', 'exit(0)']);
  });

  it('shows branches that end in one another, and empty ones', () => {
    const program = new LaunchProgram('errand');
    const chdir = (path: string) => void program.step('host', 'chdir', [path]);
    program.attempt('host', ['EPERM'], () => chdir('/a'), {
      onSuccess: () =>
        program.attempt('host', ['ENOENT'], () => chdir('/b'), { onSuccess: () => chdir('/c'), onError: () => {} }),
      onError: () => program.attempt('host', ['EIO'], () => chdir('/d'), { onSuccess: () => chdir('/e') }),
    });
    program.attempt('host', ['EIO'], () => chdir('/f'), {});
    expect(calls(program).slice(1)).toEqual([
      'chdir("/a")   # EPERM: to 4',
      'chdir("/b")   # ENOENT: to 6',
      'chdir("/c")   # then to 6',
      'chdir("/d")   # EIO: to 6',
      'chdir("/e")',
      'chdir("/f")   # EIO: to 7',
      'exit(0)',
    ]);
  });

  it('closes every descriptor from a number on, but the one to keep', () => {
    const closing = (from: number, kept?: number) => {
      const program = new LaunchProgram();
      program.closeFrom(from);
      program.unshare(CLONE.NEWPID);
      if (kept !== undefined) program.supervise(Fd.borrow(kept), 0);
      exec(program);
      const { steps } = program.compile();
      return steps.map((step) => stepText(step, steps)).filter((text) => /^close_range\(.*, 0\)$/.test(text));
    };
    const last = 4294967295;
    expect(closing(3)).toEqual([`close_range(3, ${last}, 0)`]);
    expect(closing(3, 2)).toEqual([`close_range(3, ${last}, 0)`]);
    expect(closing(3, 3)).toEqual([`close_range(4, ${last}, 0)`]);
    expect(closing(3, 512)).toEqual(['close_range(3, 511, 0)', `close_range(513, ${last}, 0)`]);
  });

  it('closes nothing that is to be kept for later steps, wherever it is', () => {
    const closing = (kept: number[], supervisor?: number) => {
      const program = new LaunchProgram();
      program.closeFrom(3);
      program.unshare(CLONE.NEWPID);
      for (const number of kept) program.keep(Fd.borrow(number));
      if (supervisor !== undefined) program.supervise(Fd.borrow(supervisor), 0);
      exec(program);
      const { steps } = program.compile();
      return steps.map((step) => stepText(step, steps)).filter((text) => /^close_range\(.*, 0\)$/.test(text));
    };
    const last = 4294967295;
    expect(closing([3])).toEqual([`close_range(4, ${last}, 0)`]);
    expect(closing([601, 600, 601])).toEqual(['close_range(3, 599, 0)', `close_range(602, ${last}, 0)`]);
    expect(closing([700], 600)).toEqual([
      'close_range(3, 599, 0)',
      'close_range(601, 699, 0)',
      `close_range(701, ${last}, 0)`,
    ]);
    expect(() => closing([2])).toThrow(/descriptor 2 is to be kept/);
  });

  it('says how namespaces come to be', () => {
    const clone = (flags: number) => {
      const program = new LaunchProgram();
      program.unshare(flags);
      exec(program);
      return calls(program);
    };
    expect(clone(CLONE.NEWNS | CLONE.NEWPID)[0]).toMatch(/NEWNS\|CLONE_NEWPID/);
    // A clone into a new time namespace would enter it before its clocks are set.
    expect(clone(CLONE.NEWTIME).slice(0, 2)).toEqual([
      'clone3(CLONE_VM|CLONE_PIDFD|CLONE_VFORK|CLONE_CLEAR_SIGHAND)',
      'unshare(CLONE_NEWTIME)',
    ]);
  });

  it('compiles to the same again and again', () => {
    const program = new LaunchProgram('errand');
    const context = program.step('host', 'fsopen', ['tmpfs', 1], { ignore: ['EPERM'] });
    program.step('host', 'fsconfig', [context, 1, 'bogus', '1', 0], { context });
    const text = program.explain();
    expect(program.explain()).toBe(text);
    expect(program.explain()).toBe(text);
  });

  it('runs nothing', () => {
    const kernel = new RecordingKernel();
    kernel.run(() => {
      const program = new LaunchProgram();
      program.step('host', 'sethostname', ['box', 3]);
      exec(program);
      program.explain();
    });
    expect(kernel.calls).toEqual([]);
    expect(kernel.launches).toEqual([]);
  });
});

describe('a launch on a kernel that only plays', () => {
  const names = ['getppid', 'chdir', 'umask', 'setsid', 'sethostname', 'mkdirat'] as const;
  const rows = fc.array(
    fc.record({ phase: fc.constantFrom(...phases.slice(0, -2)), name: fc.constantFrom(...names) }),
    {
      maxLength: 12,
    },
  );

  function build(ending: 'process' | 'errand', steps: readonly { phase: Phase; name: SyscallName }[]) {
    const program = new LaunchProgram(ending);
    for (const [i, { phase, name }] of steps.entries()) program.step(phase, name, [i]);
    if (ending === 'process') exec(program);
    return program;
  }

  it('fails at every step of every program, with an error that names it, and undoes', () => {
    fc.assert(
      fc.property(rows, fc.constantFrom('process', 'errand'), (steps, ending) => {
        const order = steps
          .map((step, i) => ({ ...step, i }))
          .sort((a, b) => phases.indexOf(a.phase) - phases.indexOf(b.phase) || a.i - b.i);
        for (const [k, step] of order.entries()) {
          const program = build(ending as 'process', steps);
          const told: string[] = [];
          program.undo(() => told.push('first'));
          program.undo(() => told.push('second'));
          program.defer(() => told.push('defer'));
          program.started(() => told.push('started'));
          const kernel = new RecordingKernel().failStep(k + 1, 'EIO');
          const error = thrownBy(() => kernel.run(() => (ending === 'errand' ? errand(program) : launch(program))));
          expect(KernelError.is(error, 'EIO')).toBe(true);
          expect(error).toMatchObject({
            errno: -5,
            syscall: step.name,
            step: { index: k + 1, of: steps.length + 1, phase: step.phase },
          });
          expect((error as Error).message).toBe(
            `${step.name}(${step.i}): EIO, i/o error (step ${k + 1} of ${steps.length + 1}, ${step.phase})`,
          );
          expect(told).toEqual(['second', 'first', 'defer']);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('fails as its clone does', () => {
    class Refusing extends RecordingKernel {
      constructor(readonly errno: number) {
        super();
      }
      override launch(plan: Parameters<RecordingKernel['launch']>[0]): number {
        super.launch(plan);
        return -this.errno;
      }
    }
    const told: string[] = [];
    const refuse = (errno: number) => {
      const program = build('process', []);
      program.undo(() => told.push('undo'));
      const kernel = new Refusing(errno);
      return { error: thrownBy(() => kernel.run(() => launch(program))), kernel };
    };
    const lacking = refuse(38);
    expect(lacking.error).toBeInstanceOf(UnsupportedError);
    expect(lacking.error).toMatchObject({ feature: 'clone3', since: '5.3' });
    // It was tried again by clone, which knows no CLONE_CLEAR_SIGHAND.
    expect(lacking.kernel.launches.map(({ flags }) => flags >= CLONE.CLEAR_SIGHAND)).toEqual([true, false]);
    // Where this thread goes on meanwhile, the handlers that it keeps must not run on this thread's stack.
    const parking = new Refusing(38);
    expect(() => parking.run(() => park(CLONE.NEWUSER))).toThrow(UnsupportedError);
    expect(parking.launches.map(({ flags }) => (flags & CLONE.VM) !== 0)).toEqual([true, false]);
    expect(refuse(11).error).toMatchObject({ code: 'EAGAIN', syscall: 'clone3', hint: expect.stringMatching(/pids/) });
    expect(refuse(1).kernel.launches.length).toBe(1);
    expect(told).toEqual(['undo', 'undo', 'undo']);
  });

  it('is told the flags and the steps in their order', () => {
    const kernel = new RecordingKernel();
    kernel.run(() => {
      const program = build('process', [
        { phase: 'cwd', name: 'chdir' },
        { phase: 'birth', name: 'umask' },
      ]);
      program.unshare(CLONE.NEWNET);
      launch(program);
    });
    const [launched] = kernel.launches;
    expect(launched?.flags).toBe(CLONE.VM + CLONE.PIDFD + CLONE.VFORK + CLONE.NEWNET + CLONE.CLEAR_SIGHAND);
    expect(launched?.steps.map(({ phase, syscall }) => [phase, syscall])).toEqual([
      ['birth', 'umask'],
      ['cwd', 'chdir'],
      ['exec', 'execve'],
    ]);
  });

  it('closes what an errand had opened before it failed, and only that', () => {
    const program = new LaunchProgram('errand');
    const open = program.step('host', 'openat', [-100, '/', 0, 0]);
    program.step('host', 'getppid', []);
    program.step('cwd', 'chdir', ['/no/such']);
    const kernel = new RecordingKernel().failStep(3, 'ENOENT');
    thrownBy(() => kernel.run(() => errand(program)));
    expect(kernel.calls.filter(({ name }) => name === 'close').map(({ args }) => args[0])).toContain(open.value);
    expect(kernel.calls.filter(({ name, args }) => name === 'close' && args[0] === 0).length).toBe(1);
  });

  it('leaves the real kernel in place afterwards, also after an error and a promise', async () => {
    const kernel = new RecordingKernel().answer('getppid', 42);
    expect(kernel.run(() => attempt('getppid'))).toBe(42);
    expect(attempt('getppid')).toBe(process.ppid);
    thrownBy(() =>
      kernel.run(() => {
        throw new Error('mine');
      }),
    );
    expect(attempt('getppid')).toBe(process.ppid);
    expect(await kernel.run(async () => attempt('getppid'))).toBe(42);
    expect(attempt('getppid')).toBe(process.ppid);
  });
});

describe('bytes whose buffer is gone', () => {
  it('are as empty for a step as for a call', () => {
    const bytes = new Uint8Array(64);
    structuredClone(bytes, { transfer: [bytes.buffer] });
    const program = new LaunchProgram('errand');
    program.step('host', 'getppid', [bytes]);
    new RecordingKernel().answer('getppid', 42).run(() => errand(program));
  });
});

describe('actions of the parts', () => {
  function told(fail: string, launchIt: (program: LaunchProgram) => unknown) {
    const seen: string[] = [];
    const say = (name: string) => () => {
      seen.push(name);
      if (name === fail) throw new Error(`${name} failed`);
    };
    const program = new LaunchProgram();
    for (const n of [1, 2]) {
      program.undo(say(`undo ${n}`));
      program.defer(say(`defer ${n}`));
      program.started(say(`started ${n}`));
    }
    exec(program);
    const kernel = new RecordingKernel();
    const error = thrownBy(() => kernel.run(() => launchIt(program)));
    return { seen, error, kernel };
  }

  it('all run when the launch fails, whichever of them throws; its error is the launch’s, theirs the cause', () => {
    for (const fail of ['undo 2', 'undo 1', 'defer 1', 'defer 2']) {
      const { seen, error } = told(fail, (program) => {
        program.step('cwd', 'chdir', ['/no/such']);
        return kernelFailing(() => launch(program));
      });
      expect(seen, fail).toEqual(['undo 2', 'undo 1', 'defer 1', 'defer 2']);
      expect(error).toMatchObject({ code: 'EIO', syscall: 'chdir', cause: { message: `${fail} failed` } });
    }
  });

  it('that throw once it runs end the child, and all is undone', () => {
    for (const fail of ['started 1', 'started 2', 'defer 1']) {
      const { seen, error, kernel } = told(fail, (program) => launch(program));
      expect(error, fail).toMatchObject({ message: `${fail} failed` });
      expect(seen.slice(-2), fail).toEqual(fail.startsWith('defer') ? ['undo 2', 'undo 1'] : ['defer 1', 'defer 2']);
      expect(seen.filter((name) => name.startsWith('undo'))).toEqual(['undo 2', 'undo 1']);
      expect(kernel.calls.filter(({ name }) => name === 'pidfd_send_signal')[0]?.args[1]).toBe(9);
    }
  });

  function kernelFailing(action: () => unknown): unknown {
    return new RecordingKernel().failStep(1, 'EIO').run(action);
  }
});
