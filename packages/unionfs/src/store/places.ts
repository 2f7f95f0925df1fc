import { Fd, KernelError, O } from '@iso/sys';
import { check, ERRNO, tryMkdir, tryOpen } from '../file/call.js';
import { stat } from '../file/stat.js';
import { StoreError } from './error.js';

const NAMES = ['layers', 'snapshots', 'holds', 'locks', 'leases', 'images'] as const;

/** Directories that a store consists of: `layers` is its driver's. */
export type Places = Readonly<Record<(typeof NAMES)[number], Fd>>;

/**
 * Opens the directories of a store, and makes those that are missing. None may be a link, or a place where others put files: they
 * could lead the store elsewhere, which writes as root.
 *
 * @param root - the store's directory
 * @param path - its path, for messages
 * @returns them
 * @throws StoreError `exposed`
 */
export function openPlaces(root: Fd, path: string): Places {
  checkPrivate(root, path);
  const opened: Fd[] = [];
  try {
    const places = NAMES.map((name) => {
      const there = `${path}/${name}`;
      const fd = openPlace(root, Buffer.from(name), there);
      opened.push(fd);
      checkPrivate(fd, there);
      return [name, fd] as const;
    });
    return Object.fromEntries(places) as Places;
  } catch (error) {
    for (const fd of opened) fd.close();
    throw error;
  }
}

function openPlace(root: Fd, name: Buffer, path: string): Fd {
  const made = tryMkdir(root.number, name, 0o700);
  if (made !== -ERRNO.EEXIST) check(made, 'mkdirat', Buffer.from(path));
  const fd = tryOpen(root.number, name, O.RDONLY | O.DIRECTORY);
  if (fd === -ERRNO.ENOTDIR || fd === -ERRNO.ELOOP) {
    const cause = new KernelError(fd, { syscall: 'openat', path });
    const hint = 'a store is one directory with all that is in it: move what the link leads to there';
    throw new StoreError('exposed', `${path} is a link or a file, and no directory`, { hint, cause });
  }
  return Fd.own(check(fd, 'openat', Buffer.from(path)));
}

/** Refuses a directory in which others than this user and root make files. */
function checkPrivate(fd: Fd, path: string): void {
  const { uid, mode } = stat(fd.number, null);
  const exposed = (what: string, hint: string) => new StoreError('exposed', `${path} ${what}`, { hint });
  if (uid !== 0 && uid !== process.geteuid?.()) throw exposed(`belongs to user ${uid}`, 'choose one of your own');
  if (mode & 0o022) {
    throw exposed(`can be written by others (mode 0${mode.toString(8)})`, `chmod go-w ${path}, or choose another one`);
  }
}
