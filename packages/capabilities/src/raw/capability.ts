/** Numbers of `linux/capability.h`, `linux/securebits.h` and `linux/prctl.h` (PR_CAP_AMBIENT_*); the tests compare them. */

/** Capabilities, in the order of their numbers. */
export const names = [
  'CHOWN',
  'DAC_OVERRIDE',
  'DAC_READ_SEARCH',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'LINUX_IMMUTABLE',
  'NET_BIND_SERVICE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'NET_RAW',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_CHROOT',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'MKNOD',
  'LEASE',
  'AUDIT_WRITE',
  'AUDIT_CONTROL',
  'SETFCAP',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
] as const;

/** Bits of the securebits; a lock is the bit above. */
export const SECUREBITS = {
  noroot: 0,
  'noroot-locked': 1,
  'no-setuid-fixup': 2,
  'no-setuid-fixup-locked': 3,
  'keep-caps': 4,
  'keep-caps-locked': 5,
  'no-cap-ambient-raise': 6,
  'no-cap-ambient-raise-locked': 7,
} as const;

/** What prctl(2) does with the ambient set. */
export const AMBIENT = { IS_SET: 1, RAISE: 2, LOWER: 3, CLEAR_ALL: 4 } as const;
/** prctl options that @iso/sys has no name for. */
export const PRCTL = { GET_SECUREBITS: 27, GET_CHILD_SUBREAPER: 37 } as const;

/** Version of the structures of capget(2): 64 bits in two halves. */
export const VERSION_3 = 0x20080522;
/** struct __user_cap_data_struct, of which there are two: the lower 32 capabilities, then the upper. */
export const DATA = { size: 12, effective: 0, permitted: 4, inheritable: 8 } as const;

/** The extended attribute `security.capability`. */
export const XATTR = {
  name: 'security.capability',
  REVISION_1: 0x01000000,
  REVISION_2: 0x02000000,
  REVISION_3: 0x03000000,
  EFFECTIVE: 1,
  /** Bytes by revision. */
  sizes: { 16777216: 12, 33554432: 20, 50331648: 24 } as Readonly<Record<number, number>>,
} as const;
