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
  let start = 0;
  let end = path.length;
  // What archivers put in front of names, and behind those of directories.
  if (path[0] === DOT && path[1] === SLASH) start = 2;
  if (end > start && path[end - 1] === SLASH) end--;
  for (let from = start, i = start; i <= end; i++) {
    if (i !== end && path[i] !== SLASH) continue;
    const length = i - from;
    if (length === 0 || (path[from] === DOT && length <= 2)) return normalize(path);
    from = i + 1;
  }
  return end - start === path.length ? path : path.subarray(start, end);
}

/** The same for any name. */
function normalize(path: Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let start = 0, i = 0; i <= path.length; i++) {
    if (i !== path.length && path[i] !== SLASH) continue;
    const part = path.subarray(start, i);
    start = i + 1;
    if (part.length === 0 || (part.length === 1 && part[0] === DOT)) continue;
    if (part.length === 2 && part[0] === DOT && part[1] === DOT) {
      throw new ArchiveError('ERR_ARCHIVE_PATH', 'a name with ".."', { path });
    }
    parts.push(part);
  }
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
  if (parts.length === 0) return EMPTY;
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
  // Names are short: faster than a call of native code.
  let slash = path.length - 1;
  while (slash >= 0 && path[slash] !== SLASH) slash--;
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
  let depth = path.length === 0 ? 0 : 1;
  for (let i = 0; i < path.length; i++) if (path[i] === SLASH) depth++;
  return depth;
}
