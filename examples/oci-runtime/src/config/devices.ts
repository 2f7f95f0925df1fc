import { statSync } from 'node:fs';
import { isAbsolute, normalize } from 'node:path';
import type { MountSpec } from '@iso/mounts';
import { RuntimeError } from '../error.js';
import type { Config, DeviceConfig } from './spec.js';

/** A node as mknod(2) makes it. */
export interface DeviceNode {
  path: string;
  /** S_IFCHR, S_IFBLK or S_IFIFO. */
  kind: number;
  rdev: number;
  mode: number;
  uid: number;
  gid: number;
}

/** What every container has. */
const usual: readonly DeviceConfig[] = [
  { type: 'c', path: '/dev/null', major: 1, minor: 3 },
  { type: 'c', path: '/dev/zero', major: 1, minor: 5 },
  { type: 'c', path: '/dev/full', major: 1, minor: 7 },
  { type: 'c', path: '/dev/random', major: 1, minor: 8 },
  { type: 'c', path: '/dev/urandom', major: 1, minor: 9 },
  { type: 'c', path: '/dev/tty', major: 5, minor: 0 },
];

const kinds: Readonly<Record<string, number>> = { c: 0o020000, u: 0o020000, b: 0o060000, p: 0o010000 };

/**
 * The nodes of a container: those that every one has, and those of its configuration.
 *
 * @param config - of the bundle
 * @throws {@link RuntimeError} for what is no device
 */
export function nodesOf(config: Config): DeviceNode[] {
  const own = config.linux?.devices ?? [];
  // Those of the configuration may say more of a usual one: its mode, its owner.
  const others = usual.filter(({ path }) => !own.some((device) => device.path === path));
  return [...others, ...own].map(nodeOf);
}

function nodeOf({ path, type, major = 0, minor = 0, fileMode = 0o666, uid = 0, gid = 0 }: DeviceConfig): DeviceNode {
  const kind = Object.hasOwn(kinds, type) ? kinds[type] : undefined;
  if (kind === undefined) throw new RuntimeError(`${path}: no type of device: ${JSON.stringify(type)}`);
  if (typeof path !== 'string' || !isAbsolute(path) || normalize(path) !== path || path.endsWith('/'))
    throw new RuntimeError(`not the path of a device: ${JSON.stringify(path)}`);
  if (!(major >= 0 && major < 2 ** 12 && minor >= 0 && minor < 2 ** 20))
    throw new RuntimeError(`${path}: no device has the numbers ${major}:${minor}`);
  const mode = fileMode & 0o7777;
  return { path, kind, rdev: ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, mode, uid, gid };
}

/**
 * The devices of a configuration that are not on a /dev of the container's own: the host's nodes, bound.
 *
 * @param config - of the bundle
 * @param own - whether there is such a /dev
 * @returns lines of the root's recipe
 * @throws {@link RuntimeError} for a device that the host has no node of
 */
export function deviceMounts(config: Config, own: boolean): MountSpec[] {
  const usualPaths = usual.map(({ path }) => path);
  const asked = new Set((config.linux?.devices ?? []).map(({ path }) => path));
  return nodesOf(config)
    .filter(({ path }) => asked.has(path) && !usualPaths.includes(path) && !(own && path.startsWith('/dev/')))
    .map(({ path, kind, rdev }) => {
      if (!hostNode(path, kind, rdev)) throw new RuntimeError(`${path}: this host has no such device there`);
      return { type: 'device', source: path, target: path };
    });
}

/**
 * Whether the host has a node of the same numbers at the same path.
 *
 * @param path - of the node
 * @param kind - its type
 * @param rdev - its numbers
 */
export function hostNode(path: string, kind: number, rdev: number): boolean {
  const info = statSync(path, { throwIfNoEntry: false });
  return info !== undefined && (info.mode & 0o170000) === kind && info.rdev === rdev;
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
