import { KernelError, O } from '@iso/sys';
import { close, ERRNO, procPath, readlink, text, tryMkdir, tryOpenInRoot } from '../file/call.js';
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

const LIMIT = 64;

/**
 * Directories below a root, opened so that nothing leads out of it: symbolic links count as if the root were "/". The last ones are
 * kept open, because archives name files directory by directory. A directory that is open stays inside whatever happens to its name.
 */
export class Parents {
  readonly #root: number;
  readonly #prefix: number;
  readonly #open = new Map<string, Parent>();
  /** Directories that were missing and were made here, by their real path. */
  readonly made: Set<string> = new Set();
  #last: { path: Buffer; parent: Parent } | undefined;

  /** @param root - a directory's descriptor, which stays the caller's */
  constructor(root: number) {
    this.#root = root;
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
    let fd = tryOpenInRoot(this.#root, path, O.PATH | O.DIRECTORY);
    if (fd === -ERRNO.ENOENT && path.length) {
      this.#make(path);
      fd = tryOpenInRoot(this.#root, path, O.PATH | O.DIRECTORY);
    }
    if (fd < 0) throw unreachable(path, fd);
    const inherits = getXattr(throughProc(fd), 'system.posix_acl_default') !== undefined;
    return { fd, real: this.#realOf(fd), gid: inherits ? -1 : stat(fd, null).gid };
  }

  #realOf(fd: number): string {
    return realPath(fd).slice(this.#prefix).replace(/^\//, '');
  }

  #make(path: Buffer): void {
    const { parent, base } = splitPath(path);
    let at = tryOpenInRoot(this.#root, parent, O.PATH | O.DIRECTORY);
    if (at === -ERRNO.ENOENT && parent.length) {
      this.#make(parent);
      at = tryOpenInRoot(this.#root, parent, O.PATH | O.DIRECTORY);
    }
    if (at < 0) throw unreachable(parent, at);
    const made = tryMkdir(at, base, 0o755);
    if (made === 0) this.made.add(joinReal(this.#realOf(at), base));
    close(at);
    if (made < 0) throw unreachable(path, made);
  }
}

/** A name in a directory of {@link Parent.real}. */
export function joinReal(real: string, name: Buffer): string {
  return real ? `${real}/${name.toString('latin1')}` : name.toString('latin1');
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
  return new KernelError(errno, { syscall: 'openat2', path: text(path) });
}
