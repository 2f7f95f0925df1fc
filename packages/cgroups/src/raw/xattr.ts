import { attempt, invalid, UnsupportedError } from '@iso/sys';
import { E } from '../error.js';
import { shown } from '../value.js';
import type { CgroupDirectory } from './directory.js';

const NODATA = 61;
/** The kernel's largest value, and largest list of names. */
const LARGEST = 65_536;
const LONGEST_NAME = 255;

/** Names of a group's extended attributes, see xattr(7): those that this user may see. */
export function xattrNames(directory: CgroupDirectory): string[] {
  const names = Buffer.alloc(LARGEST);
  const length = done(attempt('flistxattr', directory.fd, names, names.length), directory, 'flistxattr');
  return names
    .toString('utf8', 0, length)
    .split('\0')
    .filter((name) => name !== '');
}

/** Value of one; undefined where there is none. */
export function getXattr(directory: CgroupDirectory, name: string): Buffer | undefined {
  const value = Buffer.alloc(LARGEST);
  const length = attempt('fgetxattr', directory.fd, checked(name), value, value.length);
  if (length === -NODATA) return undefined;
  return Buffer.from(value.subarray(0, done(length, directory, 'fgetxattr', name)));
}

/** Sets one; undefined takes it away, which is nothing where there is none. */
export function setXattr(directory: CgroupDirectory, name: string, value: string | Uint8Array | undefined): void {
  if (value === undefined) {
    const result = attempt('fremovexattr', directory.fd, checked(name));
    if (result !== -NODATA) done(result, directory, 'fremovexattr', name);
    return;
  }
  if (typeof value !== 'string' && !(value instanceof Uint8Array))
    throw invalid(`the value of ${shown(name)} must be text or bytes`);
  const bytes = Buffer.from(value);
  if (bytes.length > LARGEST) throw invalid(`the value of ${name} has ${bytes.length} bytes, more than ${LARGEST}`);
  done(attempt('fsetxattr', directory.fd, checked(name), bytes, bytes.length, 0), directory, 'fsetxattr', name);
}

/** `user.` is for everybody who may write the directory, `trusted.` for CAP_SYS_ADMIN in the first user namespace. */
function checked(name: string): string {
  if (
    typeof name !== 'string' ||
    !/^(user|trusted|security)\.[^\0]+$/.test(name) ||
    Buffer.byteLength(name) > LONGEST_NAME
  ) {
    throw invalid(`an extended attribute is user.NAME, trusted.NAME or security.NAME, not ${shown(name)}`);
  }
  return name;
}

function done(result: number, directory: CgroupDirectory, syscall: string, name?: string): number {
  if (result >= 0) return result;
  if (result === -E.OPNOTSUPP) {
    throw new UnsupportedError(name ?? 'xattrs', `${directory.path} takes none of this kind`, { since: '5.7' });
  }
  throw directory.failure(result, syscall);
}
