import { existsSync, readdirSync } from 'node:fs';
import { AT, attempt, Fd, O } from '@iso/sys';
import { check } from '../file/call.js';
import { takeFree } from './loop.js';

/** An ioctl of linux/loop.h. */
const GET_STATUS64 = 0x4c05;
/** `struct loop_info64`. */
const INFO = { size: 232, device: 0, inode: 8 } as const;

/**
 * The loop device of a file, made where it has none: two devices of one file would be two file systems that write over each other.
 * It goes away with its last user. The caller sees to it that no other process does the same for this file at once.
 *
 * @param file - open for reading and writing
 * @returns its device, open, and the device's path
 * @throws KernelError `ENOENT` where there is no /dev/loop-control, `EACCES`, `EBUSY`
 */
export function loopDevice(file: Fd): { fd: Fd; path: string } {
  return existing(file) ?? fresh(file);
}

function existing(file: Fd): { fd: Fd; path: string } | undefined {
  const [device, inode] = identity(file);
  for (const name of readdirSync('/sys/block')) {
    if (!existsSync(`/sys/block/${name}/loop/backing_file`)) continue;
    const path = `/dev/${name}`;
    const opened = attempt('openat', AT.FDCWD, path, O.RDONLY | O.CLOEXEC, 0);
    if (opened < 0) continue;
    const fd = Fd.own(opened);
    const info = Buffer.alloc(INFO.size);
    // Open, it can no more become another file's.
    const found = attempt('ioctl', fd, GET_STATUS64, info) === 0;
    if (found && info.readBigUInt64LE(INFO.device) === device && info.readBigUInt64LE(INFO.inode) === inode) {
      return { fd, path };
    }
    fd.close();
  }
  return undefined;
}

function fresh(file: Fd): { fd: Fd; path: string } {
  using control = Fd.open('/dev/loop-control', { flags: O.RDWR });
  const pathOf = (minor: number) => `/dev/loop${minor}`;
  const { fd, minor } = takeFree(control, (minor) => Fd.open(pathOf(minor), { flags: O.RDWR }), file);
  return { fd, path: pathOf(minor) };
}

/** Device and inode as the loop driver knows them: the kernel's own form of device numbers, of 12 and 20 bits. */
function identity(file: Fd): [device: bigint, inode: bigint] {
  const statx = Buffer.alloc(256);
  check(attempt('statx', file, Buffer.from('\0'), AT.EMPTY_PATH, 0x7ff, statx), 'statx');
  const [major, minor] = [statx.readUInt32LE(136), statx.readUInt32LE(140)];
  return [BigInt(((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0), statx.readBigUInt64LE(32)];
}
