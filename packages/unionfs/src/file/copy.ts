import { attempt } from '@iso/sys';
import { check, ERRNO, writeAll } from './call.js';

const FICLONE = 0x40049409;
const SEEK = { SET: 0, DATA: 3, HOLE: 4 } as const;
const ENXIO = 6;
const CHUNK = 512 * 1024;

/**
 * Makes a file's blocks those of another, where the file system can share them (btrfs, xfs).
 *
 * @param from - open for reading
 * @param to - empty, open for writing
 * @returns whether it could
 */
function reflink(from: number, to: number): boolean {
  return attempt('ioctl', to, FICLONE, from) >= 0;
}

/**
 * Copies a file's content: shared where the file system can, else its data in the kernel; holes stay holes.
 *
 * @param from - open for reading
 * @param to - empty, open for writing
 * @param size - of the content
 * @returns where the data ends; what is missing of the size is a hole
 * @throws KernelError `ENOSPC`, `EIO`
 */
export function copyData(from: number, to: number, size: number): number {
  if (size === 0) return 0;
  if (reflink(from, to)) return size;
  let end = 0;
  for (let at = 0; at < size; at = end) {
    const data = attempt('lseek', from, at, SEEK.DATA);
    if (data === -ENXIO) break;
    const start = data < 0 ? at : data;
    const hole = data < 0 ? size : attempt('lseek', from, start, SEEK.HOLE);
    const stop = hole < 0 ? size : Math.min(hole, size);
    if (stop <= start) break;
    copyRange(from, to, start, stop);
    end = stop;
  }
  return end;
}

function copyRange(from: number, to: number, start: number, stop: number): void {
  check(attempt('lseek', from, start, SEEK.SET), 'lseek');
  check(attempt('lseek', to, start, SEEK.SET), 'lseek');
  let buffer: Buffer | undefined;
  for (let at = start; at < stop; ) {
    if (!buffer) {
      const length = attempt('copy_file_range', from, null, to, null, stop - at, 0);
      if (length > 0) {
        at += length;
        continue;
      }
      if (
        length < 0 &&
        ![ERRNO.EXDEV, ERRNO.EINVAL, ERRNO.ENOSYS, ERRNO.EOPNOTSUPP].some((errno) => length === -errno)
      ) {
        check(length, 'copy_file_range');
      }
      buffer = Buffer.allocUnsafe(CHUNK);
    }
    const length = check(attempt('read', from, buffer, Math.min(CHUNK, stop - at)), 'read');
    if (length === 0) return;
    writeAll(to, buffer.subarray(0, length));
    at += length;
  }
}
