// A kernel that fails, or a process that ends, at a place that the test chooses.
import { Fd, type Kernel, kernel, replaceKernel, type SyscallArg, type SyscallName } from '@iso/sys';

const NO_SPACE = 28;
const IO = 5;
const O_CREAT = 0x40;

/** Calls that may find no room on the disk. */
const GROWING: ReadonlySet<string> = new Set([
  'mkdirat',
  'write',
  'pwrite64',
  'renameat2',
  'mknodat',
  'symlinkat',
  'linkat',
  'setxattr',
  'fsetxattr',
  'copy_file_range',
]);

/** Calls that change something on a disk. */
const CHANGING: ReadonlySet<string> = new Set([
  ...GROWING,
  'unlinkat',
  'fchown',
  'fchmod',
  'utimensat',
  'ftruncate',
  'fsync',
  'syncfs',
  'ioctl',
]);

const creates = (name: SyscallName, args: readonly SyscallArg[]) =>
  name === 'openat' && (Number(args[2]) & O_CREAT) !== 0;

/** Runs something while a judge says which calls fail, and how. */
async function judged(
  judge: (name: SyscallName, args: readonly SyscallArg[]) => number,
  act: () => Promise<unknown>,
): Promise<void> {
  const real: Kernel = kernel();
  const restore = replaceKernel({
    call(name, args) {
      const errno = judge(name, args);
      return errno ? -errno : real.call(name, args);
    },
    launch: (plan) => real.launch(plan),
  });
  try {
    await act();
  } finally {
    restore();
  }
}

/**
 * Runs something whose n-th call that needs room finds none.
 *
 * @param n - from 1
 * @param act - what runs; what it throws is thrown
 * @returns whether there was an n-th one
 */
export async function withoutRoom(n: number, act: () => Promise<unknown>): Promise<boolean> {
  let count = 0;
  await judged((name, args) => ((GROWING.has(name) || creates(name, args)) && ++count === n ? NO_SPACE : 0), act);
  return count >= n;
}

/**
 * Runs something as a process that is killed at its n-th change of the disk: nothing of what comes after reaches the disk, nor what it
 * does to tidy up; its descriptors are closed, as the kernel does.
 *
 * @param n - from 1
 * @param act - what runs
 * @returns whether it got there
 */
export async function killedAt(n: number, act: () => Promise<unknown>): Promise<boolean> {
  let count = 0;
  const open = new Set<Fd>();
  const { opened } = Fd;
  Fd.opened = (fd, number) => {
    open.add(fd);
    opened?.(fd, number);
  };
  try {
    await judged((name, args) => {
      const changes = CHANGING.has(name) || creates(name, args);
      if (changes) count++;
      return changes && count >= n ? IO : 0;
    }, act);
  } catch (error) {
    if (count < n) throw error;
  } finally {
    Fd.opened = opened;
    for (const fd of open) fd.close();
  }
  return count >= n;
}
