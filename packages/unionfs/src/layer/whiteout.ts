import { ArchiveError } from '../tar/error.js';

/**
 * How a layer says that something of the layers below is gone, on disk and in archives:
 *
 * - `overlay`: a character device 0:0 of the name; `trusted.overlay.opaque` on a directory that hides all below it
 * - `userxattr`: the same with `user.overlay.*`, as in user namespaces
 * - `aufs`: files `.wh.NAME` and `.wh..wh..opq`, on disk as in archives
 */
export type WhiteoutFormat = 'overlay' | 'userxattr' | 'aufs';

const PREFIX = Buffer.from('.wh.');
const META = Buffer.from('.wh..wh.');
const OPAQUE = Buffer.from('.wh..wh..opq');

/** What a name in a layer's archive means. */
export type Meaning =
  | { kind: 'plain' }
  | { kind: 'opaque' }
  | { kind: 'metadata' }
  | { kind: 'whiteout'; name: Buffer };

const PLAIN: Meaning = { kind: 'plain' };

/**
 * What the last component of a name means in a layer: a whiteout of another, the mark of an opaque directory, aufs's own
 * book-keeping, or itself.
 *
 * @param base - last component
 * @returns its meaning
 * @throws {@link ArchiveError} `ERR_ARCHIVE_WHITEOUT` for a whiteout of nothing, of `.` or of `..`
 */
export function whiteoutMeaning(base: Uint8Array): Meaning {
  if (base.length < PREFIX.length || base[0] !== 0x2e || PREFIX.compare(base, 0, PREFIX.length) !== 0) return PLAIN;
  if (OPAQUE.equals(base)) return { kind: 'opaque' };
  if (base.length >= META.length && META.compare(base, 0, META.length) === 0) return { kind: 'metadata' };
  const name = Buffer.from(base.subarray(PREFIX.length));
  const text = name.toString('latin1');
  if (text === '' || text === '.' || text === '..') {
    throw new ArchiveError('ERR_ARCHIVE_WHITEOUT', 'a whiteout of nothing', { path: base });
  }
  return { kind: 'whiteout', name };
}

/** The archive's name of a whiteout. */
export function whiteoutName(name: Uint8Array): Buffer {
  return Buffer.concat([PREFIX, name]);
}

/** The archive's name of the mark that makes a directory opaque. */
export const opaqueName: Buffer = OPAQUE;

/**
 * Where overlay keeps its own attributes.
 *
 * @param format - of the layer
 * @returns prefix of their names
 */
export function overlayPrefix(format: 'overlay' | 'userxattr'): string {
  return format === 'overlay' ? 'trusted.overlay.' : 'user.overlay.';
}

/** Attributes that belong to the machine and never to a layer. */
const LOCAL = ['security.selinux', 'security.ima', 'security.evm', 'system.nfs4_acl'];

/** Where fuse-overlayfs keeps its own. */
export const FUSE_PREFIX = 'user.fuseoverlayfs.';

function isLocal(name: string): boolean {
  return LOCAL.includes(name) || name.startsWith(FUSE_PREFIX);
}

/**
 * Whether an attribute belongs to a layer's content. Overlay's own do not; but what a nested overlay wrote, which the kernel (6.7)
 * keeps as `trusted.overlay.overlay.NAME`, is content and loses that mark.
 *
 * @param name - as it is on disk in a layer of that format
 * @param format - undefined for a directory that is no overlay layer
 * @returns the name in an archive, or undefined
 */
export function archivedXattr(name: string, format: WhiteoutFormat | undefined): string | undefined {
  if (isLocal(name)) return undefined;
  for (const kind of ['overlay', 'userxattr'] as const) {
    const prefix = overlayPrefix(kind);
    if (!name.startsWith(prefix)) continue;
    const escaped = format === kind && name.startsWith(`${prefix}overlay.`);
    return escaped ? prefix + name.slice(prefix.length + 'overlay.'.length) : undefined;
  }
  return name;
}

/**
 * The opposite: an archive cannot set overlay's own attributes, which would let it redirect one directory to another.
 *
 * @param name - as the archive has it
 * @param format - of the layer; undefined for a directory that is none
 * @returns the name on disk, or undefined where it must not be set
 */
export function appliedXattr(name: string, format: WhiteoutFormat | undefined): string | undefined {
  if (isLocal(name)) return undefined;
  for (const kind of ['overlay', 'userxattr'] as const) {
    const prefix = overlayPrefix(kind);
    if (!name.startsWith(prefix)) continue;
    return format === kind ? `${prefix}overlay.${name.slice(prefix.length)}` : undefined;
  }
  return name;
}
