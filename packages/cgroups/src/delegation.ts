import { accessSync, constants, readFileSync } from 'node:fs';
import { AT, attempt, invalid, syscall, UnsupportedError } from '@iso/sys';
import { Cgroup } from './cgroup.js';
import type { Controller } from './controller.js';
import { CgroupError, E } from './error.js';
import { detect, type Layout, onlyVersion } from './layout.js';
import { onlyKeys } from './value.js';

/** A subtree in which this process may make groups. */
export interface Delegation {
  /** Path below the top of the v2 hierarchy. */
  path: string;
  /** Controllers that groups in it can have. */
  controllers: Controller[];
  /** Whether it has processes: they have to leave it for a child before controllers can be passed on. */
  populated: boolean;
}

/** What a delegatee must own, where the kernel has no list of it. */
const usual = ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads'];

/**
 * Finds the highest group, from this process's own upwards, that this user may make groups in, on v2; where systemd has marked one as
 * delegated (`user.delegate`), that one, for root too. Changes nothing: whether a directory and its files may be written is asked
 * for, not tried.
 *
 * @param options - `layout`: from {@link detect}
 * @returns the subtree; undefined where none is delegated, or there is no v2 tree
 *
 * @example
 * ```ts
 * import { findDelegated } from '@iso/cgroups';
 * const delegated = findDelegated();
 * if (delegated && !delegated.path.startsWith('/')) throw new Error('not a path');
 * ```
 */
export function findDelegated(options: { layout?: Layout } = {}): Delegation | undefined {
  onlyKeys(options, 'the options of findDelegated', ['layout']);
  const layout = options.layout ?? detect();
  const hierarchy = layout.hierarchies.find(({ version }) => version === 2);
  if (!hierarchy || hierarchy.own === undefined) return undefined;
  const names = hierarchy.own.split('/').filter((name) => name !== '');
  let found: string | undefined;
  for (let depth = names.length; depth >= 0; depth--) {
    const path = `/${names.slice(0, depth).join('/')}`;
    if (!mayDelegate(`${hierarchy.mount}${path}`)) break;
    found = path;
    // Root may write above it too, but that is systemd's.
    if (marked(`${hierarchy.mount}${path}`)) break;
  }
  if (found === undefined) return undefined;
  const at = `${hierarchy.mount}${found}`;
  const offered = words(`${at}/cgroup.controllers`);
  return {
    path: found,
    controllers: hierarchy.controllers.filter((controller) => offered.includes(controller)),
    // The real root is exempt from the rule on processes.
    populated: words(`${at}/cgroup.type`).length > 0 && words(`${at}/cgroup.procs`).length > 0,
  };
}

/**
 * Gives a group to a user: its directory and the files by which groups below it are made and filled. Its own limits stay the
 * giver's.
 *
 * @param group - on v2, or hybrid: its v2 side
 * @param uid - the user
 * @param gid - the user's group
 * @throws KernelError `EPERM` without CAP_CHOWN; UnsupportedError where the group has no v2 directory
 */
export function delegate(group: Cgroup, uid: number, gid: number): void {
  // The kernel takes 32 bits: 2^32 would be root, and -1, which is 2^32 - 1, nobody new.
  for (const id of [uid, gid]) {
    if (!Number.isInteger(id) || id < 0 || id > 2 ** 32 - 2) throw invalid(`not a user or group: ${id}`);
  }
  const directory = group.path('freezer');
  if (group.id === undefined || directory === undefined) {
    throw new UnsupportedError('delegation', 'the kernel makes it safe on v2 alone, and the group has no v2 directory');
  }
  const listed = words('/sys/kernel/cgroup/delegate');
  syscall('fchownat', AT.FDCWD, directory, uid, gid, 0);
  for (const file of listed.length ? listed : usual) {
    // A kernel names files of controllers that are not enabled here.
    const result = attempt('fchownat', AT.FDCWD, `${directory}/${file}`, uid, gid, 0);
    if (result < 0 && result !== -2) syscall('fchownat', AT.FDCWD, `${directory}/${file}`, uid, gid, 0);
  }
}

/**
 * A group to make others below, for whoever is not root: the delegated subtree, with its processes moved to a leaf of it, so that
 * controllers can be passed on.
 *
 * @param options - `leaf`: name of the group that takes the processes, default `supervisor`; `layout`
 * @returns the group, to be a `parent` of {@link Cgroup.create}
 * @throws CgroupError `notDelegated` where nothing is, with what to do about it
 */
export async function openDelegated(options: { leaf?: string; layout?: Layout } = {}): Promise<Cgroup> {
  onlyKeys(options, 'the options of openDelegated', ['leaf', 'layout']);
  const layout = options.layout ?? detect();
  const found = findDelegated({ layout });
  if (!found) {
    throw new CgroupError(E.ACCES, {
      syscall: 'access',
      call: 'finding a delegated cgroup',
      reason: 'notDelegated',
      hint: 'start this process by `systemd-run --user --scope -p Delegate=yes`, or in a container with a writable cgroup2 of its own',
    });
  }
  // On a hybrid machine the v1 side is somebody else's.
  const group = await Cgroup.open(found.path, { layout: onlyVersion(layout, 2) });
  if (!found.populated) return group;
  const name = options.leaf ?? 'supervisor';
  try {
    const leaf = group.children().includes(name)
      ? await group.open(name)
      : await group.create(name, { controllers: [] });
    await leaf.moveAll(group);
    leaf[Symbol.dispose]();
    return group;
  } catch (error) {
    group[Symbol.dispose]();
    throw error;
  }
}

function mayDelegate(path: string): boolean {
  try {
    accessSync(path, constants.W_OK | constants.X_OK);
    for (const file of ['cgroup.procs', 'cgroup.subtree_control']) accessSync(`${path}/${file}`, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** systemd notes on the group of a unit with `Delegate=yes` that it keeps its hands off what is below. */
function marked(path: string): boolean {
  const value = Buffer.alloc(8);
  return ['user.delegate', 'trusted.delegate'].some((name) => {
    const length = attempt('getxattr', path, name, value, value.length);
    return length === 1 && value.toString('latin1', 0, 1) === '1';
  });
}

function words(path: string): string[] {
  try {
    return readFileSync(path, 'utf8')
      .split(/\s+/)
      .filter((word) => word !== '');
  } catch {
    return [];
  }
}
