import { attempt, KernelError } from '@iso/sys';
import { check, ERRNO, procPath } from './call.js';

/** Extended attributes by name; a name's bytes are the characters U+0000 to U+00FF. */
export type Xattrs = Map<string, Buffer>;

const list = Buffer.allocUnsafeSlow(65536);
const value = Buffer.allocUnsafeSlow(65536);

/**
 * How the attributes of a file are reached: by its descriptor, or for an O_PATH one (symbolic links, devices) through /proc. A
 * path's final symbolic link is not followed: it is the file itself.
 */
export type XattrTarget = number | { path: Uint8Array | string };

/** What /proc shows of an O_PATH descriptor, for the attributes of what is no file or directory. */
export function throughProc(fd: number): XattrTarget {
  return { path: procPath(fd) };
}

/**
 * A file by its name in an open directory, which is one call instead of three: it is not opened, and where it is a symbolic link that
 * is not followed.
 *
 * @param directory - descriptor
 * @param name - one component
 * @returns for the functions below
 */
export function inDirectory(directory: number, name: Uint8Array): XattrTarget {
  const above = `${procPath(directory)}/`;
  const path = Buffer.allocUnsafe(above.length + name.length + 1);
  path.write(above, 'latin1');
  path.set(name, above.length);
  path[path.length - 1] = 0;
  return { path };
}

function call(target: XattrTarget, verb: 'get' | 'list' | 'set' | 'remove', ...args: (Uint8Array | number)[]): number {
  if (typeof target === 'number') return attempt(`f${verb}xattr`, target, ...args);
  // Through /proc the magic link must be followed, and ends at the file itself.
  const proc = typeof target.path === 'string';
  return attempt(proc ? `${verb}xattr` : `l${verb}xattr`, target.path, ...args);
}

function encode(name: string): Buffer {
  return Buffer.from(`${name}\0`, 'latin1');
}

/**
 * Names of a file's extended attributes.
 *
 * @param target - the file
 * @returns names; none where the file system has none
 */
export function listXattrs(target: XattrTarget): string[] {
  const length = call(target, 'list', list, list.length);
  if (length === -ERRNO.EOPNOTSUPP || length === -ERRNO.ENOSYS || length === 0) return [];
  check(length, 'listxattr');
  return list
    .toString('latin1', 0, length)
    .split('\0')
    .filter((name) => name !== '');
}

/**
 * One attribute.
 *
 * @param target - the file
 * @param name - its name
 * @returns its value, or undefined where there is none
 */
export function getXattr(target: XattrTarget, name: string): Buffer | undefined {
  const length = call(target, 'get', encode(name), value, value.length);
  if (length === -ERRNO.ENODATA || length === -ERRNO.EOPNOTSUPP) return undefined;
  check(length, 'getxattr', Buffer.from(name, 'latin1'));
  return Buffer.from(value.subarray(0, length));
}

/**
 * All attributes that may be read.
 *
 * @param target - the file
 * @param keep - which names count
 * @returns attributes
 */
export function readXattrs(target: XattrTarget, keep: (name: string) => boolean): Xattrs {
  const all: Xattrs = new Map();
  for (const name of listXattrs(target)) {
    const bytes = keep(name) ? getXattr(target, name) : undefined;
    if (bytes) all.set(name, bytes);
  }
  return all;
}

/**
 * Sets an attribute.
 *
 * @param target - the file
 * @param name - its name
 * @param bytes - its value
 * @returns 0, or minus the error number
 */
export function trySetXattr(target: XattrTarget, name: string, bytes: Uint8Array): number {
  return call(target, 'set', encode(name), bytes, bytes.length, 0);
}

/** The same, and throws. */
export function setXattr(target: XattrTarget, name: string, bytes: Uint8Array, hint?: string): void {
  const result = trySetXattr(target, name, bytes);
  if (result < 0)
    throw new KernelError(result, {
      syscall: 'setxattr',
      call: `setxattr(${JSON.stringify(name)})`,
      ...(hint ? { hint } : {}),
    });
}

/**
 * Removes attributes.
 *
 * @param target - the file
 * @param keep - which ones stay
 */
export function dropXattrs(target: XattrTarget, keep: (name: string) => boolean | undefined): void {
  for (const name of listXattrs(target)) {
    if (!keep(name)) check(call(target, 'remove', encode(name)), 'removexattr', Buffer.from(name, 'latin1'));
  }
}
