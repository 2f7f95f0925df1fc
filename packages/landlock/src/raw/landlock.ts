/** Numbers of `linux/landlock.h` (Linux 7.2); the tests compare them with the headers, as far as those go. */

/** Flags of landlock_create_ruleset(2). */
export const CREATE = { VERSION: 1 } as const;
/** Types of rules. */
export const RULE = { PATH_BENEATH: 1, NET_PORT: 2 } as const;

/** Rights on files, by their bit; with the ABI that has them first. */
export const fsRights = {
  execute: { bit: 0, abi: 1 },
  'write-file': { bit: 1, abi: 1 },
  'read-file': { bit: 2, abi: 1 },
  'read-dir': { bit: 3, abi: 1 },
  'remove-dir': { bit: 4, abi: 1 },
  'remove-file': { bit: 5, abi: 1 },
  'make-char': { bit: 6, abi: 1 },
  'make-dir': { bit: 7, abi: 1 },
  'make-reg': { bit: 8, abi: 1 },
  'make-sock': { bit: 9, abi: 1 },
  'make-fifo': { bit: 10, abi: 1 },
  'make-block': { bit: 11, abi: 1 },
  'make-sym': { bit: 12, abi: 1 },
  refer: { bit: 13, abi: 2 },
  truncate: { bit: 14, abi: 3 },
  'ioctl-dev': { bit: 15, abi: 5 },
  'resolve-unix': { bit: 16, abi: 9 },
} as const;

/** Rights on ports. */
export const netRights = {
  'bind-tcp': { bit: 0, abi: 4 },
  'connect-tcp': { bit: 1, abi: 4 },
  'bind-udp': { bit: 2, abi: 10 },
  'connect-send-udp': { bit: 3, abi: 10 },
} as const;

/** What a process may be kept from doing to those outside its domain. */
export const scopes = {
  'abstract-unix-socket': { bit: 0, abi: 6 },
  signal: { bit: 1, abi: 6 },
} as const;

/** Flags of landlock_restrict_self(2). */
export const logFlags = {
  'same-exec-off': { bit: 0, abi: 7 },
  'new-exec-on': { bit: 1, abi: 7 },
  'subdomains-off': { bit: 2, abi: 7 },
} as const;

/** Rights that a rule for a file, not a directory, may have. */
export const ofFiles: ReadonlySet<string> = new Set([
  'execute',
  'write-file',
  'read-file',
  'truncate',
  'ioctl-dev',
  'resolve-unix',
]);

/** struct landlock_ruleset_attr: its size by ABI. */
export const rulesetSize = (abi: number): number => (abi >= 6 ? 24 : abi >= 4 ? 16 : 8);
/** struct landlock_path_beneath_attr, packed to 12 bytes: the kernel reads no more of 16. */
export const PATH_BENEATH = { size: 16, access: 0, fd: 8 } as const;
/** struct landlock_net_port_attr. */
export const NET_PORT = { size: 16, access: 0, port: 8 } as const;

/** The newest ABI of this table. */
export const NEWEST = 10;
