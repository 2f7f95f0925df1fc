import { UnsupportedError } from '../error.js';
import { numbers as arm64 } from './numbers-arm64.js';
import { numbers as x64 } from './numbers-x64.js';

/** Name of a system call that exists on at least one supported architecture, for example `'openat2'`. */
export type SyscallName = keyof typeof x64 | keyof typeof arm64;

/**
 * The system calls of both architectures, by name: what filters are compiled from, also for the other one.
 */
export const syscallNumbers: Readonly<Record<'x64' | 'arm64', ReadonlyMap<string, number>>> = {
  x64: new Map(Object.entries(x64)),
  arm64: new Map(Object.entries(arm64)),
};

const tables: Readonly<Record<string, ReadonlyMap<string, number>>> = syscallNumbers;
const table = tables[process.arch];

/**
 * Number of a system call on this machine's architecture.
 *
 * @param name - the kernel's own name
 * @returns the number
 * @throws {@link UnsupportedError} where the architecture has no such call, or is not supported at all
 */
export function syscallNumber(name: SyscallName): number {
  const number = table?.get(name);
  if (number === undefined) {
    throw new UnsupportedError(name, `${process.platform}-${process.arch} has no system call of that name`);
  }
  return number;
}
