import { Fd, O } from '@iso/sys';
import { check, tryOpen, tryUnlink } from '../file/call.js';
import { lock } from '../file/lock.js';
import { tryStat } from '../file/stat.js';

const MODE = 0o600;

/** A lock that has a name. Disposing it lets go; so does the end of the process. */
export interface NamedLock extends Disposable {
  readonly name: string;
  /** Lets go of it; again does nothing. */
  close(): void;
}

/**
 * Takes a lock by name, whose file goes away with the last one who wants it.
 *
 * @param directory - where its file is
 * @param file - the file's name
 * @param options - `signal` gives up
 * @returns the file, locked
 */
export async function lockNamed(
  directory: Fd,
  file: string,
  options: { signal?: AbortSignal | undefined } = {},
): Promise<Fd> {
  const name = Buffer.from(file);
  for (;;) {
    const fd = Fd.own(check(tryOpen(directory.number, name, O.RDWR | O.CREAT, MODE), 'openat', name));
    try {
      await lock(fd, 'exclusive', options);
    } catch (error) {
      fd.close();
      throw error;
    }
    // Who had it before may have taken the file away: then this is a lock on nothing.
    const [mine, there] = [tryStat(fd.number, null), tryStat(directory.number, name)];
    if (typeof mine !== 'number' && typeof there !== 'number' && mine.identity === there.identity) return fd;
    fd.close();
  }
}

/** Lets go of what {@link lockNamed} took. */
export function unlockNamed(directory: Fd, file: string, fd: Fd): void {
  if (fd.closed) return;
  tryUnlink(directory.number, Buffer.from(file));
  fd.close();
}
