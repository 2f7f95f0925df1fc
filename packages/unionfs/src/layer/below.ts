import { O } from '@iso/sys';
import { check, close, ERRNO, open, tryMknod, tryOpen, tryOpenInRoot, tryUnlink, tryUtimens } from '../file/call.js';
import { readDirectory, removeTree } from '../file/directory.js';
import { stat, tryStat } from '../file/stat.js';
import { setXattr, throughProc } from '../file/xattr.js';
import type { ExtractFormat } from './extract.js';
import { joinReal, type Parent } from './parents.js';
import { opaqueName, overlayPrefix, whiteoutName } from './whiteout.js';

const S_IFCHR = 0o020000;
const S_IFREG = 0o100000;

/**
 * What a layer hides of the layers below it. The order of an archive does not matter: a whiteout hides what is below and never
 * what the same layer brings.
 */
export class Below {
  readonly #root: number;
  readonly #format: ExtractFormat;
  readonly #base: boolean;
  readonly #removed: () => void;
  /** Whiteouts that this layer made, by real path. */
  readonly #whiteouts = new Set<string>();
  /** Directories that hide all below them. */
  readonly #opaque = new Set<string>();
  /** Of a plain copy: what this layer brought, with the directories that it lies in. */
  readonly #own = new Set<string>();
  /** Of a plain copy: when directories were changed before this layer changed what is in them. */
  readonly #times = new Map<string, bigint>();

  /**
   * @param root - directory
   * @param format - of the layer
   * @param base - nothing is below
   * @param removed - told when directories were removed, or links, which may have led to some
   */
  constructor(root: number, format: ExtractFormat, base: boolean, removed: () => void) {
    this.#root = root;
    this.#format = format;
    this.#base = base;
    this.#removed = removed;
  }

  /**
   * The layer brings something.
   *
   * @param directory - where
   * @param base - its name
   * @returns whether the layer had hidden it before: a directory must still hide what is below
   */
  own({ fd, real }: Parent, base: Buffer): boolean {
    if (this.#format === 'plain') {
      this.#keepTime(fd, real);
      for (let path = joinReal(real, base); path && !this.#own.has(path); path = directoryOf(path)) this.#own.add(path);
      return false;
    }
    if (this.#whiteouts.size === 0 || !this.#whiteouts.delete(joinReal(real, base))) return false;
    const name = this.#format === 'aufs' ? whiteoutName(base) : base;
    check(tryUnlink(fd, name), 'unlinkat', name);
    return true;
  }

  /** A whiteout: what has that name below is gone. */
  hide({ fd, real }: Parent, name: Buffer): void {
    if (this.#base) return;
    const old = tryStat(fd, name);
    const path = joinReal(real, name);
    if (this.#format === 'plain') {
      if (typeof old === 'number') return;
      if (this.#own.has(path)) {
        if (old.type === 'directory') this.#within(fd, name, path);
        return;
      }
      this.#keepTime(fd, real);
      removeTree(fd, name);
      if (old.type === 'directory' || old.type === 'symlink') this.#removed();
      return;
    }
    if (typeof old === 'number') {
      this.#mark(fd, name);
      this.#whiteouts.add(path);
    } else if (old.type === 'directory') this.hideAllOf(fd, real, name);
  }

  /** An opaque directory: all that is below it is gone. */
  hideAll({ fd, real }: Pick<Parent, 'fd' | 'real'>): void {
    if (this.#base || this.#opaque.has(real)) return;
    this.#opaque.add(real);
    if (this.#format === 'overlay' || this.#format === 'userxattr') {
      setXattr(throughProc(fd), `${overlayPrefix(this.#format)}opaque`, Buffer.from('y'), OPAQUE_HINT);
    } else if (this.#format === 'aufs') {
      check(tryMknod(fd, opaqueName, S_IFREG | 0o444, 0), 'mknodat', opaqueName);
    } else {
      const readable = open(fd, DOT, O.RDONLY | O.DIRECTORY);
      try {
        this.#removeForeign(readable, real);
      } finally {
        close(readable);
      }
    }
  }

  /** The same for a directory by its name. */
  hideAllOf(directory: number, real: string, name: Buffer): void {
    this.#within(directory, name, joinReal(real, name));
  }

  /** Removes whiteouts inside of opaque directories, where readdir would show them; sets times of directories that the layer may say nothing of. */
  finish(): void {
    if (this.#opaque.size && (this.#format === 'overlay' || this.#format === 'userxattr')) {
      for (const path of this.#whiteouts) if (this.#isHidden(path)) this.#unmark(path);
    }
    for (const [path, time] of this.#times) {
      const fd = tryOpenInRoot(this.#root, Buffer.from(path, 'latin1'), O.RDONLY | O.DIRECTORY);
      if (fd < 0) continue;
      tryUtimens(fd, null, time);
      close(fd);
    }
  }

  #within(directory: number, name: Buffer, real: string): void {
    const fd = open(directory, name, O.RDONLY | O.DIRECTORY);
    try {
      this.hideAll({ fd, real });
    } finally {
      close(fd);
    }
  }

  #keepTime(fd: number, real: string): void {
    if (!this.#times.has(real)) this.#times.set(real, stat(fd, null).mtime);
  }

  /** Each directory is walked once: from then on all in it is this layer's. */
  #removeForeign(fd: number, real: string): void {
    let removed = false;
    this.#keepTime(fd, real);
    for (const { name } of readDirectory(fd)) {
      const path = joinReal(real, name);
      if (!this.#own.has(path)) {
        removeTree(fd, name);
        removed = true;
      } else if (!this.#opaque.has(path)) {
        const child = tryOpen(fd, name, O.RDONLY | O.DIRECTORY);
        if (child === -ERRNO.ENOTDIR || child === -ERRNO.ELOOP) continue;
        check(child, 'openat', name);
        this.#opaque.add(path);
        try {
          this.#removeForeign(child, path);
        } finally {
          close(child);
        }
      }
    }
    if (removed) this.#removed();
  }

  #mark(fd: number, name: Buffer): void {
    const made =
      this.#format === 'aufs' ? tryMknod(fd, whiteoutName(name), S_IFREG | 0o444, 0) : tryMknod(fd, name, S_IFCHR, 0);
    check(made, 'mknodat', name, 'whiteouts in a user namespace need Linux 5.8');
  }

  #unmark(path: string): void {
    const slash = path.lastIndexOf('/');
    const fd = tryOpenInRoot(
      this.#root,
      Buffer.from(path.slice(0, Math.max(slash, 0)), 'latin1'),
      O.PATH | O.DIRECTORY,
    );
    if (fd < 0) return;
    const name = Buffer.from(path.slice(slash + 1), 'latin1');
    const old = tryStat(fd, name);
    if (typeof old !== 'number' && old.type === 'character' && old.rdev.major === 0 && old.rdev.minor === 0) {
      tryUnlink(fd, name);
    }
    close(fd);
  }

  #isHidden(path: string): boolean {
    for (let at = path.lastIndexOf('/'); at >= 0; at = path.lastIndexOf('/', at - 1)) {
      if (this.#opaque.has(path.slice(0, at))) return true;
      if (at === 0) break;
    }
    return this.#opaque.has('');
  }
}

const DOT = Buffer.from('.');
const OPAQUE_HINT =
  'trusted.* attributes need CAP_SYS_ADMIN outside of user namespaces: use the format userxattr there';

function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}
