import { KernelError, O, RESOLVE } from '@iso/sys';
import { close, ERRNO, procPath, readlink, text, tryOpenInRoot } from '../file/call.js';
import { stat } from '../file/stat.js';
import { getXattr, throughProc } from '../file/xattr.js';
import { ArchiveError } from '../tar/error.js';
import { splitPath } from './path.js';

/** A directory that entries are made in. */
export interface Parent {
  fd: number;
  /** Where it really is below the root, symbolic links resolved; empty for the root. */
  real: string;
  /** Group that new files may get here; -1 where a default access list decides on them. */
  gid: number;
}

/**
 * Makes a directory that is missing, or in whose place there is what the layer has hidden.
 *
 * @returns 0, or minus the error number
 */
type MakeDirectory = (directory: Pick<Parent, 'fd' | 'real'>, name: Buffer) => number;

const LIMIT = 64;

/**
 * Directories below a root, opened so that nothing leads out of it: symbolic links count as if the root were "/". The last ones are
 * kept open, because archives name files directory by directory. A directory that is open stays inside whatever happens to its name.
 */
export class Parents {
  readonly #root: number;
  readonly #prefix: number;
  readonly #open = new Map<string, Parent>();
  readonly #make: MakeDirectory;
  #last: { path: Buffer; parent: Parent } | undefined;

  /**
   * @param root - a directory's descriptor, which stays the caller's
   * @param make - makes what is missing
   */
  constructor(root: number, make: MakeDirectory) {
    this.#root = root;
    this.#make = make;
    // From the root of this process's view, or of another mount that cannot be seen from here: a prefix in any case.
    this.#prefix = realPath(root).length;
  }

  /**
   * Opens a directory, and makes what is missing of it.
   *
   * @param path - clean
   * @returns the directory; it may be closed at the next call
   * @throws ArchiveError `ERR_ARCHIVE_PATH` where something that is no directory is in the way
   */
  open(path: Buffer): Parent {
    if (this.#last && same(this.#last.path, path)) return this.#last.parent;
    const key = path.toString('latin1');
    let parent = this.#open.get(key);
    if (parent) this.#open.delete(key);
    else parent = this.#resolve(path);
    this.#open.set(key, parent);
    if (this.#open.size > LIMIT) {
      const [oldest, { fd }] = this.#open.entries().next().value as [string, Parent];
      this.#open.delete(oldest);
      close(fd);
    }
    this.#last = { path: Buffer.from(path), parent };
    return parent;
  }

  /** Forgets what is open but for the last one, in which something was removed: names may mean other directories now. */
  clear(): void {
    const last = this.#last;
    for (const { fd } of this.#open.values()) if (fd !== last?.parent.fd) close(fd);
    this.#open.clear();
    if (last) this.#open.set(last.path.toString('latin1'), last.parent);
  }

  /** Closes all. */
  close(): void {
    for (const { fd } of this.#open.values()) close(fd);
    this.#open.clear();
    this.#last = undefined;
  }

  #resolve(path: Buffer): Parent {
    const fd = this.#reach(path);
    const inherits = getXattr(throughProc(fd), 'system.posix_acl_default') !== undefined;
    return { fd, real: this.#realOf(fd), gid: inherits ? -1 : stat(fd, null).gid };
  }

  /** Opens a directory, and makes what is missing of it. */
  #reach(path: Buffer): number {
    const found = tryOpenInRoot(this.#root, path, O.PATH | O.DIRECTORY);
    if (found >= 0) return found;
    if ((found !== -ERRNO.ENOENT && found !== -ERRNO.ENOTDIR) || path.length === 0) throw unreachable(path, found);
    const { parent, base } = splitPath(path);
    const at = this.#reach(parent);
    try {
      const made = this.#make({ fd: at, real: this.#realOf(at) }, base);
      if (made < 0) throw unreachable(path, made === -ERRNO.EEXIST && found === -ERRNO.ENOTDIR ? found : made);
    } finally {
      close(at);
    }
    const fd = tryOpenInRoot(this.#root, path, O.PATH | O.DIRECTORY);
    if (fd < 0) throw unreachable(path, fd);
    return fd;
  }

  #realOf(fd: number): string {
    return realPath(fd).slice(this.#prefix).replace(/^\//, '');
  }
}

/** A name in a directory of {@link Parent.real}. */
export function joinReal(real: string, name: Buffer): string {
  return real ? `${real}/${name.toString('latin1')}` : name.toString('latin1');
}

/**
 * Opens what is remembered by {@link Parent.real}: where a link has come in its way since, that is another file, and not followed.
 *
 * @returns the descriptor, or minus the error number
 */
export function openReal(root: number, real: string, flags: number): number {
  return tryOpenInRoot(root, Buffer.from(real, 'latin1'), flags, RESOLVE.IN_ROOT | RESOLVE.NO_SYMLINKS);
}

/** Faster than a call of native code for names of this length. */
function same(a: Buffer, b: Buffer): boolean {
  if (a.length !== b.length) return false;
  // Neighbours differ at the end.
  for (let i = a.length - 1; i >= 0; i--) if (a[i] !== b[i]) return false;
  return true;
}

function realPath(fd: number): string {
  return readlink(-100, Buffer.from(procPath(fd)))
    .toString('latin1')
    .replace(/^\/$/, '');
}

function unreachable(path: Buffer, errno: number): Error {
  const why: Record<number, string> = {
    [ERRNO.ENOTDIR]: 'a file is in the way',
    [ERRNO.ELOOP]: 'its symbolic links go round',
    [ERRNO.EEXIST]: 'a symbolic link in it leads nowhere',
  };
  const reason = why[-errno];
  if (reason) return new ArchiveError('ERR_ARCHIVE_PATH', `a directory cannot be reached: ${reason}`, { path });
  const name = text(path);
  return new KernelError(errno, { syscall: 'openat2', path: name, call: `openat2(${JSON.stringify(name)})` });
}
