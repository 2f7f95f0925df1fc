import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { CLONE, Fd, invalid, KernelError, O, park, syscall } from '@iso/sys';
import { type IdRange, idMapText } from './idmap.js';
import { Namespace } from './namespace.js';
import { subordinateIds, subordinateMap } from './subordinate.js';
import { type NamespaceType, types } from './type.js';

/** Who is who in a user namespace. */
export interface UserMaps {
  /** User ids. */
  uidMap: readonly IdRange[];
  /** Group ids. */
  gidMap: readonly IdRange[];
  /** Whether setgroups(2) works inside; a plain user must deny it, which is the default then. */
  setgroups?: 'allow' | 'deny';
}

/**
 * Maps, or short for some: `self` keeps the caller's own ids, `root` makes the caller 0 inside, `auto` too and adds all ids that
 * /etc/subuid and /etc/subgid give its user, from 1 on.
 */
export type UserMapping = 'self' | 'root' | 'auto' | UserMaps;

/**
 * A user namespace with its maps written, held by a descriptor. It has no process; launches join it, id-mapped mounts
 * take it as their map.
 *
 * @example
 * ```ts
 * import { UserNamespace } from '@iso/namespaces';
 * const own = UserNamespace.create('root');
 * if (own.type !== 'user') throw new Error('another type');
 * own.close();
 * ```
 */
export class UserNamespace extends Namespace {
  /** Its maps, as they were asked for. */
  readonly maps: UserMaps;

  private constructor(fd: Fd, maps: UserMaps) {
    super(fd, 'user');
    this.maps = maps;
  }

  /**
   * Creates a user namespace: a child is parked in it while the maps are written, and ended.
   * A plain user can map its own ids; ranges need CAP_SETUID and CAP_SETGID, or newuidmap(1) with entries in /etc/subuid.
   *
   * @param mapping - maps, or `self`, `root` or `auto`
   * @returns the namespace
   * @throws KernelError `EPERM`, `ENOSPC` with a hint; `TypeError` for maps that are none
   */
  static override create(mapping: UserMapping | Exclude<NamespaceType, 'user' | 'pid'> = 'self'): UserNamespace {
    if (typeof mapping === 'string' && mapping in types) throw invalid(`not a map of ids: ${mapping}`);
    const maps = typeof mapping === 'string' ? shortMaps(mapping as 'self' | 'root' | 'auto') : mapping;
    const texts = { uid: idMapText(maps.uidMap), gid: idMapText(maps.gidMap) };
    const child = parkInUser();
    try {
      const own = ownIdsOnly(maps);
      const privileged = process.geteuid?.() === 0;
      const setgroups = maps.setgroups ?? (own && !privileged ? 'deny' : 'allow');
      if (own || privileged) {
        if (setgroups === 'deny') write(child.pid, 'setgroups', 'deny');
        write(child.pid, 'uid_map', texts.uid);
        write(child.pid, 'gid_map', texts.gid);
      } else {
        runHelper('newuidmap', child.pid, maps.uidMap);
        runHelper('newgidmap', child.pid, maps.gidMap);
      }
      return new UserNamespace(Fd.open(`/proc/${child.pid}/ns/user`), { ...maps, setgroups });
    } finally {
      child.end();
    }
  }
}

function parkInUser(): ReturnType<typeof park> {
  try {
    return park(CLONE.NEWUSER);
  } catch (error) {
    if (!KernelError.is(error)) throw error;
    const hint = {
      EPERM:
        'user namespaces are off for this user: kernel.unprivileged_userns_clone, an AppArmor restriction, or a chroot',
      ENOSPC: 'the limit on user namespaces was reached: user.max_user_namespaces, or 32 levels deep',
      EUSERS: 'the limit on user namespaces was reached',
    }[error.code];
    throw hint ? new KernelError(error.errno, { syscall: 'clone3', call: 'clone3(CLONE_NEWUSER)', hint }) : error;
  }
}

function shortMaps(mapping: 'self' | 'root' | 'auto'): UserMaps {
  const [uid, gid] = [process.geteuid?.() ?? 0, process.getegid?.() ?? 0];
  if (mapping === 'auto') return { uidMap: everything('/etc/subuid', uid), gidMap: everything('/etc/subgid', gid) };
  if (mapping !== 'self' && mapping !== 'root') throw invalid(`not a map of ids: ${String(mapping)}`);
  const one = (id: number) => [{ inside: mapping === 'root' ? 0 : id, outside: id, count: 1 }];
  return { uidMap: one(uid), gidMap: one(gid) };
}

function everything(path: '/etc/subuid' | '/etc/subgid', id: number): IdRange[] {
  const ranges = subordinateIds(path);
  if (ranges.length) return subordinateMap(id, ranges);
  const hint = `${path} has no range for this user: an administrator adds one, as usermod --add-subuids does`;
  throw new KernelError(1, { syscall: 'newuidmap', path, hint });
}

function ownIdsOnly({ uidMap, gidMap }: UserMaps): boolean {
  const single = (map: readonly IdRange[], id: number | undefined) =>
    map.length === 1 && map[0]?.count === 1 && map[0].outside === id;
  return single(uidMap, process.geteuid?.()) && single(gidMap, process.getegid?.());
}

function write(pid: number, file: string, text: string): void {
  const fd = Fd.open(`/proc/${pid}/${file}`, { flags: O.WRONLY });
  try {
    syscall('write', fd, text, text.length);
  } catch (error) {
    if (!KernelError.is(error)) throw error;
    throw new KernelError(error.errno, {
      syscall: 'write',
      call: `write(${file}, ${JSON.stringify(text.trim())})`,
      hint: 'a map takes ids that the caller owns, or CAP_SETUID and CAP_SETGID in the namespace above (CAP_SETFCAP for 0)',
    });
  } finally {
    fd.close();
  }
}

/** The set-uid helpers are the one way in which a plain user gets a range; there is no system call for it. */
function runHelper(helper: 'newuidmap' | 'newgidmap', pid: number, ranges: readonly IdRange[]): void {
  const path = [`/usr/bin/${helper}`, `/bin/${helper}`].find((candidate) => existsSync(candidate));
  if (!path) throw invalid(`a plain user needs ${helper} (Debian: uidmap) for more than its own id`);
  const args = ranges.flatMap(({ inside, outside, count }) => [inside, outside, count].map(String));
  try {
    execFileSync(path, [String(pid), ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (cause) {
    const said = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : '';
    const hint = `${said || `${helper} failed`}; ranges for this user belong in /etc/sub${helper === 'newuidmap' ? 'uid' : 'gid'}`;
    throw new KernelError(1, { syscall: helper, hint, cause });
  }
}
