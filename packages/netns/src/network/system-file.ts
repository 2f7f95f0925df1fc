import { closeSync, constants, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { invalid } from '@iso/sys';

const { O_RDWR, O_CREAT, O_NOFOLLOW, O_NONBLOCK } = constants;

/**
 * Changes a file in place: bind mounts of it show the change. A link in its place is not followed, for it may lie where a container
 * writes.
 *
 * @param path - of a regular file, made where it is missing
 * @param change - is given the text, returns the new one
 * @throws the error of open(2): `ELOOP` for a link
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no regular file
 */
export function changeFile(path: string, change: (text: string) => string): void {
  const fd = openSync(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0o644);
  try {
    if (!fstatSync(fd).isFile()) throw invalid(`${path} is no regular file`);
    const before = readFileSync(fd, 'utf8');
    const after = Buffer.from(change(before));
    if (after.equals(Buffer.from(before))) return;
    // One write, so that who reads meanwhile sees no half of it, unless it got shorter.
    writeSync(fd, after, 0, after.length, 0);
    ftruncateSync(fd, after.length);
  } finally {
    closeSync(fd);
  }
}
