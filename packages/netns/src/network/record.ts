import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { KernelError } from '@iso/sys';

const EBADMSG = 74;

/** How names of files end that are still being written. */
export const UNFINISHED = '.new';

/**
 * Reads a file that another process may be replacing.
 *
 * @param path - of a JSON object
 * @returns the object; undefined where there is no file
 * @throws KernelError `EBADMSG` for what is no JSON object
 */
export function readRecord(path: string): object | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null) return value;
  } catch {}
  throw broken(path, 'it is no JSON object');
}

/** Replaces a file at once: who reads it sees the old one or the new one. */
export function writeRecord(path: string, value: object): void {
  const temporary = `${path}.${process.pid}${UNFINISHED}`;
  try {
    writeFileSync(temporary, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** The error for a file that nobody here wrote so. */
export function broken(path: string, why: string): KernelError {
  return new KernelError(EBADMSG, {
    syscall: 'read',
    path,
    kernelMessage: why,
    hint: 'it was changed by somebody else',
  });
}
