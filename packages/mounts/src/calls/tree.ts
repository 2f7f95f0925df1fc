import { AT, Fd } from '@iso/sys';
import { MOUNT_ATTR, MOVE_MOUNT, OPEN_TREE } from '../raw/flags.js';
import { mountAttr } from '../raw/structs.js';
import { call } from './call.js';

/** What mount_setattr(2) changes. */
export interface AttributeChange {
  /** {@link MOUNT_ATTR} bits. */
  set?: number;
  /** {@link MOUNT_ATTR} bits. */
  clear?: number;
  /** MS.PRIVATE, MS.SLAVE, MS.SHARED or MS.UNBINDABLE; 0 leaves it. */
  propagation?: number;
  /** User namespace whose maps the mount gets. */
  idmap?: Fd;
}

const SETATTR_HINTS = {
  EPERM:
    'needs CAP_SYS_ADMIN over the mount namespace; flags that a more privileged namespace has set are locked and cannot be cleared',
};
const IDMAP_HINTS = {
  EINVAL: 'the file system supports no id-mapped mounts, or the mount is attached already',
  EPERM:
    'needs CAP_SYS_ADMIN over the file system’s own user namespace; the maps must not be those of the initial one; nor may the mount be id-mapped already',
};

/**
 * open_tree(2): the mount at a path, or a detached clone of it.
 *
 * @param at - descriptor that the path is relative to; null for the working directory
 * @param path - empty for `at` itself
 * @param options - `clone` it; `recursive`: with the mounts below
 * @returns descriptor of the mount's root; that of a clone owns it
 * @throws KernelError `EPERM` for a clone without CAP_SYS_ADMIN, `EINVAL` for a clone of an unbindable mount, or of one
 * without those that are locked below it; `ENOENT`
 */
export function openTree(at: Fd | null, path: string, options: { clone?: boolean; recursive?: boolean } = {}): Fd {
  return Fd.own(
    call('open_tree', [at ?? AT.FDCWD, path, treeFlags(path, options)], { path, since: '5.2', hints: TREE_HINTS }),
  );
}

/**
 * open_tree_attr(2): {@link openTree} of a clone and {@link mountSetattr} in one, by which the id map of an id-mapped mount can be
 * changed in its clone.
 *
 * @param at - as for {@link openTree}
 * @param path - as for {@link openTree}
 * @param change - attributes of the clone
 * @param options - `recursive`: with the mounts below
 * @returns the clone's descriptor
 * @throws UnsupportedError before Linux 6.15; KernelError as the two calls
 */
export function openTreeAttr(
  at: Fd | null,
  path: string,
  change: AttributeChange,
  options: { recursive?: boolean } = {},
): Fd {
  const bytes = attrBytes(change);
  const flags = treeFlags(path, { ...options, clone: true });
  const hints = change.idmap ? IDMAP_HINTS : TREE_HINTS;
  return Fd.own(
    call('open_tree_attr', [at ?? AT.FDCWD, path, flags, bytes, bytes.length], { path, since: '6.15', hints }),
  );
}

const TREE_HINTS = {
  EINVAL:
    'the mount is unbindable, or of another mount namespace; or mounts below it are locked to it, and only a recursive clone takes them',
};

/**
 * mount_setattr(2): attributes, propagation and id map of a mount.
 *
 * @param at - descriptor that the path is relative to; null for the working directory
 * @param path - of the mount's root; empty for `at` itself
 * @param change - what to change
 * @param options - `recursive`: the mounts below too, all or none
 * @throws KernelError `EPERM` for a locked flag, `EINVAL` where the path is no root of a mount; UnsupportedError before Linux 5.12
 */
export function mountSetattr(
  at: Fd | null,
  path: string,
  change: AttributeChange,
  options: { recursive?: boolean } = {},
): void {
  const bytes = attrBytes(change);
  const flags = (path === '' ? AT.EMPTY_PATH : 0) | (options.recursive ? AT.RECURSIVE : 0);
  const hints = change.idmap ? IDMAP_HINTS : SETATTR_HINTS;
  call('mount_setattr', [at ?? AT.FDCWD, path, flags, bytes, bytes.length], { path, since: '5.12', hints });
}

/**
 * move_mount(2): attaches a detached mount, or moves one.
 *
 * @param mount - descriptor of its root
 * @param to - descriptor that `path` is relative to; null for the working directory
 * @param path - target; empty for `to` itself. A symbolic link at its end is not followed
 * @param options - `beneath`: under the mount that is there on top (Linux 6.5)
 * @throws KernelError `EINVAL`, or `ENOTDIR` on some kernels, for a directory on a file; `ELOOP`, `EPERM`, `ENOENT`
 */
export function moveMount(mount: Fd, to: Fd | null, path: string, options: { beneath?: boolean } = {}): void {
  const flags =
    MOVE_MOUNT.F_EMPTY_PATH | (path === '' ? MOVE_MOUNT.T_EMPTY_PATH : 0) | (options.beneath ? MOVE_MOUNT.BENEATH : 0);
  const hints = {
    EINVAL:
      'a directory goes on a directory and a file on a file; both are of this mount namespace, and the mount is not locked or below a shared one',
  };
  call('move_mount', [mount, '', to ?? AT.FDCWD, path, flags], { path, since: '5.2', hints });
}

function treeFlags(path: string, options: { clone?: boolean; recursive?: boolean }): number {
  return (
    OPEN_TREE.CLOEXEC |
    (options.clone ? OPEN_TREE.CLONE : 0) |
    (options.recursive ? AT.RECURSIVE : 0) |
    (path === '' ? AT.EMPTY_PATH : 0)
  );
}

function attrBytes({ set = 0, clear = 0, propagation = 0, idmap }: AttributeChange): Buffer {
  return mountAttr({
    set: set | (idmap ? MOUNT_ATTR.IDMAP : 0),
    clear,
    propagation,
    ...(idmap ? { usernsFd: idmap.number } : {}),
  });
}
