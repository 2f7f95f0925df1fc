import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { invalid, KernelError, UnsupportedError } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import { aufs } from './aufs.js';
import { btrfs } from './btrfs.js';
import { type DevicemapperOptions, devicemapper } from './devicemapper.js';
import type { Driver, DriverName } from './driver.js';
import { fuseOverlayfs } from './fuse-overlayfs.js';
import { overlay2 } from './overlay2.js';
import type { UnionOptions } from './union.js';
import { vfs } from './vfs.js';
import { type ZfsOptions, zfs } from './zfs.js';

/** Whether a driver works in a place. */
export interface DriverProbe {
  driver: DriverName;
  usable: boolean;
  /**
   * `ok`, or what is missing: the kernel has no such file system, or its module is not loaded; a program is not installed; a
   * privilege; the directory lies on the wrong file system. `failed`: something else.
   */
  code: 'ok' | 'no-kernel' | 'no-tool' | 'no-permission' | 'bad-backing-fs' | 'failed';
  /** One line: what is missing, and how to get it. */
  reason: string;
  /** The error that showed it. */
  cause?: unknown;
}

/** What drivers are told, each what is its own. */
export interface DriverOptions extends DevicemapperOptions, ZfsOptions, UnionOptions {}

/** The best come first: no copies and no helper, then what shares blocks, then what needs a program for each mount, then copies. */
const drivers: Readonly<Record<DriverName, (root: string, options: DriverOptions) => Driver & Disposable>> = {
  overlay2,
  btrfs,
  zfs,
  devicemapper,
  aufs,
  'fuse-overlayfs': fuseOverlayfs,
  vfs,
};

/**
 * Opens a driver.
 *
 * @param name - which; `auto` is the first that {@link probeDrivers} finds usable
 * @param root - directory of its layers; exists
 * @param options - of that driver
 * @returns the driver
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for another name; what the driver throws where something is missing
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { openDriver } from '@iso/unionfs';
 * const root = mkdtempSync('/tmp/iso-driver-');
 * {
 *   using driver = openDriver('auto', root);
 *   console.log(driver.name);
 * }
 * rmSync(root, { recursive: true });
 * ```
 */
export function openDriver(name: DriverName | 'auto', root: string, options: DriverOptions = {}): Driver & Disposable {
  if (name === 'auto') return drivers[best(root, options)](root, options);
  if (!Object.hasOwn(drivers, name)) {
    throw invalid(`no driver is called ${JSON.stringify(name)}; there are ${Object.keys(drivers).join(', ')}`);
  }
  return drivers[name](root, options);
}

/** Copies need nothing, so that there is always one. */
function best(root: string, options: DriverOptions): DriverName {
  return driverNames.find((name) => probeDriver(name, root, options).usable) ?? 'vfs';
}

/**
 * The drivers' names, the best first.
 */
export const driverNames: readonly DriverName[] = Object.keys(drivers) as DriverName[];

/**
 * Tries every driver in a directory: each makes two layers there, mounts them, and removes them again. The best comes first.
 *
 * @param root - directory where layers are to be
 * @param options - of the drivers
 * @returns for each driver whether it works, or what is missing and how to get it
 *
 * @example
 * ```ts
 * import { probeDrivers } from '@iso/unionfs';
 * for (const { driver, usable, reason } of probeDrivers('/tmp')) console.log(driver, usable, reason);
 * ```
 */
export function probeDrivers(root: string, options: DriverOptions = {}): DriverProbe[] {
  return driverNames.map((driver) => probeDriver(driver, root, options));
}

const MIB = 2 ** 20;
/** What is tried is thrown away: it need not be large. */
const SMALL = { poolSize: 64 * MIB, metadataSize: 4 * MIB, layerSize: 32 * MIB } as const;

/**
 * Tries one driver.
 *
 * @param name - which
 * @param root - directory where layers are to be
 * @param options - of the driver
 * @returns whether it works, or what is missing and how to get it
 */
export function probeDriver(name: DriverName, root: string, options: DriverOptions = {}): DriverProbe {
  checkArgument('root', root, 'a path');
  const place = mkdtempSync(join(root, '.iso-probe-'));
  try {
    using driver = drivers[name](place, { ...options, ...SMALL });
    try {
      driver.create('a', []);
      driver.create('b', ['a']);
      driver.open('b', ['a']).close();
      return { driver: name, usable: true, code: 'ok', reason: 'two layers were made and mounted' };
    } finally {
      for (const id of ['b', 'a']) remove(driver, id);
    }
  } catch (error) {
    return { driver: name, usable: false, ...judge(name, error), cause: error };
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** What could not be made need not be removable. */
function remove(driver: Driver, id: string): void {
  try {
    driver.remove(id);
  } catch (error) {
    if (!KernelError.is(error) && !(error instanceof UnsupportedError)) throw error;
  }
}

/** The file system that a driver mounts, and its module. */
const filesystems: Partial<Readonly<Record<DriverName, string>>> = {
  overlay2: 'overlay',
  btrfs: 'btrfs',
  'fuse-overlayfs': 'fuse',
};

function judge(name: DriverName, error: unknown): Pick<DriverProbe, 'code' | 'reason'> {
  if (error instanceof UnsupportedError) {
    const tool = /no program/.test(error.message);
    return { code: tool ? 'no-tool' : 'no-kernel', reason: error.message };
  }
  if (!KernelError.is(error)) return { code: 'failed', reason: String(error) };
  const { code, message } = error;
  const filesystem = filesystems[name];
  if (filesystem && !new RegExp(`\\b${filesystem}$`, 'm').test(readFileSync('/proc/filesystems', 'utf8'))) {
    const reason = `the kernel has no ${filesystem}, or its module is not loaded: modprobe ${filesystem}`;
    return { code: 'no-kernel', reason };
  }
  if (code === 'EPERM' || code === 'EACCES') {
    const who = 'needs CAP_SYS_ADMIN over the mount namespace: root, or root of a user namespace';
    return { code: 'no-permission', reason: `${who}; ${message}` };
  }
  if (name === 'btrfs' && code === 'ENOTTY') {
    return { code: 'bad-backing-fs', reason: 'the directory does not lie on btrfs: give one that does' };
  }
  if (name === 'zfs' && code === 'ENOENT') return { code: 'bad-backing-fs', reason: error.hint ?? message };
  if (name === 'overlay2' && code === 'EINVAL') {
    return { code: 'bad-backing-fs', reason: `overlay takes no writable layer on this file system: ${message}` };
  }
  if (name === 'fuse-overlayfs' && error.path === '/dev/fuse') {
    return {
      code: 'no-kernel',
      reason: `there is no /dev/fuse: modprobe fuse, or mknod /dev/fuse c 10 229; ${message}`,
    };
  }
  return { code: 'failed', reason: message };
}
