import { readFileSync, realpathSync, statSync } from 'node:fs';
import { invalid } from '@iso/sys';
import { CgroupError, E } from '../error.js';
import { shown } from '../value.js';

/**
 * Number of the whole block device that limits on I/O are for: of a partition its disk, of a path the device of its file
 * system. What lies on several devices, or on none, has no answer.
 *
 * @param device - `'8:0'`, `'/dev/sda1'`, `'/'`
 * @returns `MAJOR:MINOR`
 * @throws CgroupError `noSuchDevice`; `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function deviceNumber(device: string): string {
  if (typeof device !== 'string' || device === '') throw invalid(`not a block device: ${shown(device)}`);
  if (/^\d+:\d+$/.test(device)) return wholeDisk(device);
  if (!device.startsWith('/')) throw invalid(`a block device is MAJOR:MINOR or an absolute path, not ${device}`);
  let stat: ReturnType<typeof statSync>;
  try {
    stat = statSync(device);
  } catch (error) {
    const { errno = E.NOENT } = error as { errno?: number };
    throw new CgroupError(errno, { syscall: 'stat', path: device, reason: 'noSuchDevice' });
  }
  if (stat.isCharacterDevice()) throw invalid(`${device} is a character device: it has no limits on I/O`);
  const number = decode(stat.isBlockDevice() ? stat.rdev : stat.dev);
  return wholeDisk(number.startsWith('0:') ? (mountSource(number) ?? number) : number);
}

/** Name of a device, for people. */
export function deviceName(number: string): string | undefined {
  try {
    return realpathSync(`/sys/dev/block/${number}`).split('/').pop();
  } catch {
    return undefined;
  }
}

/** As the kernel packs it for user space, minors above 255 included. */
function decode(dev: number): string {
  const value = BigInt(dev);
  const major = ((value >> 8n) & 0xfffn) | ((value >> 32n) & 0xfffff000n);
  const minor = (value & 0xffn) | ((value >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

function wholeDisk(number: string): string {
  const path = `/sys/dev/block/${number}`;
  try {
    readFileSync(`${path}/partition`);
    return readFileSync(`${path}/../dev`, 'utf8').trim();
  } catch {
    // Not a partition, or nothing that this sysfs knows: the kernel judges.
    return number;
  }
}

/** btrfs and the like give their files a device number of their own; the mount table names the real one. */
function mountSource(number: string): string | undefined {
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const source = right.split(' ')[1] ?? '';
    if (left.split(' ')[2] !== number || !source.startsWith('/dev/')) continue;
    try {
      return decode(statSync(source).rdev);
    } catch {
      return undefined;
    }
  }
  return undefined;
}
