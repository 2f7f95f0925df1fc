// The project under arm64 Node, under qemu: the numbers and flags of system calls, the launcher called through koffi, and
// what launch() and errand() make of its tables. Usage: node.js SYS, the folder of @iso/sys as JavaScript.
import { lstatSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { check } from './check.js';

const from = (file) => import(pathToFileURL(join(process.argv[2], file)).href);
const sys = await from('index.js');
const { LinuxKernel } = await from('kernel.js');
const { native } = await from('raw/native.js');
const { AT, attempt, errand, F, Fd, KernelError, LaunchProgram, O, P, PR, reap, StringArray, syscall, W } = sys;

const [ENOENT, EBADF, ENOTDIR, EEXIST, ELOOP, EAGAIN] = [2, 9, 20, 17, 40, 11];
const SIGCHLD = 17;
const scratch = mkdtempSync(join(tmpdir(), 'iso-arm64-'));
const file = join(scratch, 'file');
const link = join(scratch, 'link');
writeFileSync(file, 'twelve bytes');
symlinkSync('file', link);

/** What `use` says of a new descriptor, closed afterwards; the error number where there is none. */
function opened(fd, use = () => 'open') {
  if (fd < 0) return fd;
  try {
    return use(fd);
  } finally {
    syscall('close', fd);
  }
}
const same = (name, seen, expected) => check(`node: ${name}`, () => [seen(), expected()]);
const fails = (call) => {
  try {
    call();
  } catch (error) {
    return error;
  }
};

/**
 * qemu-user has neither clone3 nor a clone that shares memory or returns a pidfd: the launcher is given a plain fork, whose
 * child answers through the arena's shared mapping. All else is the project's own: table, machine code, errors.
 */
class Forking extends LinuxKernel {
  launch(plan) {
    const frame = new BigUint64Array(native().view(plan.frame, 48));
    frame.set([sys.syscallNumber('clone'), SIGCHLD, 0, 0, 0, 0].map(BigInt));
    const pid = super.launch(plan);
    if (pid < 0) return pid;
    // As CLONE_VFORK would: the table is read once the child is through. It stays a zombie, to be reaped.
    syscall('waitid', P.PID, pid, Buffer.alloc(128), W.EXITED | W.NOWAIT, null);
    plan.pidfd(syscall('pidfd_open', pid, 0));
    return pid;
  }
}

try {
  await calls();
  await launches();
} finally {
  rmSync(scratch, { recursive: true });
}

async function calls() {
  await check('node: this is arm64', () => [process.arch, 'arm64']);
  await same(
    'getpid, getppid, getuid, gettid',
    () => [...['getpid', 'getppid', 'getuid'].map((name) => syscall(name)), syscall('gettid') > 0],
    () => [process.pid, process.ppid, process.getuid(), true],
  );
  const openat = (path, flags, use) => opened(attempt('openat', AT.FDCWD, path, flags, 0o600), use);
  await same(
    'O_DIRECTORY, O_NOFOLLOW, O_PATH, O_EXCL are what arm64 calls so',
    () => [
      ...[openat(scratch, O.DIRECTORY), openat(file, O.DIRECTORY), openat(file, O.RDONLY)],
      ...[openat(link, O.NOFOLLOW), openat(link, O.RDONLY), openat(link, O.NOFOLLOW | O.PATH)],
      ...[
        openat(file, O.RDWR | O.CREAT | O.EXCL),
        openat(file, O.PATH, (fd) => attempt('read', fd, Buffer.alloc(1), 1)),
      ],
    ],
    () => ['open', -ENOTDIR, 'open', -ELOOP, 'open', 'open', -EEXIST, -EBADF],
  );
  await same(
    'O_CLOEXEC, O_NONBLOCK, O_APPEND, F_DUPFD_CLOEXEC',
    () => [
      openat(file, O.CLOEXEC | O.APPEND | O.NONBLOCK, (fd) => [
        syscall('fcntl', fd, F.GETFD),
        syscall('fcntl', fd, F.GETFL) & (O.APPEND | O.NONBLOCK),
      ]),
      openat(file, O.RDONLY, (fd) => syscall('fcntl', fd, F.GETFD)),
      openat(file, O.RDONLY, (fd) => opened(attempt('fcntl', fd, F.DUPFD_CLOEXEC, 100), (copy) => copy >= 100)),
    ],
    () => [[1, O.APPEND | O.NONBLOCK], 0, true],
  );
  await same(
    'fstat and newfstatat fill the structure that the kernel documents for arm64',
    () => {
      const [byFd, byPath] = [Buffer.alloc(128), Buffer.alloc(128)];
      openat(file, O.RDONLY, (fd) => syscall('fstat', fd, byFd));
      syscall('newfstatat', AT.FDCWD, link, byPath, AT.SYMLINK_NOFOLLOW);
      return [byFd, byPath].map((bytes) => [
        Number(bytes.readBigUInt64LE(8)),
        bytes.readUInt32LE(16),
        Number(bytes.readBigInt64LE(48)),
      ]);
    },
    () => [statSync(file), lstatSync(link)].map(({ ino, mode, size }) => [ino, mode, size]),
  );
  await same(
    'pipe2, write, read, dup3, EAGAIN',
    () => {
      const [ends, text] = [Buffer.alloc(8), Buffer.alloc(5)];
      syscall('pipe2', ends, O.CLOEXEC | O.NONBLOCK);
      const [reader, writer] = [Fd.own(ends.readInt32LE(0)), Fd.own(ends.readInt32LE(4))];
      try {
        const empty = attempt('read', reader, text, 5);
        const copy = Fd.own(syscall('dup3', writer, 200, O.CLOEXEC));
        const { number } = copy;
        const wrote = syscall('write', copy, 'hello', 5);
        copy.close();
        return [empty, wrote, syscall('read', reader, text, 5), text.toString(), number];
      } finally {
        for (const end of [reader, writer]) end.close();
      }
    },
    () => [-EAGAIN, 5, 5, 'hello', 200],
  );
  await same(
    'memfd_create, ftruncate, lseek beyond 4 GiB, mkdirat, unlinkat, readlinkat, prctl',
    () => {
      const target = Buffer.alloc(16);
      const folder = join(scratch, 'folder');
      return [
        opened(syscall('memfd_create', 'x', 1), (fd) => [
          syscall('ftruncate', fd, 2 ** 40),
          syscall('lseek', fd, 0, 2),
        ]),
        [syscall('mkdirat', AT.FDCWD, folder, 0o700), syscall('unlinkat', AT.FDCWD, folder, AT.REMOVEDIR)],
        [syscall('readlinkat', AT.FDCWD, link, target, 16), target.toString('utf8', 0, 4)],
        syscall('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0),
      ];
    },
    () => [[0, 2 ** 40], [0, 0], [4, 'file'], 1],
  );
  await same(
    'an error has its name; what arm64 lacks is refused by name',
    () => [
      fails(() => syscall('openat', AT.FDCWD, '/nonexistent', 0, 0)).code,
      ...['open', 'fork', 'dup2'].map((name) => fails(() => sys.syscallNumber(name)).name),
    ],
    () => ['ENOENT', ...Array(3).fill('UnsupportedError')],
  );
  await check('node: a descriptor is watched on the event loop', async () => {
    const counter = Fd.own(syscall('eventfd2', 0, O.NONBLOCK | O.CLOEXEC));
    const ready = sys.watchFd(counter).then(() => 'ready');
    setTimeout(() => syscall('write', counter, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), 8), 20);
    const seen = await ready;
    counter.close();
    return [seen, 'ready'];
  });
}

async function launches() {
  sys.replaceKernel(new Forking());
  await same(
    'an errand: slots, outputs, results as arguments',
    () => {
      const program = new LaunchProgram('errand');
      const back = program.output(8);
      const pid = program.step('host', 'getpid', []);
      const fd = program.step('host', 'openat', [AT.FDCWD, scratch, O.DIRECTORY | O.CLOEXEC, 0]);
      const inside = program.step('host', 'openat', [fd, 'file', O.RDONLY, 0]);
      const length = program.step('host', 'read', [inside, back, 6]);
      errand(program);
      return [pid.value !== process.pid && pid.value > 1, fd.value > 2, length.value, back.bytes.toString()];
    },
    () => [true, true, 6, 'twelve\0\0'],
  );
  await same(
    'an errand that fails names the step',
    () => {
      const program = new LaunchProgram('errand');
      program.step('host', 'getpid', []);
      program.step('host', 'unlinkat', [AT.FDCWD, join(scratch, 'none'), 0], { ignore: ['ENOENT'] });
      const failing = program.step('mount', 'mkdirat', [AT.FDCWD, file, 0o700]);
      const late = program.step('mount', 'getpid', []);
      const error = fails(() => errand(program));
      const { index, phase } = error.step;
      return [error instanceof KernelError, error.code, error.path, index, phase, failing.value, late.value];
    },
    () => [true, 'EEXIST', file, 3, 'mount', -EEXIST, undefined],
  );
  const branch = (path) => {
    const program = new LaunchProgram('errand');
    const values = {};
    const step = (name) => () => (values[name] = program.step('host', 'getppid', []));
    const test = () => (values.test = program.step('host', 'faccessat', [AT.FDCWD, path, 0]));
    program.attempt('host', ['ENOENT'], test, { onSuccess: step('onSuccess'), onError: step('onError') });
    step('after')();
    errand(program);
    return ['test', 'onSuccess', 'onError', 'after'].map((name) => values[name].value);
  };
  await same(
    'an errand takes the branch that an error leads to, or the other',
    () => [branch(file), branch('/nonexistent')],
    () => [
      [0, process.pid, undefined, process.pid],
      [-ENOENT, undefined, process.pid, process.pid],
    ],
  );
  const start = (path, ...script) => {
    const program = new LaunchProgram();
    const out = program.step('fds', 'openat', [AT.FDCWD, join(scratch, 'out'), O.WRONLY | O.CREAT | O.TRUNC, 0o600]);
    program.step('fds', 'dup3', [out, 1, 0]);
    program.step('exec', 'execve', [path, new StringArray(['sh', '-c', ...script]), new StringArray(['X=y'])]);
    const { pid, pidfd } = sys.launch(program);
    const { code, signal } = reap(pidfd);
    pidfd.close();
    return [pid > 1, code, signal, readFileSync(join(scratch, 'out'), 'utf8')];
  };
  await same(
    'a process: execve, its output, its exit code by pidfd',
    () => start('/bin/sh', 'echo "$0 $X"; exit 7', 'zero'),
    () => [true, 7, null, 'zero y\n'],
  );
  await same(
    'a process that a signal ends',
    () => start('/bin/sh', 'kill -9 $$'),
    () => [true, null, 9, ''],
  );
  await same(
    'a process that does not exist',
    () => {
      const { code, path, step } = fails(() => start('/nonexistent', ''));
      return [code, path, step.index, step.phase];
    },
    () => ['ENOENT', '/nonexistent', 3, 'exec'],
  );
  await same(
    'no child is left',
    () => attempt('wait4', -1, null, W.ALL, null),
    () => -10,
  );
}
