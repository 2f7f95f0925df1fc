import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { type Fd, KernelError, UnsupportedError } from '@iso/sys';
import { listmount, mountNamespaceId, statmount } from './calls/statmount.js';
import { decode, type Mount, parseMountInfo } from './mountinfo.js';
import { MOUNT_ATTR, MS, STATMOUNT } from './raw/flags.js';
import type { StatMount } from './raw/structs.js';

/**
 * The mount table that this process sees, that another one sees, or that of a whole mount namespace. Of this process and of
 * a namespace it is asked by listmount(2) and statmount(2); where the kernel lacks these, mountinfo says the same without
 * unique ids.
 *
 * @param options - `pid`: another process, as its mountinfo shows it; `namespace`: descriptor of a mount namespace
 * @returns mounts in the kernel's order
 * @throws Node's `ENOENT` where there is no such process, `EACCES` where it may not be looked at; for a namespace KernelError
 * `EPERM` without CAP_SYS_ADMIN in its user namespace, UnsupportedError before Linux 6.13
 *
 * @example
 * ```ts
 * import { mountTable } from '@iso/mounts';
 * if (!mountTable().some((mount) => mount.target === '/proc')) throw new Error('no /proc');
 * ```
 */
export function mountTable(options: { pid?: number; namespace?: Fd } = {}): Mount[] {
  if (options.namespace) return statMounts(mountNamespaceId(options.namespace));
  if (options.pid === undefined) {
    try {
      return statMounts();
    } catch (error) {
      if (!UnsupportedError.is(error) || process.platform !== 'linux') throw error;
    }
  }
  return parseMountInfo(readFileSync(`/proc/${options.pid ?? 'self'}/mountinfo`, 'utf8'));
}

/** The mount that a path lies on; of several on one place the last. */
export function mountOf(path: string): Mount | undefined {
  const real = existsSync(path) ? realpathSync(path) : path;
  const on = mountTable().filter(({ target }) => `${real}/`.startsWith(target === '/' ? '/' : `${target}/`));
  return on.sort((a, b) => a.target.length - b.target.length).at(-1);
}

const MASK =
  STATMOUNT.SB_BASIC |
  STATMOUNT.MNT_BASIC |
  STATMOUNT.PROPAGATE_FROM |
  STATMOUNT.MNT_ROOT |
  STATMOUNT.MNT_POINT |
  STATMOUNT.FS_TYPE |
  STATMOUNT.MNT_OPTS |
  STATMOUNT.FS_SUBTYPE |
  STATMOUNT.SB_SOURCE;

function statMounts(namespace?: bigint): Mount[] {
  const scope = namespace === undefined ? {} : { namespace };
  const stats: StatMount[] = [];
  for (const id of listmount(scope)) {
    try {
      stats.push(statmount(id, { mask: MASK, ...scope }));
    } catch (error) {
      // Unmounted since it was listed.
      if (!KernelError.is(error, 'ENOENT')) throw error;
    }
  }
  // The kernel leaves out what is empty; that no mount has a source means that it does not know of sources.
  if (stats.length > 0 && !stats.some((stat) => stat.mask & STATMOUNT.SB_SOURCE))
    throw new UnsupportedError('STATMOUNT_SB_SOURCE', 'statmount left out the source of every mount', {
      since: '6.13',
    });
  return stats.map(fromStat);
}

const superNames: readonly [bit: number, name: string][] = [
  [MS.SYNCHRONOUS, 'sync'],
  [MS.DIRSYNC, 'dirsync'],
  [MS.LAZYTIME, 'lazytime'],
];

function fromStat(stat: StatMount): Mount {
  return {
    id: stat.mntIdOld,
    uniqueId: stat.mntId,
    parentId: stat.mntParentIdOld,
    device: `${stat.sbDevMajor}:${stat.sbDevMinor}`,
    root: stat.mntRoot,
    target: stat.mntPoint,
    options: optionsOf(stat.mntAttr),
    propagation: propagationOf(stat),
    type: stat.fsSubtype ? `${stat.fsType}.${stat.fsSubtype}` : stat.fsType,
    source: stat.sbSource,
    superOptions: [
      stat.sbFlags & MS.RDONLY ? 'ro' : 'rw',
      ...superNames.filter(([bit]) => stat.sbFlags & bit).map(([, name]) => name),
      ...(stat.mntOpts ? stat.mntOpts.split(',').map(decode) : []),
    ],
  };
}

/** In mountinfo's order. */
function optionsOf(attr: number): string[] {
  const atime = attr & MOUNT_ATTR._ATIME;
  const words: [here: boolean | number, name: string][] = [
    [attr & MOUNT_ATTR.NOSUID, 'nosuid'],
    [attr & MOUNT_ATTR.NODEV, 'nodev'],
    [attr & MOUNT_ATTR.NOEXEC, 'noexec'],
    [atime === MOUNT_ATTR.NOATIME, 'noatime'],
    [attr & MOUNT_ATTR.NODIRATIME, 'nodiratime'],
    [atime === 0, 'relatime'],
    [attr & MOUNT_ATTR.NOSYMFOLLOW, 'nosymfollow'],
    [attr & MOUNT_ATTR.IDMAP, 'idmapped'],
  ];
  return [attr & MOUNT_ATTR.RDONLY ? 'ro' : 'rw', ...words.filter(([here]) => here).map(([, name]) => name)];
}

function propagationOf({ mntPropagation, mntPeerGroup, mntMaster, propagateFrom }: StatMount): string[] {
  return [
    ...(mntPropagation & MS.SHARED ? [`shared:${mntPeerGroup}`] : []),
    ...(mntPropagation & MS.SLAVE ? [`master:${mntMaster}`] : []),
    ...(mntPropagation & MS.SLAVE && propagateFrom && propagateFrom !== mntMaster
      ? [`propagate_from:${propagateFrom}`]
      : []),
    ...(mntPropagation & MS.UNBINDABLE ? ['unbindable'] : []),
  ];
}
