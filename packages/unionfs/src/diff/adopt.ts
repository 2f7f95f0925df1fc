import { attempt, type Fd, O } from '@iso/sys';
import { check, close, ERRNO, open, tryOpen, tryUtimens } from '../file/call.js';
import { stat, tryStat } from '../file/stat.js';
import { readXattrs, trySetXattr } from '../file/xattr.js';
import { dropOpaque, makeOpaque, makeWhiteout } from '../layer/mark.js';
import { archivedXattr, type WhiteoutFormat } from '../layer/whiteout.js';
import { Directories } from './directories.js';
import { isOpaque, nothing, View } from './view.js';

/** Path of a layer's root. */
export const ROOT: Buffer = Buffer.alloc(0);

/** A layer of a union, and what lies below it. */
export interface StackedLayer {
  upper: string | Fd;
  /** The uppermost first. */
  lowers: readonly (string | Fd)[];
  format?: WhiteoutFormat;
}

/**
 * Makes a layer right for what lies below it, now that this is known. Directories get what those of the same name below have, which they
 * would hide else: the owner, the mode, the attributes and the time, as a union copies them up when something in them is written; for
 * those that an archive holds files of but says nothing about. One that is new in the layer stays as it is, one that is gone is passed over.
 * And a layer whose root hides all gets a whiteout for each name below, because unions do not look at the mark there.
 *
 * @param layer - the layer
 * @param paths - of the directories; {@link ROOT} for that of the layer
 */
export function adoptDirectories(layer: StackedLayer, paths: readonly Buffer[]): void {
  const { format = 'overlay' } = layer;
  using directories = new Directories();
  const upper = directories.open(layer.upper);
  const hides = isOpaque(upper, format);
  if (paths.length === 0 && !hides) return;
  const below = new View(layer.lowers.map(directories.open), format, false);
  for (const path of paths) adopt(upper, below, path, format);
  if (hides) hideByName(upper, below, format);
}

function adopt(upper: number, below: View, path: Buffer, format: WhiteoutFormat): void {
  let here = upper;
  let under = below;
  try {
    for (const name of componentsOf(path)) {
      const hidden = isOpaque(here, format) || under.lookup(name)?.stat.type !== 'directory';
      const next = hidden ? nothing : under.enter(name);
      if (under !== below) under.close();
      under = next;
      const child = tryOpen(here, name, O.RDONLY | O.DIRECTORY);
      if (GONE.includes(-child)) return;
      check(child, 'openat', name);
      if (here !== upper) close(here);
      here = child;
    }
    const [shown] = under.directories;
    if (shown !== undefined) likeDirectory(shown, here, format);
  } finally {
    if (under !== below) under.close();
    if (here !== upper) close(here);
  }
}

const GONE: readonly number[] = [ERRNO.ENOENT, ERRNO.ENOTDIR, ERRNO.ELOOP];

/** The mark of the root goes last: where this is cut off it is done again. */
function hideByName(upper: number, below: View, format: WhiteoutFormat): void {
  for (const name of below.names()) {
    const own = tryStat(upper, name);
    if (typeof own === 'number') makeWhiteout(upper, name, format);
    else if (own.type === 'directory' && below.lookup(name)?.stat.type === 'directory') {
      const fd = open(upper, name, O.RDONLY | O.DIRECTORY);
      try {
        makeOpaque(fd, format);
      } finally {
        close(fd);
      }
    }
  }
  dropOpaque(upper, format);
}

function componentsOf(path: Buffer): Buffer[] {
  return path
    .toString('latin1')
    .split('/')
    .filter((name) => name !== '')
    .map((name) => Buffer.from(name, 'latin1'));
}

/**
 * Gives a directory what another one has of attributes, as far as the caller may set them.
 *
 * @param from - descriptor
 * @param to - descriptor, of the caller's own
 * @param format - of the layers that they are in
 * @returns 0, or minus the error number where it has another owner
 */
export function likeDirectory(from: number, to: number, format: WhiteoutFormat): number {
  const { uid, gid, mode, mtime } = stat(from, null);
  const owned = attempt('fchown', to, uid, gid);
  check(attempt('fchmod', to, mode), 'fchmod');
  const own = (name: string) => archivedXattr(name, format) !== undefined;
  for (const [name, value] of readXattrs(from, own)) trySetXattr(to, name, value);
  tryUtimens(to, null, mtime);
  return owned;
}
