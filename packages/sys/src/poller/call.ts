import { KernelError } from '../error.js';
import { LinuxKernel, type SyscallArg } from '../kernel.js';
import { EPOLL } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
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

/**
 * What an epoll is to tell of a descriptor; it answers with the same structure.
 *
 * @param events - which
 * @param id - comes with them
 * @returns a struct epoll_event
 */
export function interestIn(events: number, id = 0): Buffer {
  const { size, ...at } = layouts.epoll_event;
  const interest = Buffer.alloc(size);
  interest.writeUInt32LE(events, at.events);
  interest.writeUInt32LE(id, at.data);
  return interest;
}

/**
 * Has an epoll watch a descriptor.
 *
 * @param epoll - the epoll
 * @param number - the descriptor
 * @param interest - see {@link interestIn}
 * @throws {@link KernelError} `EPERM` for what cannot be polled, `EBADF`, `EEXIST` for what it watches
 */
export function addTo(epoll: number, number: number, interest: Buffer): void {
  const added = call('epoll_ctl', epoll, EPOLL.CTL_ADD, number, interest);
  if (added < 0) throw new KernelError(added, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${number})` });
}
