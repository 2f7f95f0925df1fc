import { Fd, O, syscall } from '@iso/sys';
import { close, tryOpenInRoot } from '../file/call.js';
import { removeTree } from '../file/directory.js';

const INCOMPAT = Buffer.from('work/incompat');
const MARK = Buffer.from('volatile');

/**
 * Whether a volatile overlay has used a work directory and was not ended cleanly since; the kernel refuses the next mount then.
 *
 * @param work - the work directory
 * @returns whether the mark is there
 */
export function volatileMark(work: Fd): boolean {
  const fd = tryOpenInRoot(work.number, Buffer.concat([INCOMPAT, Buffer.from('/'), MARK]), O.PATH);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

/**
 * Ends the use of a writable layer by a volatile overlay that has been unmounted: writes everything to the disk, then takes the
 * mark away. Not after a crash: what was lost then is lost, discard the layer.
 *
 * @param work - the work directory
 * @throws KernelError `EIO` where the disk did not take it
 */
export function settleVolatile(work: string | Fd): void {
  using directory = typeof work === 'string' ? Fd.open(work, { directory: true }) : Fd.borrow(work);
  using readable = Fd.own(syscall('openat', directory, '.', O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0));
  syscall('syncfs', readable);
  const incompat = tryOpenInRoot(directory.number, INCOMPAT, O.PATH | O.DIRECTORY);
  if (incompat < 0) return;
  try {
    removeTree(incompat, MARK);
  } finally {
    close(incompat);
  }
}
