import { errnoName, KernelError, kernel, UnsupportedError } from '@iso/sys';
import { CREATE } from './raw/landlock.js';

/**
 * The Landlock ABI of the running kernel: 1 (Linux 5.13) files, 2 (5.19) `refer`, 3 (6.2) `truncate`, 4 (6.7) TCP ports, 5 (6.10)
 * `ioctl-dev`, 6 (6.12) scopes, 7 (6.15) logging, 9 (7.1) `resolve-unix`, 10 (7.2) UDP ports.
 *
 * @returns its number
 * @throws UnsupportedError where the kernel has no Landlock, or it is switched off
 *
 * @example
 * ```ts
 * import { landlockAbi } from '@iso/landlock';
 * import { UnsupportedError } from '@iso/sys';
 * try {
 *   if (landlockAbi() < 1) throw new Error('no ABI is below 1');
 * } catch (error) {
 *   if (!UnsupportedError.is(error)) throw error;
 * }
 * ```
 */
export function landlockAbi(): number {
  const result = Number(kernel().call('landlock_create_ruleset', [null, 0, CREATE.VERSION]));
  if (result > 0) return result;
  const error = new KernelError(result, { syscall: 'landlock_create_ruleset' });
  const reason: Readonly<Record<string, string>> = {
    ENOSYS: 'the kernel is built without it, or a seccomp filter hides it',
    EOPNOTSUPP: 'it is switched off: the kernel was started with an lsm= that lacks landlock',
    EPERM: 'a seccomp filter refuses it',
  };
  const why = reason[errnoName(result)];
  throw why ? new UnsupportedError('landlock', why, { since: '5.13', cause: error }) : error;
}
