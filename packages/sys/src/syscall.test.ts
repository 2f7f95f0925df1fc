import { statSync } from 'node:fs';
import { constants } from 'node:os';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  AT,
  attempt,
  CLONE,
  errnoName,
  errnoNumber,
  Fd,
  KernelError,
  LaunchProgram,
  phases,
  StringArray,
  syscall,
  UnsupportedError,
} from './index.js';
import { RecordingKernel } from './testing/index.js';

describe('syscall', () => {
  it('answers as Node does', () => {
    expect(syscall('getpid')).toBe(process.pid);
    let theirs: NodeJS.ErrnoException | undefined;
    try {
      statSync('/no/such');
    } catch (error) {
      theirs = error as NodeJS.ErrnoException;
    }
    let ours: unknown;
    try {
      syscall('openat', AT.FDCWD, '/no/such', 0, 0);
    } catch (error) {
      ours = error;
    }
    expect(ours).toMatchObject({ code: theirs?.code, errno: theirs?.errno, path: theirs?.path, syscall: 'openat' });
    expect(KernelError.is(ours, 'ENOENT')).toBe(true);
    expect(KernelError.is(theirs)).toBe(false);
  });

  it.each([1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53, 2n ** 64n, -(2n ** 63n) - 1n])('refuses %s', (value) => {
    expect(() => attempt('close', value)).toThrow(/not a 64-bit integer/);
  });

  it('refuses what FFI would cut or change silently', () => {
    expect(() => syscall('openat', AT.FDCWD, '/etc\0/passwd', 0, 0)).toThrow(/NUL/);
    expect(() => syscall('close', undefined as unknown as number)).toThrow(/argument 1/);
    expect(() => syscall('close', {} as unknown as number)).toThrow(/argument 1/);
    expect(() => syscall('close', 1, 2, 3, 4, 5, 6, 7)).toThrow(/six arguments/);
    for (const name of ['unshare', 'setns', 'setuid', 'chroot', 'clone3', 'execve'] as const) {
      expect(() => syscall(name, 0)).toThrow(/calling thread/);
    }
  });

  it('survives arguments at random', () => {
    const arg = fc.oneof(
      fc.integer(),
      fc.bigInt(),
      fc.string(),
      fc.uint8Array({ maxLength: 64 }),
      fc.constant(null),
      fc.double(),
    );
    fc.assert(
      fc.property(fc.array(arg, { maxLength: 8 }), (args) => {
        try {
          // getppid reads no argument, so no address at random is ever followed.
          expect(syscall('getppid', ...args)).toBe(process.ppid);
        } catch (error) {
          expect((error as { code: string }).code).toBe('ERR_INVALID_ARG_VALUE');
        }
      }),
      { numRuns: 20_000 },
    );
  });

  it('tells its errors from anything else, also those of another copy', () => {
    const refused = new KernelError(1, { syscall: 'mount' });
    const lacking = new UnsupportedError('listns', 'ENOSYS');
    expect([UnsupportedError.is(lacking), UnsupportedError.is(refused), KernelError.is(lacking)]).toEqual([
      true,
      false,
      false,
    ]);
    const other = { [Symbol.for('@iso/sys/UnsupportedError')]: true };
    expect(UnsupportedError.is(other)).toBe(true);
    for (const nothing of [undefined, null, 'EUNSUPPORTED', {}, new Error('x')])
      expect(UnsupportedError.is(nothing)).toBe(false);
  });

  it('names error numbers both ways', () => {
    for (const code of ['EPERM', 'ELOOP', 'EUSERS', 'EDQUOT', 'ENOTBLK', 'ESOCKTNOSUPPORT', 'EUCLEAN', 'ENOTSUPP'])
      expect(errnoName(errnoNumber(code))).toBe(code);
    expect(errnoName(-1)).toBe('EPERM');
    expect(() => errnoNumber('ENOSUCH')).toThrow(TypeError);
    for (const [name, number] of Object.entries(constants.errno)) expect(errnoNumber(name)).toBe(number);
    expect(new KernelError(117, { syscall: 'mount' }).message).toBe('mount: EUCLEAN, structure needs cleaning');
  });
});

describe('Fd', () => {
  it('closes once', () => {
    const fd = Fd.open('/');
    const number = fd.number;
    const copy = fd.duplicate();
    Fd.borrow(fd).close();
    expect(attempt('fcntl', number, 1, 0)).toBe(1);
    fd.close();
    fd.close();
    expect(fd.closed).toBe(true);
    expect(attempt('fcntl', number, 1, 0)).toBe(-9);
    expect(() => fd.number).toThrow(/closed/);
    expect(attempt('close', copy.release())).toBe(0);
    for (const bad of [-1, 1.5, Number.NaN, 2 ** 31]) expect(() => Fd.own(bad)).toThrow(/not a file descriptor/);
  });
});

describe('LaunchProgram', () => {
  const exec = (program: LaunchProgram) =>
    program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);

  it('orders steps by phase, not by the order of adding', () => {
    const program = new LaunchProgram();
    exec(program);
    for (const phase of [...phases].reverse().slice(2)) program.step(phase, 'getpid', []);
    const order = program
      .explain()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[1])
      .filter(Boolean);
    expect(order).toEqual(phases.filter((phase) => order.includes(phase)));
    expect(order.at(-1)).toBe('exec');
  });

  it('refuses what would change this process', () => {
    const process = new LaunchProgram();
    for (const name of ['mmap', 'munmap', 'mprotect', 'brk', 'mlockall', 'membarrier', 'fork', 'clone'] as const) {
      expect(() => process.step('host', name, [])).toThrow();
    }
    for (const option of [4, 35, 41, 65, 67])
      expect(() => process.step('host', 'prctl', [option, 0, 0, 0, 0])).toThrow(/memory/);
    const errand = new LaunchProgram('errand');
    for (const name of ['close', 'close_range', 'dup2', 'dup3', 'execve'] as const)
      expect(() => errand.step('host', name, [])).toThrow();
    expect(() => errand.step('host', 'fcntl', [3, 2, 1])).toThrow(/descriptors/);
    expect(() => process.unshare(CLONE.NEWUSER)).toThrow(/user namespace/);
    expect(() => process.unshare(CLONE.VM)).toThrow(/not namespace flags/);
    expect(() => process.step('nowhere' as 'exec', 'getpid', [])).toThrow(/phase/);
    expect(() => process.step('exec', 'chdir', ['a\0b'])).toThrow(/NUL/);
  });

  it('clones twice where a user namespace is joined before a pid namespace is made', () => {
    const program = new LaunchProgram();
    const user = Fd.open('/proc/self/ns/user');
    program.join(user, CLONE.NEWUSER);
    program.unshare(CLONE.NEWPID | CLONE.NEWNS);
    exec(program);
    expect(program.explain()).toMatch(
      /setns[\s\S]*clone3\(CLONE_PARENT\|CLONE_NEWNS\|CLONE_NEWPID\)[\s\S]*execve[\s\S]*exit\(0\)/,
    );
    user.close();
  });
});

describe('RecordingKernel', () => {
  it('fails each step of a launch in turn, with an error that names it', async () => {
    const { launch } = await import('./index.js');
    const build = () => {
      const program = new LaunchProgram();
      program.step('host', 'sethostname', ['box', 3]);
      program.step('cwd', 'chdir', ['/']);
      program.step('exec', 'execve', ['/bin/true', new StringArray(['true']), new StringArray([])]);
      return program;
    };
    for (const [index, syscallName] of ['sethostname', 'chdir', 'execve'].entries()) {
      const kernel = new RecordingKernel().failStep(index + 1, 'EIO');
      let thrown: unknown;
      kernel.run(() => {
        try {
          launch(build());
        } catch (error) {
          thrown = error;
        }
      });
      expect(thrown).toMatchObject({ code: 'EIO', syscall: syscallName, step: { index: index + 1, of: 3 } });
      expect(kernel.launches[0]?.steps.map((step) => step.syscall)).toEqual(['sethostname', 'chdir', 'execve']);
    }
    const kernel = new RecordingKernel().failNth(2, 'ENOSPC');
    expect(kernel.run(() => [attempt('sync'), attempt('sync'), attempt('sync')])).toEqual([0, -28, 0]);
  });
});
