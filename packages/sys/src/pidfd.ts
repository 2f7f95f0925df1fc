import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { invalid } from './kernel.js';
import { errors } from './raw/errors.js';
import { startTime } from './start-time.js';
import { attempt } from './syscall.js';

const [ESRCH] = errors.ESRCH;
const [EINVAL] = errors.EINVAL;

/**
 * Holds a process, so that what is done to it reaches nobody who gets its number later; see pidfd_open(2).
 *
 * @param pid - its number, as this process sees it
 * @param startedAt - as {@link startTime} had it: another process with that number counts as none
 * @returns its pidfd, closed on exec; undefined where there is none
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no number of a process; {@link KernelError} `EMFILE`, `ENFILE`, `ENOSYS` before Linux 5.3
 *
 * @example
 * ```ts
 * import { openPidfd } from '@iso/sys';
 * using self = openPidfd(process.pid);
 * if (!self) throw new Error('this process does not run');
 * ```
 */
export function openPidfd(pid: number, startedAt?: string): Fd | undefined {
  if (!Number.isInteger(pid) || pid < 1) throw invalid(`the number of a process is 1 or more, not ${String(pid)}`);
  const opened = attempt('pidfd_open', pid, 0);
  // The number of a process that has ended may serve its session or group yet: that is EINVAL to older kernels.
  if (opened === -ESRCH || (opened === -EINVAL && startTime(pid) === undefined)) return undefined;
  if (opened < 0) throw new KernelError(opened, { syscall: 'pidfd_open', call: `pidfd_open(${pid})` });
  const pidfd = Fd.own(opened);
  // The number was its own when the descriptor was made, if it is now.
  if (startedAt === undefined || startTime(pid) === startedAt) return pidfd;
  pidfd.close();
  return undefined;
}
