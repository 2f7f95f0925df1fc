import { readSync, statSync } from 'node:fs';
import { attempt, Fd, KernelError, O, openHow, RESOLVE } from '@iso/sys';
import { UsageError } from './options.js';

/** Who a container's process is. */
export interface User {
  uid: number;
  gid: number;
  /** Groups that it is a member of by the root's group file; none where its group was asked for. */
  groups: readonly number[];
  home: string;
}

const MOST = 1024 * 1024;

/**
 * Finds docker's `-u NAME|UID[:GROUP|GID]` in a root's own passwd and group files. They belong to the image, so they
 * are read as what they may be, an attack: inside the root only, regular files only, one MiB of them.
 *
 * @param root - the root file system's directory
 * @param text - as typed
 * @returns the ids and the home directory
 * @throws {@link UsageError} for names that are not there and numbers that are no ids
 */
export function findUser(root: string, text: string): User {
  const [name = '', group, ...rest] = text.split(':');
  if (name === '' || group === '' || rest.length) throw new UsageError(`not a user: ${JSON.stringify(text)}`);
  const passwd = rows(root, 'etc/passwd');
  const id = parseId(name);
  const row =
    passwd.find((fields) => fields[0] === name) ??
    passwd.find((fields) => id !== undefined && Number(fields[2]) === id);
  if (!row && id === undefined) throw new UsageError(`unable to find user ${name}: no matching entries in passwd file`);
  const uid = row ? requireId(row[2]) : (id as number);
  const gid = group !== undefined ? findGroup(root, group) : row ? requireId(row[3]) : 0;
  const groups = group === undefined && row?.[0] ? groupsOf(root, row[0]) : [];
  return { uid, gid, groups, home: row?.[5]?.startsWith('/') ? row[5] : '/' };
}

/** Who nobody asked to be: root, with its groups, whatever the files call it. */
export function findRoot(root: string): User {
  return { uid: 0, gid: 0, groups: groupsOf(root, 'root'), home: '/root' };
}

/**
 * The supplementary groups of a process.
 *
 * @param user - whose it is
 * @param added - groups that were asked for
 * @param chosen - whether the user was asked for: then its primary group is among them, as podman has it. A set-group-id program, which
 * takes the place of the primary group, would else take a process out of a group that is kept from something (CVE-2022-36109)
 * @returns ids
 */
export function supplementaryGroups(user: User, added: readonly number[], chosen: boolean): number[] {
  return [...new Set([...(chosen ? [user.gid] : []), ...user.groups, ...added])];
}

/** The kernel takes no more. */
const MOST_GROUPS = 65536;

/** As getgrouplist(3): those that name it among their members. */
function groupsOf(root: string, name: string): number[] {
  const ids = rows(root, 'etc/group')
    .filter((fields) => fields[3]?.trim().split(',').includes(name))
    .map((fields) => requireId(fields[2]));
  return [...new Set(ids)].slice(0, MOST_GROUPS);
}

/**
 * Finds a group in a root's own group file, which is read as warily.
 *
 * @param root - the root file system's directory
 * @param group - name or number
 * @returns its id
 * @throws {@link UsageError} for names that are not there and numbers that are no ids
 */
export function findGroup(root: string, group: string): number {
  const found = rows(root, 'etc/group').find((fields) => fields[0] === group);
  const number = parseId(group);
  if (!found && number === undefined)
    throw new UsageError(`unable to find group ${group}: no matching entries in group file`);
  return found ? requireId(found[2]) : (number as number);
}

function parseId(text: string): number | undefined {
  if (!/^\d+$/.test(text)) return undefined;
  const id = Number(text);
  if (id > 0xfffffffe) throw new UsageError(`not an id: ${text}`);
  return id;
}

function requireId(text: string | undefined): number {
  const id = parseId(text ?? '');
  if (id === undefined)
    throw new UsageError(`the root's passwd or group file has no id where one belongs: ${JSON.stringify(text)}`);
  return id;
}

function rows(root: string, path: string): string[][] {
  const directory = Fd.open(root, { directory: true, path: true });
  try {
    const how = openHow(O.PATH | O.CLOEXEC, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
    const opened = attempt('openat2', directory, path, how, how.length);
    if (opened === -2 || opened === -20) return [];
    if (opened < 0) throw new KernelError(opened, { syscall: 'openat2', path: `${root}/${path}` });
    // Held but not opened yet: opening a device is an act of its own.
    using place = Fd.own(opened);
    return read(place, path)
      .split('\n')
      .filter((line) => line.includes(':'))
      .map((line) => line.split(':'));
  } finally {
    directory.close();
  }
}

function read(place: Fd, path: string): string {
  const held = `/proc/self/fd/${place.number}`;
  if (!statSync(held).isFile()) throw new UsageError(`the root's ${path} is no regular file`);
  using file = Fd.open(held);
  // Most are small: memory for the largest one would take longer than to read them.
  let bytes = Buffer.allocUnsafe(4096);
  let length = 0;
  for (;;) {
    const got = readSync(file.number, bytes, length, bytes.length - length, null);
    length += got;
    // The line that is cut says something else.
    if (length === MOST) return bytes.toString('utf8', 0, bytes.lastIndexOf('\n') + 1);
    if (got === 0) return bytes.toString('utf8', 0, length);
    if (length === bytes.length) bytes = Buffer.concat([bytes], length * 4);
  }
}
