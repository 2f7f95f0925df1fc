import { inspect } from 'node:util';
import { errnoName, errnoNumber, invalid } from '@iso/sys';
import { RET } from './raw/seccomp.js';

/**
 * What becomes of a system call:
 *
 * - `allow`; `log`: allowed, and written to the audit log
 * - `{ errno }`: it is not made and fails, with a name or a number from 1 to 4095
 * - `kill-process`, `kill-thread`: ended as by SIGSYS, which nobody can catch
 * - `trap`: a SIGSYS that can be caught
 * - `notify`: a {@link Supervisor} answers
 * - `{ trace }`: a ptrace(2) tracer is told that number; without one the call fails with ENOSYS
 */
export type Action =
  | 'allow'
  | 'log'
  | 'kill-process'
  | 'kill-thread'
  | 'trap'
  | 'notify'
  | { readonly errno: string | number }
  | { readonly trace: number };

const plain: Readonly<Record<string, number>> = {
  allow: RET.ALLOW,
  log: RET.LOG,
  'kill-process': RET.KILL_PROCESS,
  'kill-thread': RET.KILL_THREAD,
  trap: RET.TRAP,
  notify: RET.USER_NOTIF,
};

/** The names under which /proc/sys/kernel/seccomp/actions_avail has them. */
const kernelNames: Readonly<Record<string, string>> = {
  'kill-process': 'kill_process',
  'kill-thread': 'kill_thread',
  notify: 'user_notif',
};

const MAX_ERRNO = 4095;
const MAX_TRACE = 0xffff;

/**
 * An action as a filter returns it.
 *
 * @param action - any
 * @returns 32 bits
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is none
 */
export function encode(action: Action): number {
  if (typeof action === 'string' && Object.hasOwn(plain, action)) return plain[action] as number;
  if (typeof action === 'object' && action !== null && Object.keys(action).length === 1) {
    if ('errno' in action) {
      const errno = typeof action.errno === 'string' ? errnoNumber(action.errno) : action.errno;
      if (Number.isInteger(errno) && errno >= 1 && errno <= MAX_ERRNO) return RET.ERRNO | errno;
      throw invalid(`an errno is a name or a number from 1 to ${MAX_ERRNO}, not ${String(action.errno)}`);
    }
    if ('trace' in action) {
      if (Number.isInteger(action.trace) && action.trace >= 0 && action.trace <= MAX_TRACE)
        return RET.TRACE | action.trace;
      throw invalid(`trace takes a number from 0 to ${MAX_TRACE}, not ${String(action.trace)}`);
    }
  }
  throw invalid(`no action: ${inspect(action)}, there are ${Object.keys(plain).join(', ')}, { errno }, { trace }`);
}

/** The action that a filter returned. */
export function decode(value: number): Action {
  const data = value & 0xffff;
  const code = (value & 0xffff0000) >>> 0;
  if (code === RET.ERRNO) {
    const name = errnoName(data);
    return { errno: /^E\d/.test(name) ? data : name };
  }
  if (code === RET.TRACE) return { trace: data };
  const name = Object.keys(plain).find((key) => plain[key] === code);
  return (name ?? 'kill-process') as Action;
}

/** Whether the call is made in the end, whoever has a say. */
export function isPermissive(action: Action): boolean {
  return (
    action === 'allow' || action === 'log' || action === 'notify' || (typeof action === 'object' && 'trace' in action)
  );
}

/** What the kernel calls it. */
export function kernelName(action: Action): string {
  if (typeof action === 'object') return 'errno' in action ? 'errno' : 'trace';
  return kernelNames[action] ?? action;
}
