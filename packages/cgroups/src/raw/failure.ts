import { existsSync, readFileSync } from 'node:fs';
import type { Version } from '../controller.js';
import { CgroupError, E, type Reason } from '../error.js';

/** The group whose file it was. */
interface About {
  directory: { path: string; mount: string; version: Version; fd: { number: number } };
  file: string;
  value: string | undefined;
}

const hints: Partial<Record<Reason, string>> = {
  notDelegated: 'it belongs to somebody else: needs root, or a subtree delegated to this user (systemd: Delegate=yes)',
  readOnly: 'the hierarchy is mounted read-only here: containers get it writable where their runtime is told so',
  internalProcess: 'a v2 group has either processes or children with domain controllers: move the processes to a leaf',
  threaded: 'the group is threaded, or would mix with threaded ones',
  busy: 'processes or child groups are still there',
  removed: 'the group is gone',
  exists: 'there is a group of that name; open it, or remove it',
  noSuchProcess: 'no such process or thread, or it has ended',
  noSuchDevice: 'no whole block device has that number: partitions and anonymous devices have no limits of their own',
  invalidValue: 'the kernel takes no such value here, or not beside the other limits of this group and its parent',
  belowUsage: 'more than that is used now',
  tooMany: 'a limit on groups is reached: cgroup.max.descendants or cgroup.max.depth of an ancestor, or memory',
};

/**
 * The error of a failed call on a group's file or directory.
 *
 * @param errno - the kernel's number, either sign
 * @param syscall - which call
 * @param path - of the file or directory
 * @param about - the group and the file
 */
export function failure(errno: number, syscall: string, path: string, about?: About): CgroupError {
  const number = Math.abs(errno);
  const missing = about && number === E.NOENT ? lacking(about) : undefined;
  const reason = missing?.reason ?? reasonOf(number, about);
  const hint = missing?.hint ?? hints[reason];
  const shown = about?.value === undefined ? '' : `, ${JSON.stringify(about.value)}`;
  return new CgroupError(number, {
    syscall,
    path,
    call: `${syscall}(${JSON.stringify(path)}${shown})`,
    reason,
    ...(hint ? { hint } : {}),
    ...(about ? { file: about.file } : {}),
    ...(about?.value === undefined ? {} : { value: about.value }),
    ...(missing?.at ? { at: missing.at } : {}),
  });
}

const moves = ['cgroup.procs', 'cgroup.threads', 'tasks'];

function reasonOf(errno: number, about: About | undefined): Reason {
  const file = about?.file ?? '';
  switch (errno) {
    case E.PERM:
    case E.ACCES:
      return 'notDelegated';
    case E.ROFS:
      return 'readOnly';
    case E.SRCH:
      return 'noSuchProcess';
    case E.NODEV:
      return about && !isGone(about) ? 'noSuchDevice' : 'removed';
    case E.NOENT:
      return 'removed';
    case E.EXIST:
      return 'exists';
    case E.AGAIN:
      return 'tooMany';
    case E.OPNOTSUPP:
      return 'threaded';
    case E.NOSPC:
      return about ? 'invalidValue' : 'tooMany';
    case E.BUSY:
      if (/^memory\..*(limit_in_bytes|max)$/.test(file)) return 'belowUsage';
      if (moves.includes(file) || about?.value?.startsWith('+')) return 'internalProcess';
      return 'busy';
    case E.INVAL:
    case E.RANGE:
      return 'invalidValue';
    default:
      return 'other';
  }
}

/** A directory that was removed and is held open has no files. */
function isGone({ directory }: About): boolean {
  return !existsSync(`/proc/self/fd/${directory.fd.number}/cgroup.procs`);
}

/** Why a control file is not there: the group is gone, or the topmost ancestor that does not pass the controller on. */
function lacking(about: About): { reason: Reason; hint?: string; at?: string } {
  const { directory, file } = about;
  if (isGone(about)) return { reason: 'removed' };
  const controller = /^([a-z_]+)\./.exec(file)?.[1] ?? '';
  const absent = { reason: 'invalidValue', hint: 'this kernel has no such control file here' } as const;
  if (directory.version === 1 || controller === 'cgroup') return absent;
  let at = directory.mount;
  if (!words(`${at}/cgroup.controllers`).includes(controller)) {
    return {
      reason: 'controllerNotEnabled',
      at,
      hint: `this v2 tree does not offer ${controller}: a v1 hierarchy has it, or the kernel was built without`,
    };
  }
  for (const name of directory.path.slice(at.length).split('/').filter(Boolean)) {
    if (!words(`${at}/cgroup.subtree_control`).includes(controller)) {
      return {
        reason: 'controllerNotEnabled',
        at,
        hint: `${controller} does not stand in ${at}/cgroup.subtree_control: whoever owns that file can add it`,
      };
    }
    at += `/${name}`;
  }
  return absent;
}

function words(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').trim().split(' ');
  } catch {
    return [];
  }
}
