import { AT, attempt, Fd, KernelError, O } from '@iso/sys';
import { ImageError } from '../content/error.js';
import { check, close, ERRNO, open, procPath, realPath, text, tryMkdir, tryOpenInRoot } from '../file/call.js';
import { stat } from '../file/stat.js';
import { describe } from '../layer/describe.js';
import { Extractor } from '../layer/extract.js';
import { splitPath } from '../layer/path.js';
import type { TarEntry } from '../tar/entry.js';
import type { Owner } from './owner.js';
import { type Source, type SourceRoot, walkSource } from './source.js';

/** How files are placed. */
export interface PlaceSettings {
  /** Whose they become; undefined keeps whose they are. */
  owner: Owner | undefined;
  /** Permission bits that they get; undefined keeps theirs. */
  mode: number | undefined;
}

/** Where files go. */
export interface Destination {
  /** Absolute, without `..`. */
  path: string;
  /** It is one, whether it is there or not. */
  directory: boolean;
}

const SLASH = Buffer.from('/');
const ROOT: Owner = { uid: 0, gid: 0 };

/**
 * Copies files into a root file system, inside which all symbolic links are resolved. Times, attributes, holes and hard links stay.
 *
 * @param target - its directory
 * @param root - where the files are
 * @param sources - of the same root
 * @param to - where they go
 * @param settings - owner and mode
 * @throws {@link ImageError} `badStep` where something else is in the way, KernelError
 */
export function placeSources(
  target: Fd,
  root: SourceRoot,
  sources: readonly Source[],
  to: Destination,
  settings: PlaceSettings,
): void {
  const directory = to.directory || sources.length > 1 || isDirectory(target, to.path);
  using extractor = new Extractor(target, { unsupported: 'error', owner: 'archive' }, () => {});
  for (const source of sources) {
    const whole = source.stat.type === 'directory';
    const base = whole || directory ? makeDirectory(target, to.path, settings.owner).real : undefined;
    const at = whole ? (base as Buffer) : base ? join(base, source.name) : fileTarget(target, to.path, settings.owner);
    const linked = new Map<string, Buffer>();
    for (const { path, place } of walkSource(root, source)) {
      // A directory is not copied, what it holds is.
      if (whole && path.length === 0) continue;
      const entry = describe(place, join(at, path), {});
      if (!entry) continue;
      const first = place.stat.links > 1 && entry.type !== 'directory' ? linked.get(place.stat.identity) : undefined;
      if (!first && place.stat.links > 1) linked.set(place.stat.identity, join(at, path));
      const placed: TarEntry = {
        ...entry,
        ...settings.owner,
        ...(settings.mode === undefined || entry.type === 'symlink' ? {} : { mode: settings.mode }),
        ...(first ? { type: 'link', linkpath: first, size: 0 } : {}),
      };
      inTheWay(target, join(at, path), entry.type === 'directory');
      extractor.entry(placed);
      if (placed.type !== 'file') continue;
      const content = open(place.directory, place.name, O.RDONLY | O.NONBLOCK);
      try {
        extractor.copy(content);
      } finally {
        close(content);
      }
      extractor.end();
    }
  }
  extractor.finish();
}

/** A file that comes from nowhere in a tree. */
export interface LooseFile {
  /** What it is called in a directory; asked for only where it goes into one. */
  name(): string;
  /** Bytes, or a descriptor of what has `size`. */
  content: Uint8Array | number;
  size: number;
  mode: number;
  /** Nanoseconds since 1970. */
  mtime: bigint;
}

/**
 * Writes files that come from nowhere in a tree: root's, unless it is said whose.
 *
 * @param target - directory of a root file system
 * @param files - what they are
 * @param to - where they go
 * @param settings - owner and mode
 */
export function placeFiles(target: Fd, files: readonly LooseFile[], to: Destination, settings: PlaceSettings): void {
  const directory = to.directory || files.length > 1 || isDirectory(target, to.path);
  using extractor = new Extractor(target, { owner: 'archive' }, () => {});
  for (const { name, content, size, mode, mtime } of files) {
    const at = directory
      ? join(makeDirectory(target, to.path, settings.owner).real, Buffer.from(name()))
      : fileTarget(target, to.path, settings.owner);
    inTheWay(target, at, false);
    extractor.entry({ path: at, type: 'file', mode: settings.mode ?? mode, size, mtime, ...(settings.owner ?? ROOT) });
    if (typeof content === 'number') extractor.copy(content);
    else extractor.data(Buffer.from(content), 0);
    extractor.end();
  }
  extractor.finish();
}

/**
 * Makes a directory, and those above that are missing, mode 0755.
 *
 * @param target - directory of a root file system
 * @param path - absolute
 * @param owner - of those that are made
 * @returns where it really is below the root, and whether anything was made
 */
export function makeDirectory(target: Fd, path: string, owner: Owner = ROOT): { real: Buffer; made: boolean } {
  const parts = path.split('/').filter((part) => part !== '');
  let at = Buffer.alloc(0);
  let anything = false;
  for (const part of parts) {
    const name = Buffer.from(part);
    const next = join(at, name);
    let fd = tryOpenInRoot(target.number, next, O.PATH | O.DIRECTORY);
    if (fd === -ERRNO.ENOENT) {
      using above = Fd.own(check(tryOpenInRoot(target.number, at, O.PATH | O.DIRECTORY), 'openat2', at));
      const made = tryMkdir(above.number, name, 0o755);
      if (made === -ERRNO.EEXIST)
        throw new ImageError('badStep', `/${text(next)} is a symbolic link that leads nowhere`);
      check(made, 'mkdirat', next);
      anything = true;
      fd = check(tryOpenInRoot(target.number, next, O.PATH | O.DIRECTORY), 'openat2', next);
      check(attempt('fchownat', fd, NOTHING, owner.uid, owner.gid, AT.EMPTY_PATH), 'fchownat', next);
      check(attempt('fchmodat', AT.FDCWD, procPath(fd), 0o755), 'fchmodat', next);
    }
    if (fd === -ERRNO.ENOTDIR) throw new ImageError('badStep', `/${text(next)} is there already, and no directory`);
    using opened = Fd.own(check(fd, 'openat2', next));
    at = Buffer.from(realPath(target.number, opened.number));
  }
  return { real: at, made: anything };
}

const NOTHING = Buffer.from('\0');

/** Where a file of a path goes: what is there already is replaced where it really is. */
function fileTarget(target: Fd, path: string, owner: Owner | undefined): Buffer {
  const fd = tryOpenInRoot(target.number, Buffer.from(path), O.PATH);
  if (fd >= 0) {
    using there = Fd.own(fd);
    return Buffer.from(realPath(target.number, there.number));
  }
  if (fd !== -ERRNO.ENOENT && fd !== -ERRNO.ENOTDIR) throw new KernelError(fd, { syscall: 'openat2', path });
  const { parent, base } = splitPath(Buffer.from(path.slice(1)));
  return join(makeDirectory(target, `/${parent}`, owner).real, base);
}

function isDirectory(target: Fd, path: string): boolean {
  const fd = tryOpenInRoot(target.number, Buffer.from(path), O.PATH | O.DIRECTORY);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

/** A directory takes no other's place, nor the other way round: who copies a tree would lose another. */
function inTheWay(target: Fd, path: Buffer, directory: boolean): void {
  const fd = tryOpenInRoot(target.number, path, O.PATH | O.NOFOLLOW);
  if (fd < 0) return;
  using there = Fd.own(fd);
  const is = stat(there.number, null).type === 'directory';
  if (is === directory) return;
  const why = directory ? 'no directory: one cannot be copied there' : 'a directory: a file cannot be copied there';
  throw new ImageError('badStep', `/${text(path)} is there already, and ${why}`);
}

function join(directory: Buffer, name: Buffer): Buffer {
  if (directory.length === 0 || name.length === 0) return directory.length ? directory : name;
  return Buffer.concat([directory, SLASH, name]);
}
