import { STATMOUNT } from './flags.js';

/** Layouts of the structures that the mount calls take and fill (`linux/mount.h`, `linux/openat2.h`). */

/** Structures by their members: launches take the same few again and again, and none is written to. */
const known = new Map<string, Buffer>();

function shared(name: string, values: readonly (number | undefined)[]): Buffer {
  const key = `${name} ${values.join(' ')}`;
  let bytes = known.get(key);
  if (!bytes) known.set(key, (bytes = words(values)));
  return bytes;
}

/**
 * struct mount_attr.
 *
 * @param attr - attributes to set and clear, propagation, user namespace of an id-mapped mount
 * @returns 32 bytes
 */
export function mountAttr(attr: { set?: number; clear?: number; propagation?: number; usernsFd?: number }): Buffer {
  const values = [attr.set, attr.clear, attr.propagation, attr.usernsFd];
  return attr.usernsFd === undefined ? shared('mount_attr', values) : words(values);
}

const MNT_ID_REQ_SIZE_VER0 = 24;
const MNT_ID_REQ_SIZE_VER1 = 32;

/**
 * struct mnt_id_req, as of Linux 6.11; one before takes its first three members.
 *
 * @param mount - unique id of a mount
 * @param param - a STATMOUNT mask, or the id to list after
 * @param namespace - id of a mount namespace, 0 for the caller's
 * @returns 32 bytes, 24 for the caller's own namespace
 */
export function mntIdReq(mount: bigint, param: bigint, namespace: bigint): Buffer {
  const bytes = words([0, mount, param, namespace]);
  if (namespace === 0n) {
    bytes.writeUInt32LE(MNT_ID_REQ_SIZE_VER0, 0);
    return bytes.subarray(0, MNT_ID_REQ_SIZE_VER0);
  }
  bytes.writeUInt32LE(MNT_ID_REQ_SIZE_VER1, 0);
  return bytes;
}

/** Members of struct statmount, as they stand there; strings and lists that are not in `mask` are empty. */
export interface StatMount {
  /** Which STATMOUNT members the kernel has filled in. */
  mask: number;
  sbDevMajor: number;
  sbDevMinor: number;
  sbMagic: bigint;
  /** MS flags of the superblock. */
  sbFlags: number;
  /** Unique id: never used again while the machine runs. */
  mntId: bigint;
  mntParentId: bigint;
  /** Id as in mountinfo, which is used again. */
  mntIdOld: number;
  mntParentIdOld: number;
  /** MOUNT_ATTR bits. */
  mntAttr: number;
  /** MS.SHARED, MS.SLAVE, MS.PRIVATE, MS.UNBINDABLE. */
  mntPropagation: number;
  mntPeerGroup: bigint;
  mntMaster: bigint;
  propagateFrom: bigint;
  mntNsId: bigint;
  fsType: string;
  fsSubtype: string;
  mntRoot: string;
  mntPoint: string;
  sbSource: string;
  /** The file system's own options, with commas between them and the escapes of mountinfo. */
  mntOpts: string;
  /** Id map of an id-mapped mount, a line each: `inside outside count` (Linux 6.15). */
  mntUidmap: string[];
  mntGidmap: string[];
}

/** Size of struct statmount without its strings. */
export const STATMOUNT_SIZE = 512;

/**
 * Reads a struct statmount.
 *
 * @param bytes - as the kernel has filled it
 * @returns its members
 */
export function readStatMount(bytes: Buffer): StatMount {
  const u32 = (at: number) => bytes.readUInt32LE(at);
  const u64 = (at: number) => bytes.readBigUInt64LE(at);
  const text = (start: number) => bytes.toString('utf8', start, bytes.indexOf(0, start));
  const mask = Number(u64(8));
  const string = (bit: number, at: number) => (mask & bit ? text(STATMOUNT_SIZE + u32(at)) : '');
  const list = (bit: number, count: number, at: number) => {
    if (!(mask & bit)) return [];
    let start = STATMOUNT_SIZE + u32(at);
    return Array.from({ length: u32(count) }, () => {
      const line = text(start);
      start = bytes.indexOf(0, start) + 1;
      return line;
    });
  };
  return {
    mask,
    sbDevMajor: u32(16),
    sbDevMinor: u32(20),
    sbMagic: u64(24),
    sbFlags: u32(32),
    mntId: u64(40),
    mntParentId: u64(48),
    mntIdOld: u32(56),
    mntParentIdOld: u32(60),
    mntAttr: Number(u64(64)),
    mntPropagation: Number(u64(72)),
    mntPeerGroup: u64(80),
    mntMaster: u64(88),
    propagateFrom: u64(96),
    mntNsId: u64(112),
    mntOpts: string(STATMOUNT.MNT_OPTS, 4),
    fsType: string(STATMOUNT.FS_TYPE, 36),
    mntRoot: string(STATMOUNT.MNT_ROOT, 104),
    mntPoint: string(STATMOUNT.MNT_POINT, 108),
    fsSubtype: string(STATMOUNT.FS_SUBTYPE, 120),
    sbSource: string(STATMOUNT.SB_SOURCE, 124),
    mntUidmap: list(STATMOUNT.MNT_UIDMAP, 152, 156),
    mntGidmap: list(STATMOUNT.MNT_GIDMAP, 160, 164),
  };
}

function words(values: readonly (number | bigint | undefined)[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value ?? 0), 8 * i);
  return bytes;
}
