import { attempt, Fd, O } from '@iso/sys';
import { close, open } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { type Stat, stat } from '../file/stat.js';

/** What a layer takes on the disk. */
export interface Usage {
  /** Of its files, in whole blocks; shared ones too. */
  bytes: number;
  inodes: number;
  /** Bytes that would be free without it: the others are shared with other layers (reflinks, snapshots of btrfs). */
  exclusive: number;
}

const FS_IOC_FIEMAP = 0xc020660b;
const HEAD = 32;
const EXTENT = 56;
const BATCH = 64;
const FIEMAP_EXTENT = { LAST: 0x1, SHARED: 0x2000 } as const;
const BLOCK = 512;
const DOT = Buffer.from('.');

/**
 * Counts what lies below a directory, each file once.
 *
 * @param directory - of a layer
 * @param sharing - whether other layers may share blocks with it
 * @returns what it takes
 */
export function measure(directory: string, sharing: boolean): Usage {
  const seen = new Set<string>();
  const total: Usage = { bytes: 0, inodes: 0, exclusive: 0 };
  const count = (fd: number, name: Buffer, found: Stat) => {
    if (found.links > 1 && found.type !== 'directory') {
      if (seen.has(found.identity)) return;
      seen.add(found.identity);
    }
    const bytes = found.blocks * BLOCK;
    total.inodes++;
    total.bytes += bytes;
    total.exclusive += bytes - (sharing && found.type === 'file' && bytes ? sharedBytes(fd, name, bytes) : 0);
  };
  const walk = (fd: number) => {
    for (const { name } of readDirectory(fd)) {
      const found = stat(fd, name);
      count(fd, name, found);
      if (found.type !== 'directory') continue;
      const child = open(fd, name, O.RDONLY | O.DIRECTORY);
      try {
        walk(child);
      } finally {
        close(child);
      }
    }
  };
  using root = Fd.open(directory, { directory: true });
  count(root.number, DOT, stat(root.number, DOT));
  walk(root.number);
  return total;
}

/** Bytes of a file whose blocks another file has too, as far as the file system says. */
function sharedBytes(directory: number, name: Buffer, most: number): number {
  const fd = open(directory, name, O.RDONLY | O.NONBLOCK);
  try {
    const map = Buffer.alloc(HEAD + BATCH * EXTENT);
    let shared = 0;
    for (let start = 0n; ; ) {
      map.fill(0, 0, HEAD);
      map.writeBigUInt64LE(start, 0);
      map.writeBigUInt64LE(2n ** 63n - 1n - start, 8);
      map.writeUInt32LE(BATCH, 24);
      if (attempt('ioctl', fd, FS_IOC_FIEMAP, map) < 0) break;
      const extents = map.readUInt32LE(20);
      let last = extents === 0;
      for (let i = 0; i < extents; i++) {
        const at = HEAD + i * EXTENT;
        const flags = map.readUInt32LE(at + 40);
        const length = map.readBigUInt64LE(at + 16);
        if (flags & FIEMAP_EXTENT.SHARED) shared += Number(length);
        if (flags & FIEMAP_EXTENT.LAST) last = true;
        start = map.readBigUInt64LE(at) + length;
      }
      if (last) break;
    }
    return Math.min(shared, most);
  } finally {
    close(fd);
  }
}
