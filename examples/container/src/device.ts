import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DeviceRule } from '@iso/cgroups';
import { UsageError } from './options.js';

/** A device of the host inside the container, docker's `--device`. */
export interface DeviceMapping {
  /** Its path on the host. */
  source: string;
  /** Its path inside, default the same. */
  target?: string;
  /** What may be done with it: of `r` read, `w` write, `m` mknod; default all. */
  access?: string;
}

/**
 * Parses docker's `--device SOURCE[:TARGET][:rwm]`.
 *
 * @param text - as typed
 * @returns the mapping
 * @throws {@link UsageError} for relative paths and letters that are none
 */
export function parseDevice(text: string): DeviceMapping {
  const [source = '', ...rest] = text.split(':');
  const access = rest.length > 0 && !rest.at(-1)?.startsWith('/') ? rest.pop() : undefined;
  const [target, ...more] = rest;
  const paths = [source, ...(target === undefined ? [] : [target])].every((path) => path.startsWith('/'));
  if (!paths || more.length) {
    throw new UsageError(`not a device: ${JSON.stringify(text)}, it is SOURCE[:TARGET][:rwm] with absolute paths`);
  }
  if (access !== undefined && !isAccess(access))
    throw new UsageError(`not an access to a device: ${JSON.stringify(access)}, it is of r, w and m`);
  return { source, ...(target === undefined ? {} : { target }), ...(access === undefined ? {} : { access }) };
}

const isAccess = (text: string) => /^(?!.*(.).*\1)[rwm]+$/.test(text);

const character = (major: number, minor?: number): DeviceRule => ({ allow: true, type: 'c', major, minor });

/** What runc lets every container use: its own terminals, and what is no device of the machine's. Nodes may be made of any. */
const harmless: readonly DeviceRule[] = [
  { allow: false },
  { allow: true, type: 'c', access: 'm' },
  { allow: true, type: 'b', access: 'm' },
  // null, zero, full, random, urandom; tty, ptmx; every pts.
  ...[3, 5, 7, 8, 9].map((minor) => character(1, minor)),
  character(5, 0),
  character(5, 2),
  character(136),
];

/**
 * Rules on devices for a container's cgroup.
 *
 * @param devices - of the host's that it may use
 * @returns rules, the last that matches decides
 * @throws {@link UsageError} for what is no device, or not there
 */
export function deviceRules(devices: readonly DeviceMapping[]): DeviceRule[] {
  return [...harmless, ...devices.map(ruleOf)];
}

/** Directories of /dev that are mounts of their own in a container, and nodes that it has anyway. */
const elsewhere = new Set([
  'pts',
  'shm',
  'mqueue',
  'fd',
  'console',
  'ptmx',
  'null',
  'zero',
  'full',
  'random',
  'urandom',
  'tty',
]);

/** Every device of the host, for who is privileged. */
export function hostDevices(directory = '/dev'): DeviceMapping[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (directory === '/dev' && elsewhere.has(entry.name)) return [];
    if (entry.isDirectory()) return hostDevices(path);
    return entry.isBlockDevice() || entry.isCharacterDevice() ? [{ source: path }] : [];
  });
}

function ruleOf({ source, access = 'rwm' }: DeviceMapping): DeviceRule {
  if (!isAccess(access)) throw new UsageError(`not an access to a device: ${JSON.stringify(access)}`);
  const info = statSync(source, { throwIfNoEntry: false });
  if (!info) throw new UsageError(`the device ${source} is not there`);
  if (!info.isBlockDevice() && !info.isCharacterDevice()) throw new UsageError(`${source} is no device`);
  const number = BigInt(info.rdev);
  return {
    allow: true,
    type: info.isBlockDevice() ? 'b' : 'c',
    // As makedev(3) packs them.
    major: Number(((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n)),
    minor: Number((number & 0xffn) | ((number >> 12n) & 0xffffff00n)),
    access,
  };
}
