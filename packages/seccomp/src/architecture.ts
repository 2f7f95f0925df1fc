import { invalid, syscallNumbers, UnsupportedError } from '@iso/sys';

/** An architecture that filters are compiled for, as Node calls it. */
export type Architecture = 'x64' | 'arm64';

/**
 * The architecture that runs.
 *
 * @returns it
 * @throws UnsupportedError where there are no filters for it
 */
export function ownArchitecture(): Architecture {
  const { arch } = process;
  if (arch === 'x64' || arch === 'arm64') return arch;
  throw new UnsupportedError('seccomp', `there is no table of system calls for ${arch}`);
}

/**
 * The number of a system call.
 *
 * @param name - the kernel's name
 * @param architecture - of which
 * @returns the number; undefined where the architecture has no such call, and so nobody can make it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a name that no architecture knows
 */
export function numberOf(name: string, architecture: Architecture): number | undefined {
  const number = syscallNumbers[architecture].get(name);
  if (number === undefined && !isKnown(name)) throw invalid(`no system call is called ${JSON.stringify(name)}`);
  return number;
}

/** Whether any architecture has a call of that name. */
export function isKnown(name: string): boolean {
  return syscallNumbers.x64.has(name) || syscallNumbers.arm64.has(name);
}

/** The name of a call, for people; undefined for a number that the table lacks. */
export function nameOf(number: number, architecture: Architecture): string | undefined {
  let names = byNumber.get(architecture);
  if (!names) {
    names = new Map([...syscallNumbers[architecture]].map(([name, value]) => [value, name]));
    byNumber.set(architecture, names);
  }
  return names.get(number);
}

const byNumber = new Map<Architecture, Map<number, string>>();
