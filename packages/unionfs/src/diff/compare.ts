import { attempt, O } from '@iso/sys';
import { check, close, open, readlink } from '../file/call.js';
import { archivedXattrs, type Place } from '../layer/describe.js';

/** What about a file changed. `link`: what a symbolic link says, a device's number, or that a file has another name now. */
export type ChangedField = 'type' | 'data' | 'mode' | 'owner' | 'mtime' | 'xattr' | 'link';

/**
 * What differs between two files.
 *
 * @param before - the one
 * @param after - the other
 * @param content - `read` compares every byte; `stamp` takes files of one size and time of change for equal
 * @returns fields; none for files that are the same
 */
export function compare(before: Place, after: Place, content: 'read' | 'stamp'): ChangedField[] {
  const [a, b] = [before.stat, after.stat];
  if (a.identity === b.identity) return [];
  if (a.type !== b.type) return ['type'];
  const fields: ChangedField[] = [];
  if (b.type === 'file' && !sameData(before, after, content)) fields.push('data');
  if (a.mode !== b.mode) fields.push('mode');
  if (a.uid !== b.uid || a.gid !== b.gid) fields.push('owner');
  if (a.mtime !== b.mtime) fields.push('mtime');
  if (!sameXattrs(before, after)) fields.push('xattr');
  if (!sameLink(before, after)) fields.push('link');
  return fields;
}

function sameData(before: Place, after: Place, content: 'read' | 'stamp'): boolean {
  const { size } = after.stat;
  if (before.stat.size !== size) return false;
  if (size === 0 || (content === 'stamp' && before.stat.mtime === after.stat.mtime)) return true;
  const a = open(before.directory, before.name, O.RDONLY | O.NONBLOCK);
  try {
    const b = open(after.directory, after.name, O.RDONLY | O.NONBLOCK);
    try {
      return sameBytes(a, b, size);
    } finally {
      close(b);
    }
  } finally {
    close(a);
  }
}

const CHUNK = 128 * 1024;
const buffers = [Buffer.allocUnsafeSlow(CHUNK), Buffer.allocUnsafeSlow(CHUNK)] as const;

function sameBytes(a: number, b: number, size: number): boolean {
  for (let at = 0; at < size; at += CHUNK) {
    const length = Math.min(CHUNK, size - at);
    for (const [i, fd] of [a, b].entries()) {
      let have = 0;
      while (have < length) {
        const read = attempt('pread64', fd, buffers[i as 0 | 1].subarray(have, length), length - have, at + have);
        if (read === -4) continue;
        if (check(read, 'pread64') === 0) return false;
        have += read;
      }
    }
    if (buffers[0].compare(buffers[1], 0, length, 0, length) !== 0) return false;
  }
  return true;
}

function sameXattrs(before: Place, after: Place): boolean {
  if (after.stat.type === 'socket') return true;
  const [a, b] = [archivedXattrs(before), archivedXattrs(after)];
  return a.size === b.size && [...a].every(([name, value]) => b.get(name)?.equals(value));
}

function sameLink(before: Place, after: Place): boolean {
  const { type, rdev } = after.stat;
  if (type === 'symlink') {
    return readlink(before.directory, before.name).equals(readlink(after.directory, after.name));
  }
  const other = before.stat.rdev;
  return (type !== 'character' && type !== 'block') || (rdev.major === other.major && rdev.minor === other.minor);
}
