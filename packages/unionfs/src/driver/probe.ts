import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { KernelError } from '@iso/sys';
import { btrfs } from './btrfs.js';
import type { Driver, DriverName } from './driver.js';
import { overlay2 } from './overlay2.js';
import { vfs } from './vfs.js';

/** Whether a driver works in a place. */
export interface DriverProbe {
  driver: DriverName;
  usable: boolean;
  /** `ok`, or what kind of thing is missing. */
  code: 'ok' | 'no-kernel' | 'no-permission' | 'bad-backing-fs' | 'failed';
  /** One line: what is missing, and who can grant it. */
  reason: string;
  /** The error that showed it. */
  cause?: unknown;
}

const drivers: Readonly<Record<DriverName, (root: string) => Driver & Disposable>> = { overlay2, btrfs, vfs };

/**
 * Opens a driver.
 *
 * @param name - which
 * @param root - directory of its layers; exists
 * @returns the driver
 */
export function openDriver(name: DriverName, root: string): Driver & Disposable {
  return drivers[name](root);
}

/**
 * Tries every driver in a directory: each makes two layers there, mounts them, and removes them again. The best comes first.
 *
 * @param root - directory where layers are to be
 * @returns for each driver whether it works, or what is missing
 *
 * @example
 * ```ts
 * import { probeDrivers } from '@iso/unionfs';
 * for (const { driver, usable, reason } of probeDrivers('/tmp')) console.log(driver, usable, reason);
 * ```
 */
export function probeDrivers(root: string): DriverProbe[] {
  return (Object.keys(drivers) as DriverName[]).map((driver) => probe(driver, root));
}

function probe(name: DriverName, root: string): DriverProbe {
  const place = mkdtempSync(join(root, '.iso-probe-'));
  try {
    using driver = openDriver(name, place);
    try {
      driver.create('a', []);
      driver.create('b', ['a']);
      driver.open('b', ['a']).close();
      return { driver: name, usable: true, code: 'ok', reason: 'two layers were made and mounted' };
    } catch (error) {
      return { driver: name, usable: false, ...judge(name, error), cause: error };
    } finally {
      for (const id of ['b', 'a']) remove(driver, id);
    }
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

/** What could not be made need not be removable. */
function remove(driver: Driver, id: string): void {
  try {
    driver.remove(id);
  } catch (error) {
    if (!KernelError.is(error)) throw error;
  }
}

function judge(name: DriverName, error: unknown): Pick<DriverProbe, 'code' | 'reason'> {
  if (!KernelError.is(error)) return { code: 'failed', reason: String(error) };
  const known =
    name === 'vfs' || readFileSync('/proc/filesystems', 'utf8').includes(name === 'btrfs' ? 'btrfs' : 'overlay');
  const filesystem = name === 'overlay2' ? 'overlay' : name;
  if (!known) return { code: 'no-kernel', reason: `the kernel has no ${filesystem}, or its module is not loaded` };
  if (error.code === 'EPERM' || error.code === 'EACCES') {
    return { code: 'no-permission', reason: `${error.message}` };
  }
  if (name === 'btrfs' && error.code === 'ENOTTY') {
    return { code: 'bad-backing-fs', reason: 'the directory does not lie on btrfs' };
  }
  if (name === 'overlay2' && error.code === 'EINVAL') {
    return { code: 'bad-backing-fs', reason: `overlay takes no writable layer on this file system: ${error.message}` };
  }
  return { code: 'failed', reason: error.message };
}
