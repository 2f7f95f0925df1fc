import { O } from '@iso/sys';
import { check, close, ERRNO, tryOpen } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { type Stat, stat, tryStat } from '../file/stat.js';
import { getXattr, inDirectory } from '../file/xattr.js';
import type { Place } from '../layer/describe.js';
import {
  FUSE_PREFIX,
  opaqueName,
  overlayPrefix,
  type WhiteoutFormat,
  whiteoutMeaning,
  whiteoutName,
} from '../layer/whiteout.js';

/**
 * One directory as a stack of layers shows it, without mounting them: the directories of that name in each layer, down to the
 * first that hides what is below.
 */
export class View {
  /** Descriptors, the uppermost first. */
  readonly directories: readonly number[];
  readonly #format: WhiteoutFormat | undefined;
  readonly #owned: boolean;

  /**
   * @param directories - open for reading
   * @param format - of the layers; undefined for one directory that is no layer
   * @param owned - whether {@link View.close} closes them
   */
  constructor(directories: readonly number[], format: WhiteoutFormat | undefined, owned: boolean) {
    this.directories = directories;
    this.#format = format;
    this.#owned = owned;
  }

  /** Names that it shows, in the order of their bytes. */
  names(): Buffer[] {
    const shown = new Map<string, Buffer>();
    const hidden = new Set<string>();
    for (const fd of this.directories) {
      const here = readDirectory(fd).map((entry) => entry.name);
      const gone: string[] = [];
      for (const name of here) {
        const key = name.toString('latin1');
        if (this.#format === 'aufs') {
          const meaning = whiteoutMeaning(name);
          if (meaning.kind === 'whiteout') gone.push(meaning.name.toString('latin1'));
          if (meaning.kind !== 'plain') continue;
        }
        if (hidden.has(key) || shown.has(key)) continue;
        if (this.#format && this.#format !== 'aufs' && isWhiteout(fd, name, stat(fd, name), this.#format)) {
          gone.push(key);
        } else shown.set(key, name);
      }
      for (const key of gone) if (!shown.has(key)) hidden.add(key);
    }
    return [...shown.values()].sort(Buffer.compare);
  }

  /**
   * What a name is.
   *
   * @param name - one component
   * @returns the uppermost file of that name, or undefined
   */
  lookup(name: Buffer): Place | undefined {
    for (const directory of this.directories) {
      const found = tryStat(directory, name);
      if (typeof found !== 'number') {
        if (isWhiteout(directory, name, found, this.#format)) return undefined;
        return { directory, name, stat: found, format: this.#format };
      }
      if (this.#format === 'aufs' && typeof tryStat(directory, whiteoutName(name)) !== 'number') return undefined;
    }
    return undefined;
  }

  /**
   * The view of a directory in it; the caller closes it.
   *
   * @param name - of a directory
   * @returns the view
   */
  enter(name: Buffer): View {
    const inside: number[] = [];
    const last = this.directories.length - 1;
    for (const [i, fd] of this.directories.entries()) {
      const child = tryOpen(fd, name, O.RDONLY | O.DIRECTORY);
      if (child >= 0) {
        inside.push(child);
        if (i < last && isOpaque(child, this.#format)) break;
      } else if (child !== -ERRNO.ENOENT) {
        // Something else of that name, a whiteout too, hides what is below.
        if (child !== -ERRNO.ENOTDIR && child !== -ERRNO.ELOOP) check(child, 'openat', name);
        break;
      }
      if (this.#format === 'aufs' && typeof tryStat(fd, whiteoutName(name)) !== 'number') break;
    }
    return new View(inside, this.#format, true);
  }

  /** Closes the descriptors that it owns. */
  close(): void {
    if (this.#owned) for (const fd of this.directories) close(fd);
  }
}

/** A view of nothing. */
export const nothing = new View([], undefined, false);

/**
 * Whether a file of a layer is a whiteout: a device 0:0, or an empty file with overlay's mark.
 *
 * @param directory - descriptor
 * @param name - its name
 * @param found - its stat
 * @param format - of the layer
 * @returns whether it is
 */
export function isWhiteout(directory: number, name: Buffer, found: Stat, format: WhiteoutFormat | undefined): boolean {
  if (format !== 'overlay' && format !== 'userxattr') return false;
  if (found.type === 'character') return found.rdev.major === 0 && found.rdev.minor === 0;
  if (found.type !== 'file' || found.size !== 0) return false;
  return getXattr(inDirectory(directory, name), `${overlayPrefix(format)}whiteout`) !== undefined;
}

/**
 * Whether a directory of a layer hides all below it.
 *
 * @param fd - the directory, open for reading
 * @param format - of the layer
 * @param names - of its attributes, where they are known
 * @returns whether it does
 */
export function isOpaque(fd: number, format: WhiteoutFormat | undefined, names?: readonly string[]): boolean {
  if (format === undefined) return false;
  if (format === 'aufs') return typeof tryStat(fd, opaqueName) !== 'number';
  const marks = [overlayPrefix(format), ...(format === 'userxattr' ? [FUSE_PREFIX] : [])];
  return marks.some((prefix) => {
    const mark = `${prefix}opaque`;
    return names?.includes(mark) !== false && getXattr(fd, mark)?.toString('latin1') === 'y';
  });
}
