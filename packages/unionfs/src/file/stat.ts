import { AT, attempt } from '@iso/sys';
import type { EntryType } from '../tar/entry.js';
import { check, cName } from './call.js';

/** What statx(2) says of a file. */
export interface Stat {
  type: Exclude<EntryType, 'link'> | 'socket';
  /** Permission bits, 0 to 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  size: number;
  /** Blocks of 512 bytes that it takes. */
  blocks: number;
  links: number;
  /** Nanoseconds since 1970. */
  mtime: bigint;
  /** Device and inode: the same for two names of one file, and for no other. */
  identity: string;
  /** Number of a device node. */
  rdev: { major: number; minor: number };
}

const TYPES: Readonly<Record<number, Stat['type']>> = {
  1: 'fifo',
  2: 'character',
  4: 'directory',
  6: 'block',
  8: 'file',
  10: 'symlink',
  12: 'socket',
};

const buffer = Buffer.allocUnsafeSlow(256);
const STATX_BASIC = 0x7ff;
const EMPTY_PATH = Buffer.from('\0');

/**
 * statx(2), never through a final symbolic link.
 *
 * @param directory - descriptor
 * @param name - bytes; null for the descriptor itself
 * @returns the stat, or minus the error number
 */
export function tryStat(directory: number, name: Uint8Array | null): Stat | number {
  const flags = AT.SYMLINK_NOFOLLOW | AT.NO_AUTOMOUNT | (name ? 0 : AT.EMPTY_PATH);
  const result = attempt('statx', directory, name ? cName(name) : EMPTY_PATH, flags, STATX_BASIC, buffer);
  return result < 0 ? result : decode();
}

/** The same, and throws. */
export function stat(directory: number, name: Uint8Array | null): Stat {
  const result = tryStat(directory, name);
  if (typeof result === 'number') check(result, 'statx', name ?? undefined);
  return result as Stat;
}

function decode(): Stat {
  const b = buffer;
  const mode = b.readUInt16LE(28);
  return {
    type: TYPES[mode >> 12] ?? 'file',
    mode: mode & 0o7777,
    uid: b.readUInt32LE(20),
    gid: b.readUInt32LE(24),
    size: b.readUInt32LE(40) + b.readUInt32LE(44) * 2 ** 32,
    blocks: b.readUInt32LE(48) + b.readUInt32LE(52) * 2 ** 32,
    links: b.readUInt32LE(16),
    mtime: b.readBigInt64LE(112) * 1_000_000_000n + BigInt(b.readUInt32LE(120)),
    identity: `${b.readUInt32LE(136)}:${b.readUInt32LE(140)} ${b.readUInt32LE(36)}.${b.readUInt32LE(32)}`,
    rdev: { major: b.readUInt32LE(128), minor: b.readUInt32LE(132) },
  };
}
