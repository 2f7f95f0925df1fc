import { statSync } from 'node:fs';
import type { MountSpec } from '@iso/mounts';
import { RuntimeError } from '../error.js';
import type { Config, DeviceConfig } from './spec.js';

/** What every /dev has. */
const usual = ['/dev/null', '/dev/zero', '/dev/full', '/dev/random', '/dev/urandom', '/dev/tty'];

/**
 * The devices of a configuration: those of the host, bound.
 *
 * @param config - of the bundle
 * @returns lines of the root's recipe
 * @throws {@link RuntimeError} for a device that the host has no node of
 */
export function deviceMounts(config: Config): MountSpec[] {
  return (config.linux?.devices ?? [])
    .filter(({ path }) => !usual.includes(path))
    .map((device) => ({ type: 'device', source: nodeOf(device), target: device.path }));
}

function nodeOf({ path, type, major = 0, minor = 0 }: DeviceConfig): string {
  const info = statSync(path, { throwIfNoEntry: false });
  const same =
    info &&
    (type === 'b' ? info.isBlockDevice() : info.isCharacterDevice()) &&
    numbersOf(info.rdev) === `${major}:${minor}`;
  if (!same) throw new RuntimeError(`${path}: this host has no such device ${type} ${major}:${minor} there`);
  return path;
}

/** As of makedev(3). */
function numbersOf(rdev: number): string {
  const device = BigInt(rdev);
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & 0xfffff000n);
  const minor = (device & 0xffn) | ((device >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** Rules for what every container may use: the usual devices, its terminals; and whatever it makes nodes of, as runc. */
export const usualRules = [
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  ...[
    [1, 3],
    [1, 5],
    [1, 7],
    [1, 8],
    [1, 9],
    [5, 0],
    [5, 2],
  ].map(([major, minor]) => ({ allow: true, type: 'c', major, minor, access: 'rwm' })),
  { allow: true, type: 'c', major: 136, access: 'rwm' },
];
