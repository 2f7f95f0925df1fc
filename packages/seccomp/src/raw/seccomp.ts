/** Numbers of `linux/seccomp.h`, `linux/audit.h` and `linux/bpf_common.h`; the tests compare them with the headers. */

/** Operations of seccomp(2). */
export const SECCOMP = { SET_MODE_FILTER: 1 } as const;

/** Flags of a filter. */
export const FLAG = {
  TSYNC: 1,
  LOG: 2,
  SPEC_ALLOW: 4,
  NEW_LISTENER: 8,
  TSYNC_ESRCH: 16,
  WAIT_KILLABLE_RECV: 32,
} as const;

/** What a filter returns: an action in the upper 16 bits, its data in the lower. */
export const RET = {
  KILL_PROCESS: 0x80000000,
  KILL_THREAD: 0,
  TRAP: 0x00030000,
  ERRNO: 0x00050000,
  USER_NOTIF: 0x7fc00000,
  TRACE: 0x7ff00000,
  LOG: 0x7ffc0000,
  ALLOW: 0x7fff0000,
} as const;

/** Classic BPF, as far as seccomp takes it: opcodes with their classes, sizes and modes. */
export const BPF = { LD: 0x20, AND: 0x54, JA: 0x05, JEQ: 0x15, JGT: 0x25, JGE: 0x35, RET: 0x06 } as const;
/** What one filter may have, and so may all of a process together eight times. */
export const MAX_INSTRUCTIONS = 4096;

/** `AUDIT_ARCH_*`. */
export const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
/** Set in the number of a call of the x32 ABI, which comes with the architecture of x64. */
export const X32_BIT = 0x40000000;
/** The number, -1, that a tracer gives a call which is not to be made: strace's fault injection does. It is nobody's ABI. */
export const NO_CALL = 0xffffffff;

/** Offsets in struct seccomp_data. */
export const DATA = { nr: 0, arch: 4, args: 16 } as const;

/** ioctls of a listener. */
export const NOTIFY = {
  RECV: 0xc0502100,
  SEND: 0xc0182101,
  ID_VALID: 0x40082102,
  ADDFD: 0x40182103,
} as const;
/** struct seccomp_notif. */
export const NOTIF = { size: 80, id: 0, pid: 8, nr: 16, arch: 20, ip: 24, args: 32 } as const;
/** struct seccomp_notif_resp. */
export const RESP = { size: 24, id: 0, val: 8, error: 16, flags: 20, CONTINUE: 1 } as const;
/** struct seccomp_notif_addfd. */
export const ADDFD = { size: 24, id: 0, flags: 8, srcfd: 12, newfd: 16, newfdFlags: 20, SETFD: 1, SEND: 2 } as const;

/** struct msghdr and what else stands in the memory that a descriptor is sent from. */
export const MESSAGE = { size: 112, iov: 64, byte: 80, control: 88, fd: 104, controlSize: 24 } as const;
