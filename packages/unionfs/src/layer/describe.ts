import { readlink } from '../file/call.js';
import { type IdMaps, unmapId } from '../file/idmap.js';
import type { Stat } from '../file/stat.js';
import { getXattr, inDirectory, listXattrs, type Xattrs, type XattrTarget } from '../file/xattr.js';
import type { TarEntry } from '../tar/entry.js';
import { archivedXattr, type WhiteoutFormat } from './whiteout.js';

/** A file in an open directory. */
export interface Place {
  /** Descriptor of the directory. */
  directory: number;
  name: Buffer;
  stat: Stat;
  /** What layer it lies in; undefined for a directory that is none. */
  format?: WhiteoutFormat | undefined;
  /** Its own descriptor, where it is open: its attributes are at hand then. */
  opened?: number | undefined;
  /** Names of its extended attributes, once somebody has asked: see {@link xattrNames}. */
  xattrNames?: readonly string[];
}

/** How what is on disk becomes what an archive says. */
export interface DescribeSettings {
  /** Ids of the archive and what they are on disk. */
  idmap?: IdMaps;
  /** Seconds since 1970: later times become this one (SOURCE_DATE_EPOCH), so that two builds give the same bytes. */
  epoch?: number;
}

/** Names of a file's extended attributes; they are asked for once. */
export function xattrNames(place: Place): readonly string[] {
  place.xattrNames ??= listXattrs(target(place));
  return place.xattrNames;
}

function target({ opened, directory, name }: Place): XattrTarget {
  return opened ?? inDirectory(directory, name);
}

/**
 * Attributes of a file as an archive has them.
 *
 * @param place - the file
 * @returns attributes; none of overlay's own
 */
export function archivedXattrs(place: Place): Xattrs {
  const xattrs: Xattrs = new Map();
  for (const name of xattrNames(place)) {
    const archived = archivedXattr(name, place.format);
    const value = archived === undefined ? undefined : getXattr(target(place), name);
    if (archived !== undefined && value) xattrs.set(archived, value);
  }
  return xattrs;
}

/**
 * The entry of an archive for a file.
 *
 * @param place - the file
 * @param path - its name in the archive
 * @param settings - see {@link DescribeSettings}
 * @returns the entry; a socket has none
 */
export function describe(place: Place, path: Buffer, settings: DescribeSettings): TarEntry | undefined {
  const { stat } = place;
  const { type } = stat;
  if (type === 'socket') return undefined;
  const { idmap, epoch } = settings;
  const latest = epoch === undefined ? undefined : BigInt(epoch) * 1_000_000_000n;
  const entry: TarEntry = {
    path: type === 'directory' ? Buffer.concat([path, SLASH]) : path,
    type,
    mode: stat.mode,
    uid: idmap ? unmapId(idmap.uid, stat.uid) : stat.uid,
    gid: idmap ? unmapId(idmap.gid, stat.gid) : stat.gid,
    size: type === 'file' ? stat.size : 0,
    mtime: latest !== undefined && stat.mtime > latest ? latest : stat.mtime,
  };
  if (type === 'symlink') entry.linkpath = readlink(place.directory, place.name);
  if (type === 'character' || type === 'block') entry.device = stat.rdev;
  const xattrs = archivedXattrs(place);
  if (xattrs.size) entry.xattrs = xattrs;
  return entry;
}

const SLASH = Buffer.from('/');
