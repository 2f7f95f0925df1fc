import { KernelError } from '../error.js';
import { LinuxKernel, type SyscallArg } from '../kernel.js';
import type { SyscallName } from '../raw/numbers.js';

/** What this process runs on, whatever a test puts in its place. */
export const linux: LinuxKernel = new LinuxKernel();

/**
 * A call to it.
 *
 * @param name - the kernel's name of it
 * @param args - numbers, bytes, null
 * @returns the result, or minus the error number
 */
export function call(name: SyscallName, ...args: SyscallArg[]): number {
  return Number(linux.call(name, args));
}

/**
 * The same for what must not fail.
 *
 * @param name - the kernel's name of it
 * @param args - numbers, bytes, null
 * @returns the result
 * @throws {@link KernelError}
 */
export function check(name: SyscallName, ...args: SyscallArg[]): number {
  const result = call(name, ...args);
  if (result < 0) throw new KernelError(result, { syscall: name });
  return result;
}
