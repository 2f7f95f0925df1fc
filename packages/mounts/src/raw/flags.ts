/** Constants of mount(2) and of the mount API of Linux 5.2, under the kernel's names (`linux/mount.h`). */

/** mount(2) flags. */
export const MS = {
  RDONLY: 1,
  REC: 0x4000,
  PRIVATE: 0x40000,
  SLAVE: 0x80000,
  SHARED: 0x100000,
  UNBINDABLE: 0x20000,
  BIND: 0x1000,
} as const;
/** umount2(2) flags. */
export const MNT = { DETACH: 2 } as const;
/** fsconfig(2) commands. */
export const FSCONFIG = {
  SET_FLAG: 0,
  SET_STRING: 1,
  SET_BINARY: 2,
  SET_PATH: 3,
  SET_FD: 5,
  CMD_CREATE: 6,
  CMD_RECONFIGURE: 7,
} as const;
/** fsopen(2) and fsmount(2) flags. */
export const FSOPEN_CLOEXEC = 1;
/** open_tree(2) flags; AT_RECURSIVE and AT_EMPTY_PATH go with them. */
export const OPEN_TREE = { CLONE: 1, CLOEXEC: 0x80000 } as const;
/** move_mount(2) flags. */
export const MOVE_MOUNT = { F_EMPTY_PATH: 4, T_EMPTY_PATH: 0x40 } as const;
/** mount_setattr(2) and fsmount(2) attributes. */
export const MOUNT_ATTR = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  NOATIME: 0x10,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const;

/**
 * struct mount_attr.
 *
 * @param attr - attributes to set and clear, propagation, user namespace of an id-mapped mount
 * @returns 32 bytes
 */
export function mountAttr(attr: { set?: number; clear?: number; propagation?: number; usernsFd?: number }): Buffer {
  const bytes = Buffer.alloc(32);
  for (const [i, value] of [attr.set, attr.clear, attr.propagation, attr.usernsFd].entries()) {
    bytes.writeBigUInt64LE(BigInt(value ?? 0), 8 * i);
  }
  return bytes;
}

/**
 * struct open_how.
 *
 * @param flags - open(2) flags
 * @param resolve - RESOLVE flags
 * @param mode - of a created file
 * @returns 24 bytes
 */
export function openHow(flags: number, resolve: number, mode = 0): Buffer {
  const bytes = Buffer.alloc(24);
  for (const [i, value] of [flags, mode, resolve].entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  return bytes;
}
