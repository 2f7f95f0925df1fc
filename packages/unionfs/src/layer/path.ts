import { ArchiveError } from '../tar/error.js';

const SLASH = 0x2f;
const DOT = 0x2e;

/**
 * A name of an archive as a path below the root: no slash in front or at the end, no empty component, no `.`.
 *
 * @param path - as the archive has it
 * @returns the path; empty for the root itself
 * @throws {@link ArchiveError} `ERR_ARCHIVE_PATH` where a component is `..`
 */
export function cleanPath(path: Buffer): Buffer {
  const parts: Buffer[] = [];
  let clean = true;
  let start = 0;
  const end = path.length;
  for (let i = 0; i <= end; i++) {
    if (i !== end && path[i] !== SLASH) continue;
    const length = i - start;
    if (length === 0 || (length === 1 && path[start] === DOT)) clean = false;
    else {
      if (length === 2 && path[start] === DOT && path[start + 1] === DOT) {
        throw new ArchiveError('ERR_ARCHIVE_PATH', 'a name with ".."', { path });
      }
      parts.push(path.subarray(start, i));
    }
    start = i + 1;
  }
  if (clean) return path;
  if (parts.length === 0) return EMPTY;
  if (parts.length === 1) return parts[0] as Buffer;
  return joinPath(parts);
}

const EMPTY = Buffer.alloc(0);

/**
 * Joins components.
 *
 * @param parts - bytes each
 * @returns them with slashes between
 */
function joinPath(parts: readonly Uint8Array[]): Buffer {
  const bytes = Buffer.allocUnsafe(parts.reduce((sum, part) => sum + part.length + 1, -1));
  let at = 0;
  for (const [i, part] of parts.entries()) {
    if (i > 0) bytes[at++] = SLASH;
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/**
 * Splits a clean path at its last slash.
 *
 * @param path - clean, not empty
 * @returns the path of the directory, empty for the root, and the last component
 */
export function splitPath(path: Buffer): { parent: Buffer; base: Buffer } {
  const slash = path.lastIndexOf(SLASH);
  return slash < 0
    ? { parent: EMPTY, base: path }
    : { parent: path.subarray(0, slash), base: path.subarray(slash + 1) };
}

/**
 * How many components a clean path has.
 *
 * @param path - clean
 * @returns their number
 */
export function depthOf(path: Buffer): number {
  if (path.length === 0) return 0;
  let depth = 1;
  for (let at = path.indexOf(SLASH); at >= 0; at = path.indexOf(SLASH, at + 1)) depth++;
  return depth;
}
