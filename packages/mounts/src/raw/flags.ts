/** Constants of mount(2) and of the mount API of Linux 5.2, under the kernel's names (`linux/mount.h`). */

/** mount(2) flags. */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  SYNCHRONOUS: 0x10,
  REMOUNT: 0x20,
  DIRSYNC: 0x80,
  NOSYMFOLLOW: 0x100,
  NOATIME: 0x400,
  NODIRATIME: 0x800,
  BIND: 0x1000,
  MOVE: 0x2000,
  REC: 0x4000,
  UNBINDABLE: 0x20000,
  PRIVATE: 0x40000,
  SLAVE: 0x80000,
  SHARED: 0x100000,
  RELATIME: 0x200000,
  STRICTATIME: 0x1000000,
  LAZYTIME: 0x2000000,
} as const;
/** umount2(2) flags; `NOFOLLOW` is UMOUNT_NOFOLLOW. */
export const MNT = { FORCE: 1, DETACH: 2, EXPIRE: 4, NOFOLLOW: 8 } as const;
/** fsconfig(2) commands. */
export const FSCONFIG = {
  SET_FLAG: 0,
  SET_STRING: 1,
  SET_BINARY: 2,
  SET_PATH: 3,
  SET_PATH_EMPTY: 4,
  SET_FD: 5,
  CMD_CREATE: 6,
  CMD_RECONFIGURE: 7,
  CMD_CREATE_EXCL: 8,
} as const;
/** fsopen(2) and fsmount(2) flags. */
export const FSOPEN_CLOEXEC = 1;
/** fspick(2) flags. */
export const FSPICK = { CLOEXEC: 1, SYMLINK_NOFOLLOW: 2, NO_AUTOMOUNT: 4, EMPTY_PATH: 8 } as const;
/** open_tree(2) flags; AT_RECURSIVE and AT_EMPTY_PATH go with them. */
export const OPEN_TREE = { CLONE: 1, CLOEXEC: 0x80000 } as const;
/** move_mount(2) flags. */
export const MOVE_MOUNT = {
  F_SYMLINKS: 1,
  F_AUTOMOUNTS: 2,
  F_EMPTY_PATH: 4,
  T_SYMLINKS: 0x10,
  T_AUTOMOUNTS: 0x20,
  T_EMPTY_PATH: 0x40,
  SET_GROUP: 0x100,
  BENEATH: 0x200,
} as const;
/** mount_setattr(2) and fsmount(2) attributes. */
export const MOUNT_ATTR = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  NOATIME: 0x10,
  STRICTATIME: 0x20,
  /** Field of the three atime modes; all zero is relatime. */
  _ATIME: 0x70,
  NODIRATIME: 0x80,
  IDMAP: 0x100000,
  NOSYMFOLLOW: 0x200000,
} as const;
/** What statmount(2) is asked for. */
export const STATMOUNT = {
  SB_BASIC: 1,
  MNT_BASIC: 2,
  PROPAGATE_FROM: 4,
  MNT_ROOT: 8,
  MNT_POINT: 0x10,
  FS_TYPE: 0x20,
  MNT_NS_ID: 0x40,
  MNT_OPTS: 0x80,
  FS_SUBTYPE: 0x100,
  SB_SOURCE: 0x200,
  OPT_ARRAY: 0x400,
  OPT_SEC_ARRAY: 0x800,
  SUPPORTED_MASK: 0x1000,
  MNT_UIDMAP: 0x2000,
  MNT_GIDMAP: 0x4000,
} as const;
/** listmount(2): everything below the caller's root. */
export const LSMT_ROOT = 0xffffffffffffffffn;
/** ioctl of a mount namespace's descriptor: its 64-bit id (Linux 6.8). */
export const NS_GET_MNTNS_ID = 0x8008b705;
/** ioctl of a namespace's descriptor: its CLONE flag. */
export const NS_GET_NSTYPE = 0xb703;
/** f_type of proc. */
export const PROC_SUPER_MAGIC = 0x9fa0;
