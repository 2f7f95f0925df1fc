import { execFileSync } from 'node:child_process';
import { MountTree } from '@iso/mounts';
import { attempt, Fd, KernelError, O } from '@iso/sys';
import { loopDevice } from '../device/backing.js';
import { likeDirectory } from '../diff/adopt.js';
import type { DiffSource } from '../diff/changes.js';
import { check, open, tryMkdir, tryOpen } from '../file/call.js';
import { openOverlay } from '../overlay/mount.js';
import { explain, StoreError } from './error.js';
import type { Quota, SnapshotRecord } from './record.js';
import type { State } from './state.js';

/** What is in an image: the layer, and what overlay needs beside it. */
const DIFF = 'diff';
const WORK = 'work';
const MKFS = 'mkfs.ext4';

/**
 * Refuses a quota that could not be kept.
 *
 * @param state - the store
 * @param kind - of the snapshot
 * @param name - of the snapshot
 * @throws StoreError `unsupported`
 */
export function requireImages(state: State, kind: string, name: string): void {
  if (kind !== 'active') throw new StoreError('unsupported', 'what cannot be written has no quota', { snapshot: name });
  const { format, name: driver } = state.driver;
  if (format === 'overlay' || format === 'plain') return;
  throw new StoreError('unsupported', `the driver ${driver} has no quota`, { snapshot: name });
}

/**
 * Makes the file system that a layer with a quota lies in.
 *
 * @param state - the store
 * @param record - of the snapshot
 * @param quota - its size
 */
export function createImage(state: State, { layer, below, name }: SnapshotRecord, { bytes, inodes }: Quota): void {
  const file = Buffer.from(layer);
  using fd = Fd.own(open(state.images.number, file, O.RDWR | O.CREAT | O.EXCL, 0o600));
  check(attempt('ftruncate', fd, bytes), 'ftruncate', file);
  const options = [
    '-q',
    '-F',
    '-m',
    '0',
    '-O',
    '^resize_inode',
    '-E',
    'lazy_itable_init=1,lazy_journal_init=1,nodiscard',
  ];
  const path = `/proc/${process.pid}/fd/${fd.number}`;
  try {
    execFileSync(MKFS, [...options, ...(inodes ? ['-N', String(inodes)] : []), path], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer };
    const said = code === 'ENOENT' ? `there is no ${MKFS}` : `${MKFS} failed: ${String(stderr).trim()}`;
    const hint = 'quotas need e2fsprogs';
    throw new StoreError('unsupported', said, { snapshot: name, hint, cause: error });
  }
  const [parent] = below;
  using mount = mountImage(state, layer, name);
  for (const [directory, mode] of [
    [DIFF, 0o755],
    [WORK, 0o700],
  ] as const) {
    check(tryMkdir(mount.fd.number, Buffer.from(directory), mode), 'mkdirat', Buffer.from(directory));
  }
  if (!parent) return;
  try {
    using from = Fd.open(state.driver.directory(parent), { directory: true });
    using to = Fd.open(inside(mount, DIFF), { directory: true });
    // A union's root shows the attributes of its uppermost layer.
    check(likeDirectory(from.number, to.number, 'overlay'), 'fchown', Buffer.from(DIFF));
  } finally {
    state.driver.release?.(parent);
  }
}

/** Mounts an image, attached nowhere. All who mount it share one file system, and so one loop device. To be called alone. */
function mountImage(state: State, layer: string, name: string): MountTree {
  const file = Buffer.from(layer);
  using image = Fd.own(check(tryOpen(state.images.number, file, O.RDWR), 'openat', file));
  try {
    const device = loopDevice(image);
    try {
      return MountTree.create('ext4', { source: device.path });
    } finally {
      device.fd.close();
    }
  } catch (error) {
    if (!KernelError.is(error, 'ENOENT', 'ENXIO', 'ENODEV', 'EPERM', 'EACCES')) throw explain(error, name);
    const hint = 'quotas need loop devices (/dev/loop-control) and ext4';
    throw new StoreError('unsupported', 'its file system cannot be mounted', { snapshot: name, hint, cause: error });
  }
}

function inside(mount: MountTree, name: string): string {
  return `/proc/self/fd/${mount.fd.number}/${name}`;
}

/** A layer with a quota, while its image is mounted. */
export interface OpenImage extends Disposable {
  /** Of the layer, in the form of overlay. */
  readonly directory: string;
  /** What it changes of what lies below. */
  readonly diff: DiffSource;
  /** Mounts it on what lies below. */
  mount(readonly: boolean): Fd;
}

/**
 * Opens a layer that has a quota.
 *
 * @param state - the store
 * @param record - of the snapshot
 * @returns the layer; dispose it when what was made of it is mounted, or done with
 */
export async function openImage(state: State, { layer, below, name }: SnapshotRecord): Promise<OpenImage> {
  const mounted = await state.exclusively(() => mountImage(state, layer, name));
  // A driver without a union has all that lies below in the uppermost.
  const ids = state.driver.format === 'plain' ? below.slice(0, 1) : below;
  const lowers = ids.map((id) => state.driver.directory(id));
  const [directory, work] = [inside(mounted, DIFF), inside(mounted, WORK)];
  return {
    directory,
    diff: { upper: directory, lowers },
    mount(readonly) {
      if (lowers.length === 0) return MountTree.clone(directory, { readonly }).fd;
      if (readonly) return openOverlay({ lower: [directory, ...lowers], readonly });
      return openOverlay({ lower: lowers, upper: directory, work });
    },
    [Symbol.dispose]() {
      mounted.close();
      for (const id of ids) state.driver.release?.(id);
    },
  };
}
