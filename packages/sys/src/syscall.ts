import { KernelError, type KernelErrorFields, UnsupportedError } from './error.js';
import { callText, invalid, kernel, type SyscallArg, word } from './kernel.js';
import { native } from './raw/native.js';
import type { SyscallName } from './raw/numbers.js';

/**
 * Makes one system call on the calling thread. Arguments are checked before they reach the kernel: integers that do
 * not fit 64 bits, fractions and strings with a NUL are refused. A buffer is passed by address and may be filled.
 * Never unshares, joins or changes credentials of a thread: the calls that would are refused, launch a child instead.
 *
 * @param name - the kernel's name of the call, see syscalls(2)
 * @param args - up to six arguments
 * @returns the result, 0 or more (an address as number)
 * @throws {@link KernelError} where the kernel says no
 * @throws {@link UnsupportedError} where it, or a seccomp filter, does not know the call (`ENOSYS`)
 * @throws `TypeError` for arguments that cannot be passed unchanged
 *
 * @example
 * ```ts
 * import { syscall } from '@iso/sys';
 * if (syscall('getpid') !== process.pid) throw new Error('who am I?');
 * ```
 */
export function syscall(name: SyscallName, ...args: SyscallArg[]): number {
  const result = attempt(name, ...args);
  if (result < 0 && result >= -4095) throw failure(result, name, args);
  return result;
}

/**
 * The same as {@link syscall}, for callers who expect failure: returns the negative error number and never throws it.
 *
 * @param name - the kernel's name of the call
 * @param args - up to six arguments
 * @returns the result, or minus the error number
 * @throws `TypeError` for arguments that cannot be passed unchanged
 */
export function attempt(name: SyscallName, ...args: SyscallArg[]): number {
  checkCall(name, args);
  return Number(kernel().call(name, args));
}

/**
 * Refuses what cannot be passed unchanged, and calls that no thread of Node's may make.
 *
 * @param name - the call
 * @param args - its arguments; numbers are brought into the range of a signed word
 */
export function checkCall(name: SyscallName, args: SyscallArg[]): void {
  if (perThread.has(name)) {
    throw invalid(`${name} would change the calling thread alone: do it in a launched child or an errand`);
  }
  if (args.length > 6) throw invalid(`${name}: a system call takes six arguments at the most`);
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] as unknown;
    if (typeof arg === 'number' || typeof arg === 'bigint') args[i] = word(arg);
    else if (arg === null || typeof arg === 'string' || arg instanceof Uint8Array) continue;
    else if (typeof arg === 'object' && 'number' in arg) word(arg.number as number);
    else throw invalid(`${name}: argument ${i + 1} is neither a number, a string, bytes, a descriptor nor null`);
  }
}

/**
 * Repeats a call that a signal interrupted, as every other language's runtime does.
 *
 * @param name - the kernel's name of the call
 * @param args - up to six arguments
 * @returns the result
 * @throws {@link KernelError} for every error but `EINTR`
 * @throws {@link UnsupportedError} as {@link syscall}
 */
export function retryOnInterrupt(name: SyscallName, ...args: SyscallArg[]): number {
  for (;;) {
    const result = attempt(name, ...args);
    if (result === -4) continue;
    if (result < 0 && result >= -4095) throw failure(result, name, args);
    return result;
  }
}

/**
 * Address of a buffer's first byte, for structures that point to others (bpf(2)). The garbage collector does not see it:
 * whoever passes it on keeps the buffer alive until the call is over.
 *
 * @param bytes - the buffer; not empty
 * @returns the address
 */
export function addressOf(bytes: Uint8Array): bigint {
  return native().address(bytes);
}

function failure(errno: number, name: SyscallName, args: SyscallArg[]): Error {
  const fields: KernelErrorFields = { syscall: name, call: callText(name, args) };
  const path = args.find((arg) => typeof arg === 'string');
  if (typeof path === 'string') fields.path = path;
  const error = new KernelError(errno, fields);
  if (error.code !== 'ENOSYS') return error;
  return new UnsupportedError(name, 'the kernel or a seccomp filter answered ENOSYS', { cause: error });
}

/** What one of Node's threads must never do to itself: libuv's other threads would not follow. */
const perThread: ReadonlySet<SyscallName> = new Set([
  'unshare',
  'setns',
  'chroot',
  'pivot_root',
  'setuid',
  'setgid',
  'setreuid',
  'setregid',
  'setresuid',
  'setresgid',
  'setfsuid',
  'setfsgid',
  'setgroups',
  'capset',
  'seccomp',
  'landlock_restrict_self',
  'fork',
  'vfork',
  'clone',
  'clone3',
  'execve',
  'execveat',
  'exit',
  'exit_group',
  'umask',
  'chdir',
  'fchdir',
]);
