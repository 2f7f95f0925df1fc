import { AT, attempt, O } from '@iso/sys';
import { check, close, ERRNO, tryOpen, tryRename, tryUnlink } from './call.js';

/** A name in a directory. */
export interface DirectoryEntry {
  name: Buffer;
  /** As readdir says; some file systems do not know. */
  type: 'directory' | 'other' | 'unknown';
}

const DT_DIR = 4;
const buffer = Buffer.allocUnsafeSlow(32768);

/**
 * The names in a directory, but `.` and `..`, from where its descriptor stands.
 *
 * @param fd - a directory, open for reading
 * @returns names as bytes, in the file system's order
 */
export function readDirectory(fd: number): DirectoryEntry[] {
  const entries: DirectoryEntry[] = [];
  for (;;) {
    const length = check(attempt('getdents64', fd, buffer, buffer.length), 'getdents64');
    if (length === 0) return entries;
    for (let at = 0; at < length; at += buffer.readUInt16LE(at + 16)) {
      const start = at + 19;
      const end = buffer.indexOf(0, start);
      if (buffer[start] === 0x2e && (end === start + 1 || (end === start + 2 && buffer[start + 1] === 0x2e))) continue;
      const type = buffer[at + 18];
      entries.push({
        name: Buffer.from(buffer.subarray(start, end)),
        type: type === DT_DIR ? 'directory' : type === 0 ? 'unknown' : 'other',
      });
    }
  }
}

/** Descriptors that are open at once while a tree is removed. */
const DEPTH = 64;
let serial = 0;

/**
 * Removes a file or a whole directory, never through a symbolic link. Trees that are deeper than descriptors can reach are moved up
 * while they are removed.
 *
 * @param directory - descriptor of the directory that it lies in
 * @param name - its name; where nothing has it, nothing happens
 * @throws KernelError `EBUSY` for a mount point, `EPERM` for an immutable file
 */
export function removeTree(directory: number, name: Uint8Array): void {
  const result = tryUnlink(directory, name);
  if (result === 0 || result === -ERRNO.ENOENT) return;
  // Linux says EISDIR of a directory, POSIX allows EPERM.
  if (result !== -ERRNO.EISDIR && result !== -ERRNO.EPERM) check(result, 'unlinkat', name);
  if (result === -ERRNO.EPERM && tryUnlink(directory, name, AT.REMOVEDIR) === -ERRNO.ENOTDIR)
    check(result, 'unlinkat', name, 'the file may be immutable, see chattr(1)');
  const fd = tryOpen(directory, name, O.RDONLY | O.DIRECTORY);
  if (fd === -ERRNO.ENOENT) return;
  check(fd, 'openat', name);
  try {
    empty(fd, fd, 0);
  } finally {
    close(fd);
  }
  check(tryUnlink(directory, name, AT.REMOVEDIR), 'unlinkat', name);
}

function empty(top: number, fd: number, depth: number): void {
  for (;;) {
    // What is moved up while this runs is found by reading once more.
    attempt('lseek', fd, 0, 0);
    const entries = readDirectory(fd);
    if (entries.length === 0) return;
    for (const { name, type } of entries) {
      if (type !== 'directory') {
        const result = tryUnlink(fd, name);
        if (result === 0 || result === -ERRNO.ENOENT) continue;
        if (result !== -ERRNO.EISDIR) check(result, 'unlinkat', name);
      }
      if (tryUnlink(fd, name, AT.REMOVEDIR) === 0) continue;
      if (depth >= DEPTH) {
        check(tryRename(fd, name, top, Buffer.from(`.iso-removed-${process.pid}-${serial++}`)), 'renameat2', name);
        continue;
      }
      const child = check(tryOpen(fd, name, O.RDONLY | O.DIRECTORY), 'openat', name);
      try {
        empty(top, child, depth + 1);
      } finally {
        close(child);
      }
      check(tryUnlink(fd, name, AT.REMOVEDIR), 'unlinkat', name);
    }
  }
}
