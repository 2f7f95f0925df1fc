import { accessSync, constants } from 'node:fs';
import { UnsupportedError } from '@iso/sys';

/**
 * Finds a program.
 *
 * @param name - of the program
 * @param debian - Debian's package of it
 * @returns its path
 * @throws UnsupportedError where it is not installed
 */
export function findProgram(name: string, debian: string): string {
  const path = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin']
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => `${folder}/${name}`)
    .find(isExecutable);
  if (path === undefined) {
    throw new UnsupportedError(name, `no program ${name} in PATH; Debian has it in the package ${debian}`);
  }
  return path;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
