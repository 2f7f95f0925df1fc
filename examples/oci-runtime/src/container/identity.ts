import { readdirSync, statSync } from 'node:fs';
import { attempt, type Fd, KernelError, openPidfd, startTime } from '@iso/sys';

/** A process that may be gone when it is looked for, and its number another's. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks from the machine's start to its own, see proc_pid_stat(5). */
  startedAt: string;
}

/**
 * Tells what identifies a process.
 *
 * @param pid - its number
 * @returns its identity; undefined where there is none, or nothing but its exit code
 */
export function identityOf(pid: number): ProcessIdentity | undefined {
  const startedAt = startTime(pid);
  return startedAt === undefined ? undefined : { pid, startedAt };
}

/**
 * Whether a process still runs.
 *
 * @param process_ - as it was
 */
export function isAlive({ pid, startedAt }: ProcessIdentity): boolean {
  return identityOf(pid)?.startedAt === startedAt;
}

/**
 * Holds a process, so that a signal reaches nobody else.
 *
 * @param process_ - as it was
 * @returns its pidfd; undefined where it is gone
 */
export function hold(process_: ProcessIdentity): Fd | undefined {
  return openPidfd(process_.pid, process_.startedAt);
}

/**
 * Sends a signal.
 *
 * @param process_ - to whom
 * @param signal - its number
 * @returns whether it was still there
 */
export function signal(process_: ProcessIdentity, number: number): boolean {
  using pidfd = hold(process_);
  if (!pidfd) return false;
  const result = attempt('pidfd_send_signal', pidfd, number, null, 0);
  if (result < 0 && result !== -ESRCH) throw new KernelError(result, { syscall: 'pidfd_send_signal' });
  return result === 0;
}

/**
 * The processes that have a file open.
 *
 * @param path - of the file
 * @returns those that this user may look at
 */
export function holdersOf(path: string): ProcessIdentity[] {
  const file = statSync(path, { throwIfNoEntry: false });
  if (!file) return [];
  const holds = (fd: string) => {
    try {
      const { dev, ino } = statSync(fd);
      return dev === file.dev && ino === file.ino;
    } catch {
      return false;
    }
  };
  const descriptors = (pid: string) => {
    try {
      return readdirSync(`/proc/${pid}/fd`).map((fd) => `/proc/${pid}/fd/${fd}`);
    } catch {
      return [];
    }
  };
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid && descriptors(pid).some(holds))
    .flatMap((pid) => identityOf(Number(pid)) ?? []);
}

const ESRCH = 3;
