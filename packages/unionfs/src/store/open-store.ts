import { mkdir } from 'node:fs/promises';
import { attempt, Fd, invalid, O } from '@iso/sys';
import type { Driver, DriverName } from '../driver/driver.js';
import { type DriverProbe, driverNames, openDriver, probeDriver } from '../driver/probe.js';
import { check, ERRNO, open as openFile, tryOpen, tryRename, writeAll } from '../file/call.js';
import { unlock, lock as waitFor } from '../file/lock.js';
import { kernel } from '../file/node.js';
import { explain, StoreError } from './error.js';
import { openPlaces } from './places.js';
import { type Durability, State } from './state.js';
import { Store } from './store.js';

/** A driver that is not of this package. */
export interface OwnDriver {
  /** What the store remembers it by. */
  name: string;
  /** Opens it on a directory for its layers. */
  open(root: string): Driver & Disposable;
}

/** How a store is opened. */
export interface StoreOptions {
  /**
   * Its directory, an absolute path; made where there is none. Everything of the store is in it, and only its owner or root may write to
   * it: layers are made with all privileges that this process has.
   */
  root: string;
  /**
   * How layers are kept: the name of a driver, `auto` (default) for what the store was made with, or else the best that works there,
   * or a driver of your own, by its name and how it is opened.
   */
  driver?: DriverName | 'auto' | OwnDriver;
  /** `commit` (default): what was committed survives a power cut; `none`: not so, and faster. */
  durability?: Durability;
  /** Gives up waiting for other processes. */
  signal?: AbortSignal;
}

const SETTINGS = Buffer.from('store.json');

/**
 * Opens a store of snapshots, or makes one. There is no daemon: any number of processes use one store at once, and none that is killed
 * leaves anything that stops the others. Needs what its driver needs, see `probeDrivers()`; `vfs` needs root.
 *
 * @param options - see {@link StoreOptions}
 * @returns the store; dispose it
 * @throws StoreError `exposed`, `otherDriver`, `unsupported` (no driver works there, and why), `corrupt`, `noSpace`; KernelError `EACCES` …;
 * `TypeError` (`ERR_INVALID_ARG_VALUE`)
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
 * import { openStore } from '@iso/unionfs';
 * const root = mkdtempSync('/tmp/iso-store-');
 * {
 *   await using store = await openStore({ root });
 *   await store.prepare('work');
 *   {
 *     using mount = await store.openMount('work');
 *     writeFileSync(`/proc/self/fd/${mount.fd.number}/hello`, 'hello');
 *   }
 *   await store.commit('base', 'work');
 *   await store.prepare('container', { parent: 'base', labels: { for: 'me' } });
 *   const { parent, depth } = await store.stat('container');
 *   if (parent !== 'base' || depth !== 1) throw new Error('not on top');
 *   await store.remove('base', { recursive: true });
 * }
 * rmSync(root, { recursive: true });
 * ```
 */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { root, driver, durability, signal } = checkOptions(options);
  const open: Disposable[] = [];
  const opened = <T extends Disposable>(one: T): T => {
    open.push(one);
    return one;
  };
  try {
    await kernel(mkdir(root, { recursive: true, mode: 0o700 }));
    using directory = Fd.open(root, { directory: true });
    const places = openPlaces(directory, root);
    Object.values(places).forEach(opened);
    const lock = opened(Fd.own(openFile(directory.number, Buffer.from('lock'), O.RDWR | O.CREAT, 0o600)));
    await waitFor(lock, 'exclusive', { signal });
    // Room for what changes later must be there when the disk is full.
    if (attempt('pread64', lock, Buffer.alloc(8), 8, 0) < 8) writeAll(lock.number, Buffer.alloc(8));
    const chosen = opened(choose(directory, `/proc/self/fd/${places.layers.number}`, driver));
    const store = new Store(new State(places, lock, chosen, durability));
    places.layers.close();
    unlock(lock);
    return store;
  } catch (error) {
    for (const one of open.reverse()) one[Symbol.dispose]();
    throw explain(error);
  }
}

/** Refuses what means nothing, from programs without types. */
function checkOptions(options: StoreOptions): Required<Omit<StoreOptions, 'signal'>> & Pick<StoreOptions, 'signal'> {
  if (typeof options !== 'object' || options === null) throw invalid('a store is opened with options: { root: PATH }');
  const { root, driver = 'auto', durability = 'commit', signal } = options;
  if (typeof root !== 'string' || !root.startsWith('/') || root.includes('\0')) {
    throw invalid(`root is not an absolute path: ${JSON.stringify(root)}`);
  }
  if (durability !== 'commit' && durability !== 'none') throw invalid(`durability is commit or none: ${durability}`);
  if (!isDriver(driver)) throw invalid(`no driver is called ${JSON.stringify(driver)}: ${driverNames.join(', ')}`);
  return { root, driver, durability, ...(signal ? { signal } : {}) };
}

function isDriver(driver: NonNullable<StoreOptions['driver']>): boolean {
  if (typeof driver === 'string') return driver === 'auto' || driverNames.includes(driver);
  return typeof driver?.name === 'string' && typeof driver.open === 'function';
}

/** The driver that the store was made with; the first time one is chosen and written down. */
function choose(root: Fd, layers: string, wanted: NonNullable<StoreOptions['driver']>): Driver & Disposable {
  const made = readSettings(root);
  const name = typeof wanted === 'string' ? wanted : wanted.name;
  if (made !== undefined && name !== 'auto' && name !== made) {
    throw new StoreError('otherDriver', `the store was made with the driver ${made}, not ${name}`);
  }
  const chosen = made ?? (typeof wanted === 'string' ? best(layers, wanted) : name);
  const driver = typeof wanted === 'string' ? openDriver(chosen as DriverName, layers) : wanted.open(layers);
  if (made === undefined) {
    try {
      writeSettings(root, chosen);
    } catch (error) {
      driver[Symbol.dispose]();
      throw error;
    }
  }
  return driver;
}

/** The first driver that works there, or the one that is asked for, if it does. */
function best(layers: string, wanted: DriverName | 'auto'): DriverName {
  const names = driverNames.filter((name) => wanted === 'auto' || name === wanted);
  const probes: DriverProbe[] = [];
  for (const name of names) {
    const probe = probeDriver(name, layers);
    if (probe.usable) return name;
    probes.push(probe);
  }
  const reasons = probes.map(({ driver, reason }) => `${driver}: ${reason}`).join('; ');
  const what = wanted === 'auto' ? 'no driver works' : `the driver ${wanted} does not work`;
  const plain = process.geteuid?.() !== 0 && probes.some(({ code }) => code === 'no-permission');
  const hint = plain ? { hint: 'be root, or root of a user namespace: unshare -Urm node …' } : {};
  throw new StoreError('unsupported', `${what} here (${reasons})`, hint);
}

function readSettings(root: Fd): string | undefined {
  const opened = tryOpen(root.number, SETTINGS, O.RDONLY);
  if (opened === -ERRNO.ENOENT) return undefined;
  using fd = Fd.own(check(opened, 'openat', SETTINGS));
  const bytes = Buffer.alloc(4096);
  const text = bytes.toString('utf8', 0, check(attempt('read', fd, bytes, bytes.length), 'read', SETTINGS));
  try {
    const { version, driver } = JSON.parse(text) as { version: unknown; driver: unknown };
    if (version !== 1) throw new StoreError('unsupported', `the store is of version ${String(version)}, this is 1`);
    if (typeof driver === 'string') return driver;
  } catch (error) {
    if (StoreError.is(error)) throw error;
  }
  throw new StoreError('corrupt', 'store.json does not say which driver the store has', {
    hint: 'write {"version":1,"driver":"…"} to it',
  });
}

function writeSettings(root: Fd, driver: string): void {
  const name = Buffer.from('.store.json');
  using fd = Fd.own(openFile(root.number, name, O.WRONLY | O.CREAT | O.TRUNC, 0o600));
  writeAll(fd.number, Buffer.from(`${JSON.stringify({ version: 1, driver })}\n`), name);
  check(attempt('fsync', fd), 'fsync', name);
  check(tryRename(root.number, name, root.number, SETTINGS), 'renameat2', name);
  check(attempt('fsync', root), 'fsync');
}
