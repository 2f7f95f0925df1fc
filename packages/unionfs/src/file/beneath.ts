import { constants, type FileHandle, open } from 'node:fs/promises';
import { Fd, KernelError, O, RESOLVE } from '@iso/sys';
import { ERRNO, procPath, tryOpenInRoot } from './call.js';
import { kernel } from './node.js';
import { stat } from './stat.js';

/**
 * Opens a file for reading that somebody else has put below a directory: no symbolic link is followed on the way, and nothing but a
 * file is opened.
 *
 * @param directory - where it lies
 * @param path - below it
 * @returns the file; nothing where that is no file, or lies behind a link
 * @throws KernelError `ENOENT` …
 */
export async function openBeneath(directory: string, path: string): Promise<FileHandle | undefined> {
  using root = Fd.open(directory, { directory: true, path: true });
  const found = tryOpenInRoot(
    root.number,
    Buffer.from(path),
    O.PATH | O.NOFOLLOW,
    RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS,
  );
  if (found === -ERRNO.ELOOP || found === -ERRNO.EXDEV) return undefined;
  if (found < 0) throw new KernelError(found, { syscall: 'openat2', path });
  using file = Fd.own(found);
  if (stat(file.number, null).type !== 'file') return undefined;
  return await kernel(open(procPath(file.number), constants.O_RDONLY));
}
