/**
 * Constants of the kernel's interfaces that more than one package needs, under the kernel's names.
 * Where architectures differ, the value is the one of the architecture that runs.
 */
const arm64 = process.arch === 'arm64';

/** clone3 and unshare flags, `linux/sched.h`. */
export const CLONE = {
  PARENT_SETTID: 0x100000,
  VM: 0x100,
  FS: 0x200,
  FILES: 0x400,
  SIGHAND: 0x800,
  PIDFD: 0x1000,
  VFORK: 0x4000,
  PARENT: 0x8000,
  THREAD: 0x10000,
  SYSVSEM: 0x40000,
  CHILD_CLEARTID: 0x200000,
  NEWNS: 0x20000,
  NEWCGROUP: 0x2000000,
  NEWUTS: 0x4000000,
  NEWIPC: 0x8000000,
  NEWUSER: 0x10000000,
  NEWPID: 0x20000000,
  NEWNET: 0x40000000,
  NEWTIME: 0x80,
  CLEAR_SIGHAND: 0x100000000,
  INTO_CGROUP: 0x200000000,
} as const;

/** open flags, `asm-generic/fcntl.h`; four of them sit elsewhere on arm64. */
export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0x40,
  EXCL: 0x80,
  NOCTTY: 0x100,
  TRUNC: 0x200,
  APPEND: 0x400,
  NONBLOCK: 0x800,
  DIRECTORY: arm64 ? 0x4000 : 0x10000,
  NOFOLLOW: arm64 ? 0x8000 : 0x20000,
  CLOEXEC: 0x80000,
  PATH: 0x200000,
} as const;

/** `*at` call constants, `linux/fcntl.h`. */
export const AT = {
  FDCWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  NO_AUTOMOUNT: 0x800,
  EMPTY_PATH: 0x1000,
  RECURSIVE: 0x8000,
} as const;

/** openat2 resolve flags, `linux/openat2.h`. */
export const RESOLVE = {
  NO_XDEV: 1,
  NO_MAGICLINKS: 2,
  NO_SYMLINKS: 4,
  BENEATH: 8,
  IN_ROOT: 16,
} as const;

/** fcntl commands and descriptor flags. */
export const F = {
  DUPFD: 0,
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  DUPFD_CLOEXEC: 1030,
  ADD_SEALS: 1033,
  CLOEXEC: 1,
} as const;

/** Address families, `linux/socket.h`. */
export const AF = { UNSPEC: 0, UNIX: 1, INET: 2, BRIDGE: 7, INET6: 10, NETLINK: 16, PACKET: 17 } as const;

/** Types of sockets and their flags, `linux/net.h`. */
export const SOCK = { STREAM: 1, DGRAM: 2, RAW: 3, SEQPACKET: 5, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;

/** Levels of socket options. */
export const SOL = { SOCKET: 1, NETLINK: 270 } as const;

/** Socket options of level SOL_SOCKET, `asm-generic/socket.h`. */
export const SO = { RCVBUF: 8, PASSCRED: 16, SNDTIMEO: 21, RCVBUFFORCE: 33 } as const;

/** Control messages of level SOL_SOCKET. */
export const SCM = { RIGHTS: 1 } as const;

/** Flags of sends and receives. */
export const MSG = { TRUNC: 0x20, DONTWAIT: 0x40, NOSIGNAL: 0x4000, CMSG_CLOEXEC: 0x40000000 } as const;

/** epoll_ctl operations, `linux/eventpoll.h`. */
export const EPOLL = { CTL_ADD: 1, CTL_DEL: 2 } as const;

/** prctl options, `linux/prctl.h`. */
export const PR = {
  SET_PDEATHSIG: 1,
  GET_DUMPABLE: 3,
  SET_DUMPABLE: 4,
  SET_KEEPCAPS: 8,
  CAPBSET_READ: 23,
  CAPBSET_DROP: 24,
  SET_SECUREBITS: 28,
  SET_MM: 35,
  SET_CHILD_SUBREAPER: 36,
  SET_NO_NEW_PRIVS: 38,
  SET_THP_DISABLE: 41,
  CAP_AMBIENT: 47,
  SET_MDWE: 65,
  SET_MEMORY_MERGE: 67,
  FUTEX_HASH: 78,
  SET_VMA: 0x53564d41,
} as const;

/** waitid id types and options, `linux/wait.h`. */
export const P = { ALL: 0, PID: 1, PIDFD: 3 } as const;
/** waitid options. */
export const W = { NOHANG: 1, EXITED: 4, NOWAIT: 0x1000000, ALL: 0x40000000 } as const;

/** poll events, `asm-generic/poll.h`. */
export const POLL = { IN: 1, PRI: 2, OUT: 4, ERR: 8, HUP: 16 } as const;
