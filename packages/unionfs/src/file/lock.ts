import { setTimeout as sleep } from 'node:timers/promises';
import { attempt, Fd, O, retryOnInterrupt } from '@iso/sys';
import { check, ERRNO } from './call.js';

/** Operations of flock(2). */
const LOCK = { shared: 1, exclusive: 2 } as const;
const [NON_BLOCKING, UNLOCK] = [4, 8];
/** Milliseconds between two looks at a lock that somebody holds. */
const PAUSE = { first: 0.5, most: 20 } as const;

/** Beside others of its kind, or alone. */
export type LockKind = keyof typeof LOCK;

/**
 * Locks an open file, see flock(2). The lock dies with the last descriptor of it, and so with its process, however that ends.
 *
 * @param fd - the file
 * @param kind - `shared` or `exclusive`
 * @returns whether it is locked now; false where somebody else holds it
 * @throws KernelError where the file system has no locks
 */
export function tryLock(fd: Fd | number, kind: LockKind = 'exclusive'): boolean {
  for (;;) {
    const result = attempt('flock', fd, LOCK[kind] | NON_BLOCKING);
    if (result === -ERRNO.EINTR) continue;
    if (result === -ERRNO.EAGAIN) return false;
    check(result, 'flock');
    return true;
  }
}

/** The same, waited for on this thread: for what is held for moments. */
export function lockNow(fd: Fd): void {
  retryOnInterrupt('flock', fd, LOCK.exclusive);
}

/**
 * The same, waited for without holding up this thread.
 *
 * @param fd - the file
 * @param kind - `shared` or `exclusive`
 * @param options - `signal` gives up
 * @throws the signal's reason; KernelError where the file system has no locks
 */
export async function lock(
  fd: Fd,
  kind: LockKind = 'exclusive',
  options: { signal?: AbortSignal | undefined } = {},
): Promise<void> {
  for (const pause of pauses()) {
    options.signal?.throwIfAborted();
    if (tryLock(fd, kind)) return;
    await pause();
  }
}

/** How long to wait before each further try: not all who wait at once, for those would meet again. */
export function* pauses(): Generator<() => Promise<void>, never> {
  for (let length: number = PAUSE.first; ; length = Math.min(length * 2, PAUSE.most)) {
    yield () => sleep(length * (0.5 + Math.random()));
  }
}

/**
 * Locks a file, which is made where there is none, and waits for those who hold it.
 *
 * @param path - the file; never removed, or two could hold it
 * @param kind - `shared` or `exclusive`
 * @param options - `signal` ends the wait
 * @returns the lock; dispose it to let go
 * @throws KernelError; the signal's reason
 */
export async function lockFile(
  path: string,
  kind: LockKind,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Disposable> {
  const fd = Fd.open(path, { flags: O.RDWR | O.CREAT, mode: 0o600 });
  try {
    await lock(fd, kind, options);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** Lets go of it. */
export function unlock(fd: Fd): void {
  retryOnInterrupt('flock', fd, UNLOCK);
}
