import { attempt, Fd, invalid, KernelError, O } from '@iso/sys';
import { ImageError } from '../content/error.js';
import { check, ERRNO, procPath, text, tryOpenInRoot } from '../file/call.js';
import { stat } from '../file/stat.js';

/** Whose a file is. */
export interface Owner {
  uid: number;
  gid: number;
}

const MOST = 1024 * 1024;
const PASSWD = Buffer.from('etc/passwd');
const GROUP = Buffer.from('etc/group');

/**
 * Finds docker's `NAME|UID[:GROUP|GID]` in the files of an image. Without a group it is the user's own, of a number the same number.
 *
 * @param root - directory of the image's files, which may be an attack: they are read inside of it, as regular files, up to a MiB
 * @param owner - as it was given
 * @returns the ids
 * @throws {@link ImageError} `badStep` for names that are not there
 */
export function findOwner(root: number, owner: string): Owner {
  const [name = '', group, ...rest] = owner.split(':');
  if (name === '' || group === '' || rest.length) throw invalid(`not an owner: ${JSON.stringify(owner)}`);
  let uid = id(name);
  let gid = uid;
  if (uid === undefined) {
    const row = rows(root, PASSWD).find((fields) => fields[0] === name);
    uid = id(row?.[2] ?? '');
    gid = id(row?.[3] ?? '');
    if (uid === undefined || gid === undefined) throw unknown('user', name, 'passwd');
  }
  if (group !== undefined) {
    gid = id(group) ?? id(rows(root, GROUP).find((fields) => fields[0] === group)?.[2] ?? '');
    if (gid === undefined) throw unknown('group', group, 'group');
  }
  return { uid, gid: gid as number };
}

function unknown(what: string, name: string, file: string): ImageError {
  return new ImageError('badStep', `there is no ${what} ${JSON.stringify(name)} in /etc/${file} of the image`);
}

function id(digits: string): number | undefined {
  if (!/^\d+$/.test(digits)) return undefined;
  const number = Number(digits);
  if (number > 0xfffffffe) throw invalid(`not an id: ${digits}`);
  return number;
}

function rows(root: number, path: Buffer): string[][] {
  const opened = tryOpenInRoot(root, path, O.PATH);
  if (opened === -ERRNO.ENOENT || opened === -ERRNO.ENOTDIR) return [];
  if (opened < 0) throw new KernelError(opened, { syscall: 'openat2', path: text(path) });
  // Opening a device is an act of its own.
  using held = Fd.own(opened);
  if (stat(held.number, null).type !== 'file') return [];
  using file = Fd.open(procPath(held.number));
  const bytes = Buffer.alloc(MOST);
  let length = 0;
  for (let got = -1; got !== 0 && length < MOST; length += got) {
    got = check(attempt('read', file.number, bytes.subarray(length), MOST - length), 'read', path);
  }
  const lines = bytes.toString('utf8', 0, length).split('\n');
  // The line that is cut says something else.
  if (length === MOST) lines.pop();
  return lines.map((line) => line.split(':'));
}
