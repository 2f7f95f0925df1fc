import { posix } from 'node:path';
import { Fd, O } from '@iso/sys';
import { check, close, open, realPath, tryOpenInRoot } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { stat } from '../file/stat.js';
import { ArchiveError } from '../tar/error.js';
import type { DescribeSettings } from './describe.js';
import { cleanPath, splitPath } from './path.js';
import { LayerWriter, type PackWarning } from './writer.js';

/** How {@link packTree} works. */
export interface PackOptions extends DescribeSettings {
  /** Told what was left out. */
  onWarning?: (warning: PackWarning) => void;
}

/** Directories inside of one another that are open at once. */
const MAX_DEPTH = 1024;

/**
 * A whole directory as a tar archive, in the order of the names' bytes. The root itself is the entry `./`. Mounts below it are
 * packed too, sockets left out.
 *
 * @param directory - what to pack
 * @param options - see {@link PackOptions}
 * @returns the archive's bytes, as they are asked for
 * @throws KernelError where something cannot be read
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
 * import { packTree, readTar } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-pack-');
 * writeFileSync(`${directory}/a`, 'hello');
 * const names: string[] = [];
 * for await (const entry of readTar(packTree(directory))) names.push(entry.path.toString());
 * rmSync(directory, { recursive: true });
 * if (names.join() !== './,a') throw new Error(names.join());
 * ```
 */
export function* packTree(directory: string | Fd, options: PackOptions = {}): Generator<Buffer, void, undefined> {
  const { onWarning, ...settings } = options;
  const writer = new LayerWriter(settings, { layer: false, ...(onWarning ? { warn: onWarning } : {}) });
  using root = typeof directory === 'string' ? Fd.open(directory, { directory: true }) : Fd.borrow(directory);
  yield* writer.file({ directory: root.number, name: DOT, stat: stat(root.number, null) }, DOT);
  const fd = open(root.number, DOT, O.RDONLY | O.DIRECTORY);
  try {
    yield* pack(writer, fd, EMPTY, 0);
  } finally {
    close(fd);
  }
  yield writer.end();
}

/** How {@link packPath} works. */
export interface PackPathOptions extends PackOptions {
  /** What it is called in the archive; default is its own last component, `.` for the content of the root. */
  name?: string;
  /** A symbolic link at the end of the path is followed; default is to pack the link. */
  follow?: boolean;
}

/**
 * One file or directory as a tar archive, with what is in it. The path is resolved inside a root, as if that were "/": no symbolic link,
 * nor `..`, leads out of it.
 *
 * @param root - directory
 * @param path - below it; with a slash at its end a directory
 * @param options - see {@link PackPathOptions}
 * @returns the archive's bytes, as they are asked for
 * @throws KernelError `ENOENT` …
 *
 * @example
 * ```ts
 * import { packPath, readTar } from '@iso/unionfs';
 * for await (const { path } of readTar(packPath('/', '/etc/hostname', { name: 'box' }))) {
 *   if (String(path) !== 'box') throw new Error(String(path));
 * }
 * ```
 */
export function* packPath(
  root: string | Fd,
  path: string,
  options: PackPathOptions = {},
): Generator<Buffer, void, undefined> {
  const { onWarning, name, follow = false, ...settings } = options;
  const writer = new LayerWriter(settings, { layer: false, ...(onWarning ? { warn: onWarning } : {}) });
  using top = typeof root === 'string' ? Fd.open(root, { directory: true }) : Fd.borrow(root);
  const slash = /(^|\/)\.?$/.test(path);
  const flags = O.PATH | (slash ? O.DIRECTORY : follow ? 0 : O.NOFOLLOW);
  using held = Fd.own(check(tryOpenInRoot(top.number, Buffer.from(path), flags), 'openat2', Buffer.from(path)));
  const found = stat(held.number, null);
  const own = splitPath(cleanPath(Buffer.from(posix.normalize(`/${path}`)))).base;
  const called = name === undefined ? (own.length ? own : DOT) : Buffer.from(name);
  if (found.type === 'directory') {
    yield* writer.file({ directory: held.number, name: DOT, stat: found }, called);
    const fd = open(held.number, DOT, O.RDONLY | O.DIRECTORY);
    try {
      yield* pack(writer, fd, called.equals(DOT) ? EMPTY : called, 0);
    } finally {
      close(fd);
    }
  } else {
    // By its name in a directory that is held: what is opened is a file of that directory, whatever it has become.
    const real = realPath(top.number, held.number);
    const { parent, base } = splitPath(real);
    using directory = Fd.own(check(tryOpenInRoot(top.number, parent, O.PATH | O.DIRECTORY), 'openat2', parent));
    yield* writer.file({ directory: directory.number, name: base, stat: stat(directory.number, base) }, called);
  }
  yield writer.end();
}

const DOT = Buffer.from('.');
const EMPTY = Buffer.alloc(0);
const SLASH = Buffer.from('/');

function* pack(writer: LayerWriter, fd: number, path: Buffer, depth: number): Generator<Buffer, void, undefined> {
  if (depth > MAX_DEPTH)
    throw new ArchiveError('ERR_ARCHIVE_LIMIT', 'directories are too deep inside another', { path });
  const prefix = path.length ? Buffer.concat([path, SLASH]) : EMPTY;
  const names = readDirectory(fd).map((entry) => entry.name);
  for (const name of names.sort(Buffer.compare)) {
    const place = { directory: fd, name, stat: stat(fd, name) };
    const full = Buffer.concat([prefix, name]);
    yield* writer.file(place, full);
    if (place.stat.type !== 'directory') continue;
    const child = open(fd, name, O.RDONLY | O.DIRECTORY);
    try {
      yield* pack(writer, child, full, depth + 1);
    } finally {
      close(child);
    }
  }
}
