import { AT, attempt, type Fd, KernelError, O } from '@iso/sys';
import {
  check,
  close,
  deviceNumber,
  ERRNO,
  procPath,
  tryLink,
  tryMkdir,
  tryMknod,
  tryOpen,
  tryOpenInRoot,
  trySymlink,
  tryUnlink,
  tryUtimens,
  writeAll,
} from '../file/call.js';
import { copyData } from '../file/copy.js';
import { removeTree } from '../file/directory.js';
import { type IdMaps, mapId } from '../file/idmap.js';
import { type Stat, tryStat } from '../file/stat.js';
import { dropXattrs, throughProc, trySetXattr, type XattrTarget } from '../file/xattr.js';
import type { TarEntry } from '../tar/entry.js';
import { ArchiveError } from '../tar/error.js';
import type { TarHandler } from '../tar/parser.js';
import { Below } from './below.js';
import { Defaults } from './defaults.js';
import { joinReal, openReal, type Parent, Parents } from './parents.js';
import { cleanPath, depthOf, splitPath } from './path.js';
import { appliedXattr, opaqueName, whiteoutMeaning } from './whiteout.js';

/**
 * What the directory is that a layer is unpacked to:
 *
 * - `overlay`, `userxattr`, `aufs`: the layer alone, with its whiteouts as that union file system wants them
 * - `plain`: a copy of the layers below; whiteouts remove what they hide
 * - `tree`: no layer at all, names that begin with `.wh.` mean nothing
 */
export type ExtractFormat = 'overlay' | 'userxattr' | 'aufs' | 'plain' | 'tree';

/** Something that was not made as the archive says. */
export interface ExtractWarning {
  /**
   * `device`, `xattr`, `owner`: the file system or the caller's privileges did not allow it, what is there is less than the archive says;
   * `metadata`: what never belongs to a layer's content: aufs's own files, attributes of a machine.
   */
  kind: 'device' | 'xattr' | 'owner' | 'metadata';
  /** The entry. */
  path: Buffer;
  /** What was left out, and why. */
  message: string;
}

/** How an archive is unpacked. All of it is plain data, so that it can be sent to a worker thread. */
export interface ExtractSettings {
  /** Default `tree`. */
  format?: ExtractFormat;
  /** The layer is the lowest: its whiteouts hide nothing and are left out. */
  base?: boolean;
  /** `archive`: who the archive says, the default for root; `caller`: who unpacks, the default for others. */
  owner?: 'archive' | 'caller';
  /** Ids of the archive and what they become. */
  idmap?: IdMaps;
  /**
   * What cannot be made here (devices, attributes, owners) is an error, or left out with a warning; a file whose owner could not be set
   * loses its setuid and setgid bits then. Default `error`.
   */
  unsupported?: 'error' | 'warn';
  /** Components that a path may have; default 1024. */
  maxDepth?: number;
  /** What archives that were unpacked there before made without a word on it: their `Unpacked.implied`. */
  implied?: readonly Uint8Array[];
}

interface Owner {
  uid: number;
  gid: number;
}

/** The bits that let a program run as its file's owner or group. */
const SETID = 0o6000;
const KINDS = { character: 0o020000, block: 0o060000, fifo: 0o010000 } as const;
const NEW_FILE = O.CREAT | O.EXCL | O.WRONLY;

/**
 * Unpacks the entries of an archive below a directory. Every name is resolved inside that directory by the kernel (openat2), every
 * change is made on a descriptor or in an open directory, never through a symbolic link: nothing outside is reached, whatever the
 * archive holds. Owners, modes, attributes and times of directories come last, deepest content first.
 */
export class Extractor implements TarHandler {
  readonly #root: number;
  readonly #settings: ExtractSettings;
  readonly #format: ExtractFormat;
  readonly #layer: 'overlay' | 'userxattr' | 'aufs' | undefined;
  readonly #asArchived: boolean;
  readonly #warn: (warning: ExtractWarning) => void;
  readonly #parents: Parents;
  readonly #below: Below;
  /** Directories whose attributes are still to be set, by where they really are. */
  readonly #directories = new Map<string, TarEntry>();
  /** Directories that were missing and were made, and that nothing has been said of; by where they really are. */
  readonly #made: Set<string>;
  #file: { fd: number; entry: TarEntry; at: number; parent: Parent } | undefined;
  readonly #defaults = new Defaults();

  /**
   * @param root - directory; stays the caller's
   * @param settings - see {@link ExtractSettings}
   * @param warn - told of what was left out
   */
  constructor(root: Fd, settings: ExtractSettings, warn: (warning: ExtractWarning) => void) {
    this.#root = root.number;
    this.#settings = settings;
    this.#format = settings.format ?? 'tree';
    this.#layer = this.#format === 'plain' || this.#format === 'tree' ? undefined : this.#format;
    this.#asArchived = (settings.owner ?? (process.geteuid?.() === 0 ? 'archive' : 'caller')) === 'archive';
    this.#warn = warn;
    // The root is there, and as it was until an archive tells of it.
    const implied = settings.implied ?? [EMPTY_PATH];
    this.#made = new Set(implied.map((path) => Buffer.from(path).toString('latin1')));
    this.#below = new Below(this.#root, this.#format, settings.base ?? false, () => this.#parents.clear());
    this.#parents = new Parents(this.#root, (directory, name) => this.#makeImplied(directory, name));
  }

  /** Directories that archives hold files of and say nothing about, each behind the one that it lies in; empty is the root. */
  get implied(): Buffer[] {
    return [...this.#made].filter((path) => !this.#below.renewed.has(path)).map((path) => Buffer.from(path, 'latin1'));
  }

  /** {@inheritDoc TarHandler.entry} */
  entry(entry: TarEntry): void {
    const path = cleanPath(entry.path);
    if (depthOf(path) > (this.#settings.maxDepth ?? 1024)) {
      throw new ArchiveError('ERR_ARCHIVE_LIMIT', 'a path of too many components', { path });
    }
    if (path.length === 0) return this.#rootEntry(entry);
    const { parent, base } = splitPath(path);
    if (this.#format !== 'tree' && path.includes(WHITEOUT)) {
      if (isMetadata(path)) {
        return this.#warn({ kind: 'metadata', path, message: 'a file of the book-keeping of aufs was left out' });
      }
      if (liesInWhiteout(parent)) {
        throw new ArchiveError('ERR_ARCHIVE_WHITEOUT', 'a file in a whiteout, which is no directory', { path });
      }
    }
    const directory = this.#parents.open(parent);
    if (this.#format !== 'tree' && this.#whiteout(directory, base)) return;
    const hidden = this.#below.own(directory, base);
    if (entry.type === 'file') this.#newFile(directory, base, entry);
    else if (entry.type === 'directory') this.#newDirectory(directory, base, entry, hidden);
    else if (entry.type === 'link') this.#link(directory.fd, base, entry);
    else this.#node(directory.fd, base, entry);
  }

  /** {@inheritDoc TarHandler.data} */
  data(bytes: Buffer, offset: number): void {
    const file = this.#file;
    if (!file) return;
    if (offset !== file.at) check(attempt('lseek', file.fd, offset, 0), 'lseek', file.entry.path);
    writeAll(file.fd, bytes, file.entry.path);
    file.at = offset + bytes.length;
  }

  /**
   * The content of the file at hand, from another file instead of an archive.
   *
   * @param from - descriptor, open for reading
   */
  copy(from: number): void {
    const file = this.#file;
    if (file) file.at = copyData(from, file.fd, file.entry.size);
  }

  /** {@inheritDoc TarHandler.end} */
  end(): void {
    const file = this.#file;
    if (!file) return;
    const { fd, entry, at, parent } = file;
    if (at < entry.size) check(attempt('ftruncate', fd, entry.size), 'ftruncate', entry.path);
    this.#finishFd(fd, entry, parent);
    this.#file = undefined;
    close(fd);
  }

  /** Sets what directories were to get, and removes whiteouts that hide nothing. */
  finish(): void {
    this.#below.finish();
    for (const path of this.#made) if (path !== '') this.#finishImplied(path);
    for (const path of this.#below.renewed) {
      if (!this.#made.has(path) && !this.#directories.has(path)) this.#finishImplied(path);
    }
    const paths = [...this.#directories].reverse();
    for (const [key, entry] of paths) {
      const fd = this.#openDirectory(key);
      if (fd === undefined) continue;
      try {
        // A directory of the layers below may have attributes that this layer's has not.
        if (this.#format === 'plain') {
          dropXattrs(fd, (name) => entry.xattrs?.has(name) || appliedXattr(name, undefined) === undefined);
        }
        this.#finishFd(fd, entry);
      } finally {
        close(fd);
      }
    }
  }

  /** Nobody said what it is: as the programs of others make it, 0755 and root's, whatever one that was hidden had there. */
  #finishImplied(path: string): void {
    const fd = this.#openDirectory(path);
    if (fd === undefined) {
      this.#made.delete(path);
      return;
    }
    try {
      const name = Buffer.from(path, 'latin1');
      const { idmap } = this.#settings;
      const root = idmap ? { uid: mapId(idmap.uid, 0), gid: mapId(idmap.gid, 0) } : { uid: 0, gid: 0 };
      const another = idmap !== undefined || this.#below.renewed.has(path);
      if (this.#asArchived && another) this.#chown(name, root, attempt('fchown', fd, root.uid, root.gid));
      // Not what the caller's umask left of it.
      check(attempt('fchmod', fd, 0o755), 'fchmod', name);
      if (this.#format === 'plain') dropXattrs(fd, (attribute) => appliedXattr(attribute, undefined) === undefined);
    } finally {
      close(fd);
    }
  }

  /** One that was replaced since by something else is passed over, as is one below it. */
  #openDirectory(real: string): number | undefined {
    const fd = openReal(this.#root, real, O.RDONLY | O.DIRECTORY);
    if (fd === -ERRNO.ENOENT || fd === -ERRNO.ENOTDIR || fd === -ERRNO.ELOOP) return undefined;
    return check(fd, 'openat2', Buffer.from(real, 'latin1'));
  }

  /** Closes what is open. */
  [Symbol.dispose](): void {
    if (this.#file) close(this.#file.fd);
    this.#file = undefined;
    this.#parents.close();
  }

  #rootEntry(entry: TarEntry): void {
    if (entry.type !== 'directory') {
      throw new ArchiveError('ERR_ARCHIVE_PATH', `a ${entry.type} in place of the root`, { path: entry.path });
    }
    this.#made.delete('');
    this.#directories.set('', entry);
  }

  /** Whether the entry is a whiteout or a mark, and no file. */
  #whiteout(directory: Parent, base: Buffer): boolean {
    const meaning = whiteoutMeaning(base);
    if (meaning.kind === 'whiteout') this.#below.hide(directory, meaning.name);
    else if (meaning.kind === 'opaque') this.#below.hideAll(directory);
    return meaning.kind !== 'plain';
  }

  #newFile(parent: Parent, base: Buffer, entry: TarEntry): void {
    const mode = this.#defaults.modeFor(entry);
    let fd = tryOpen(parent.fd, base, NEW_FILE, mode);
    if (fd === -ERRNO.EEXIST) {
      this.#clearPlace(parent.fd, base);
      fd = tryOpen(parent.fd, base, NEW_FILE, mode);
    }
    check(fd, 'openat', entry.path);
    this.#file = { fd, entry, at: 0, parent };
  }

  #newDirectory(parent: Parent, base: Buffer, entry: TarEntry, hidden: boolean): void {
    const { fd: at, real } = parent;
    let replaced = hidden;
    let made = tryMkdir(at, base, 0o700);
    if (made === -ERRNO.EEXIST) {
      const old = tryStat(at, base);
      // A directory over a directory keeps what that holds.
      if (typeof old !== 'number' && old.type === 'directory') made = 0;
      else {
        this.#clearPlace(at, base);
        made = tryMkdir(at, base, 0o700);
        replaced = true;
      }
    }
    check(made, 'mkdirat', entry.path);
    // What was there hid all of that name below, and so does this.
    if (replaced) this.#below.renew(parent, base);
    const key = joinReal(real, base);
    this.#made.delete(key);
    this.#directories.delete(key);
    this.#directories.set(key, entry);
  }

  /** A directory that an entry lies in, and that is not there. */
  #makeImplied(parent: Pick<Parent, 'fd' | 'real'>, base: Buffer): number {
    const { fd: at, real } = parent;
    let replaced = this.#below.own(parent, base);
    let made = tryMkdir(at, base, 0o755);
    const old = made === -ERRNO.EEXIST && this.#layer ? tryStat(at, base) : undefined;
    // A whiteout of an archive before this one.
    if (typeof old === 'object' && isWhiteout(old)) {
      check(tryUnlink(at, base), 'unlinkat', base);
      made = tryMkdir(at, base, 0o755);
      replaced = true;
    }
    if (made < 0) return made;
    if (replaced) this.#below.renew(parent, base);
    const key = joinReal(real, base);
    this.#made.add(key);
    // Of one that was there before and is gone.
    this.#directories.delete(key);
    return 0;
  }

  #link(at: number, base: Buffer, entry: TarEntry): void {
    const target = cleanPath(entry.linkpath as Buffer);
    if (target.length === 0) throw noLink(entry, 'it names the root');
    const from = splitPath(target);
    // The directory is resolved inside the root; the name itself is not followed, so a link to a symbolic link links that.
    const directory = tryOpenInRoot(this.#root, from.parent, O.PATH | O.DIRECTORY);
    if (directory < 0) throw noLink(entry, 'what it names is not there');
    try {
      const old = tryStat(directory, from.base);
      if (typeof old === 'number' || isWhiteout(old)) throw noLink(entry, 'what it names is not there');
      if (old.type === 'directory') throw noLink(entry, 'it names a directory');
      const there = tryStat(at, base);
      if (typeof there !== 'number') {
        if (there.identity === old.identity) return;
        this.#clearPlace(at, base);
      }
      check(tryLink(directory, from.base, at, base), 'linkat', entry.path);
    } finally {
      close(directory);
    }
  }

  /** Symbolic links, devices, fifos. */
  #node(at: number, base: Buffer, entry: TarEntry): void {
    let made = makeNode(at, base, entry);
    if (made === -ERRNO.EEXIST) {
      this.#clearPlace(at, base);
      made = makeNode(at, base, entry);
    }
    const call = entry.type === 'symlink' ? 'symlinkat' : 'mknodat';
    if (made === -ERRNO.EPERM && entry.device) {
      const hint = 'device nodes need CAP_MKNOD outside of user namespaces';
      return this.#cannot('device', entry.path, () => check(made, call, entry.path, hint));
    }
    check(made, call, entry.path);
    const fd = check(tryOpen(at, base, O.PATH), 'openat', entry.path);
    try {
      const path = procPath(fd);
      const owner = this.#ownerOf(entry);
      const chown = ({ uid, gid }: Owner) => attempt('fchownat', fd, EMPTY, uid, gid, AT.EMPTY_PATH);
      const owned = !owner || this.#chown(entry.path, owner, chown(owner));
      const mode = owned ? entry.mode : entry.mode & ~SETID;
      if (entry.type !== 'symlink') check(attempt('fchmodat', AT.FDCWD, path, mode), 'fchmodat', entry.path);
      this.#xattrs(throughProc(fd), entry);
      check(tryUtimens(at, base, entry.mtime), 'utimensat', entry.path);
    } finally {
      close(fd);
    }
  }

  /**
   * Files and directories, in the order in which nothing takes back what was set: a change of owner clears setuid bits. What a new
   * file of this process has anyway is not set again: two of six calls a file.
   */
  #finishFd(fd: number, entry: TarEntry, parent?: Parent): void {
    const as = parent ? this.#defaults.of(fd, parent.gid) : undefined;
    const owner = this.#ownerOf(entry);
    const same = as !== undefined && owner?.uid === as.uid && owner.gid === as.gid;
    const owned = same || !owner || this.#chown(entry.path, owner, attempt('fchown', fd, owner.uid, owner.gid));
    // Who runs it would become somebody else than the archive says.
    const mode = owned ? entry.mode : entry.mode & ~SETID;
    if (!as || (!same && owner) || this.#defaults.modeFor(entry) !== mode || mode & as.umask) {
      check(attempt('fchmod', fd, mode), 'fchmod', entry.path);
    }
    if (entry.xattrs) this.#xattrs(fd, entry);
    check(tryUtimens(fd, null, entry.mtime), 'utimensat', entry.path);
  }

  #ownerOf(entry: TarEntry): Owner | undefined {
    if (!this.#asArchived) return undefined;
    const { idmap } = this.#settings;
    return idmap ? { uid: mapId(idmap.uid, entry.uid), gid: mapId(idmap.gid, entry.gid) } : entry;
  }

  /** @returns whether it is so */
  #chown(path: Buffer, owner: Owner, result: number): boolean {
    if (result >= 0) return true;
    const hint = `only CAP_CHOWN gives files to ${owner.uid}:${owner.gid}, in a user namespace only where that maps them`;
    this.#cannot('owner', path, () => check(result, 'fchown', path, hint));
    return false;
  }

  #xattrs(target: XattrTarget, entry: TarEntry): void {
    if (!entry.xattrs) return;
    // File capabilities last: what else is set on the file could clear them.
    const ordered = [...entry.xattrs].sort(([a], [b]) => Number(a === CAPABILITY) - Number(b === CAPABILITY));
    for (const [name, value] of ordered) {
      const onDisk = appliedXattr(name, this.#layer);
      if (onDisk === undefined) {
        this.#warn({ kind: 'metadata', path: entry.path, message: `${name} belongs to a machine and not to a layer` });
        continue;
      }
      const result = trySetXattr(target, onDisk, value);
      if (result >= 0) continue;
      this.#cannot('xattr', entry.path, () => check(result, `setxattr ${name}`, entry.path, XATTR_HINT));
    }
  }

  /** Throws, or warns where that was asked for. */
  #cannot(kind: ExtractWarning['kind'], path: Buffer, fail: () => void): void {
    try {
      fail();
    } catch (error) {
      if (this.#settings.unsupported !== 'warn' || !KernelError.is(error, 'EPERM', 'EACCES', 'EOPNOTSUPP', 'EINVAL')) {
        throw error;
      }
      this.#warn({ kind, path, message: error.message });
    }
  }

  /** Removes what has a name already. */
  #clearPlace(at: number, base: Buffer): void {
    if (tryUnlink(at, base) !== 0) removeTree(at, base);
    // Also of a link that is gone, by which a name meant another directory.
    this.#parents.clear();
  }
}

const EMPTY = Buffer.from('\0');
const EMPTY_PATH = Buffer.alloc(0);
const CAPABILITY = 'security.capability';
const XATTR_HINT =
  'user.* is for files and directories, trusted.* and security.* need privileges; not every file system has all of them';

/** What names of whiteouts begin with; and those of aufs's own files and directories, of which the opaque mark alone has a meaning. */
const WHITEOUT = '.wh.';
const METADATA = '.wh..wh.';

function isMetadata(path: Buffer): boolean {
  const parts = path.toString('latin1').split('/');
  const last = parts.pop() as string;
  return (
    parts.some((part) => part.startsWith(METADATA)) ||
    (last.startsWith(METADATA) && !opaqueName.equals(Buffer.from(last)))
  );
}

function liesInWhiteout(parent: Buffer): boolean {
  return parent
    .toString('latin1')
    .split('/')
    .some((part) => part.startsWith(WHITEOUT));
}

function noLink(entry: TarEntry, why: string): ArchiveError {
  return new ArchiveError('ERR_ARCHIVE_LINK', `a hard link cannot be made: ${why}`, { path: entry.path });
}

function isWhiteout({ type, rdev }: Stat): boolean {
  return type === 'character' && rdev.major === 0 && rdev.minor === 0;
}

function makeNode(at: number, base: Buffer, entry: TarEntry): number {
  if (entry.type === 'symlink') return trySymlink(entry.linkpath as Buffer, at, base);
  const { major, minor } = entry.device ?? { major: 0, minor: 0 };
  if (entry.type === 'character' && major === 0 && minor === 0) {
    throw new ArchiveError('ERR_ARCHIVE_TYPE', 'a device 0:0, which is the whiteout of overlay', { path: entry.path });
  }
  return tryMknod(at, base, KINDS[entry.type as keyof typeof KINDS] | 0o600, deviceNumber(major, minor));
}
