import { O } from '@iso/sys';
import { check, close, ERRNO, open, tryOpen, tryUnlink, tryUtimens } from '../file/call.js';
import { readDirectory, removeTree } from '../file/directory.js';
import { stat, tryStat } from '../file/stat.js';
import type { ExtractFormat } from './extract.js';
import { makeOpaque, makeWhiteout } from './mark.js';
import { joinReal, openReal, type Parent } from './parents.js';
import { whiteoutName } from './whiteout.js';

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
  /** Directories that are other ones than those of their names below, which this layer hides. */
  readonly renewed: Set<string> = new Set();
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
   * @returns whether the layer had hidden it before: a directory must still hide what is below, see {@link Below.renew}
   */
  own({ fd, real }: Pick<Parent, 'fd' | 'real'>, base: Buffer): boolean {
    if (this.#format === 'tree') return false;
    if (this.#format === 'plain') {
      this.#keepTime(fd, real);
      this.#bring(joinReal(real, base));
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
      // It lies in directories that the layer has, as one of a file would.
      this.#bring(real);
      if (typeof old === 'number') return;
      if (this.#own.has(path)) {
        if (old.type === 'directory' && !this.renewed.has(path)) this.renew({ fd, real }, name);
        return;
      }
      this.#keepTime(fd, real);
      removeTree(fd, name);
      if (old.type === 'directory' || old.type === 'symlink') this.#removed();
      return;
    }
    if (typeof old === 'number') {
      if (this.#format !== 'tree') makeWhiteout(fd, name, this.#format);
      this.#whiteouts.add(path);
    } else if (old.type === 'directory' && !this.renewed.has(path)) this.renew({ fd, real }, name);
  }

  /** An opaque directory: all that is below it is gone. */
  hideAll({ fd, real }: Pick<Parent, 'fd' | 'real'>): void {
    if (this.#base || this.#opaque.has(real)) return;
    this.#opaque.add(real);
    if (this.#format === 'plain') {
      this.#bring(real);
      const readable = open(fd, DOT, O.RDONLY | O.DIRECTORY);
      try {
        this.#removeForeign(readable, real);
      } finally {
        close(readable);
      }
    } else if (this.#format !== 'tree') makeOpaque(fd, this.#format);
  }

  /** A directory of this layer is a new one, whatever has its name below: nothing of that shows, nor what that was. */
  renew({ fd: directory, real: above }: Pick<Parent, 'fd' | 'real'>, name: Buffer): void {
    if (this.#base || this.#format === 'tree') return;
    const real = joinReal(above, name);
    // The mark may be that of a directory which is gone.
    this.#opaque.delete(real);
    const fd = open(directory, name, O.RDONLY | O.DIRECTORY);
    try {
      this.hideAll({ fd, real });
    } finally {
      close(fd);
    }
    this.renewed.add(real);
    this.#times.delete(real);
  }

  /** Removes whiteouts inside of opaque directories, where readdir would show them; sets times of directories that the layer may say nothing of. */
  finish(): void {
    if (this.#opaque.size && (this.#format === 'overlay' || this.#format === 'userxattr')) {
      for (const path of this.#whiteouts) if (this.#isHidden(path)) this.#unmark(path);
    }
    for (const [path, time] of this.#times) {
      const fd = openReal(this.#root, path, O.RDONLY | O.DIRECTORY);
      if (fd < 0) continue;
      tryUtimens(fd, null, time);
      close(fd);
    }
  }

  #bring(real: string): void {
    for (let path = real; path && !this.#own.has(path); path = directoryOf(path)) this.#own.add(path);
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
      } else if (this.#opaque.has(path)) this.renewed.add(path);
      else {
        const child = tryOpen(fd, name, O.RDONLY | O.DIRECTORY);
        if (child === -ERRNO.ENOTDIR || child === -ERRNO.ELOOP) continue;
        check(child, 'openat', name);
        this.#opaque.add(path);
        this.renewed.add(path);
        try {
          this.#removeForeign(child, path);
        } finally {
          close(child);
        }
      }
    }
    if (removed) this.#removed();
  }

  #unmark(path: string): void {
    const slash = path.lastIndexOf('/');
    const fd = openReal(this.#root, path.slice(0, Math.max(slash, 0)), O.PATH | O.DIRECTORY);
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

function directoryOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '' : path.slice(0, slash);
}
