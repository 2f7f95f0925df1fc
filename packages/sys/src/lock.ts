import { Fd } from './fd.js';
import { O } from './raw/flags.js';
import { retryOnInterrupt } from './syscall.js';

const LOCK_EX = 2;

/**
 * Takes a lock that dies with its holder, whatever ends it, see flock(2); waits for who has it, on this thread.
 *
 * @param path - of its file, which is made where it is not there
 * @returns the lock, closed to give it back
 * @throws KernelError where the file cannot be opened
 *
 * @example
 * ```ts
 * import { rmSync } from 'node:fs';
 * import { lockFile } from '@iso/sys';
 * const path = `/tmp/iso-lock-${process.pid}`;
 * {
 *   using held = lockFile(path);
 *   if (held.closed) throw new Error('nobody has it');
 * }
 * rmSync(path);
 * ```
 */
export function lockFile(path: string): Fd {
  const file = Fd.open(path, { flags: O.RDWR | O.CREAT | O.NOFOLLOW, mode: 0o600 });
  try {
    retryOnInterrupt('flock', file, LOCK_EX);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}
