import { attempt, Fd, KernelError, O, retryOnInterrupt } from '@iso/sys';

const LOCK_SH = 1;
const LOCK_NB = 4;

/**
 * Opens the file of a lock, to wait for it or to ask.
 *
 * @param path - of the file
 * @throws KernelError where it cannot be opened
 */
export function openLock(path: string): Fd {
  return Fd.open(path, { flags: O.RDONLY | O.NOFOLLOW | O.NONBLOCK });
}

/**
 * Waits until nobody holds a lock.
 *
 * @param file - the lock's; as long as it is open nobody gets the lock then
 */
export function waitForLock(file: Fd): void {
  retryOnInterrupt('flock', file, LOCK_SH);
}

/**
 * Whether somebody holds a lock. Those who only ask do not stand in each other's way.
 *
 * @param path - of its file
 * @returns whether; false where there is no such file
 */
export function isLocked(path: string): boolean {
  let file: Fd;
  try {
    file = openLock(path);
  } catch (error) {
    if (KernelError.is(error, 'ENOENT')) return false;
    throw error;
  }
  using held = file;
  const result = attempt('flock', held, LOCK_SH | LOCK_NB);
  if (result === 0) return false;
  const error = new KernelError(result, { syscall: 'flock', path });
  if (error.code === 'EWOULDBLOCK' || error.code === 'EAGAIN') return true;
  throw error;
}
