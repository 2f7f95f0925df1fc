/** The kernel's names and numbers of netlink itself: `linux/netlink.h`. */
import { SOCK } from '@iso/sys';

/** How sockets of netlink are opened. */
export const SOCKET_TYPE = SOCK.RAW | SOCK.CLOEXEC | SOCK.NONBLOCK;

/** Protocols of AF_NETLINK sockets. */
export const NETLINK = { ROUTE: 0, NETFILTER: 12 } as const;

/** Options of level SOL_NETLINK. */
export const NETLINK_OPTION = { ADD_MEMBERSHIP: 1, CAP_ACK: 10, EXT_ACK: 11, GET_STRICT_CHK: 12 } as const;

/** Message types below the families' own. */
export const NLMSG = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;

/** Flags of a message. */
export const NLM_F = {
  REQUEST: 1,
  MULTI: 2,
  ACK: 4,
  DUMP_INTR: 0x10,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  CAPPED: 0x100,
  ACK_TLVS: 0x200,
  NONREC: 0x100,
} as const;

/** What an extended acknowledgement carries. */
export const NLMSGERR = { MSG: 1, OFFS: 2, COOKIE: 3, POLICY: 4, MISS_TYPE: 5, MISS_NEST: 6 } as const;

export const NLA_F_NESTED = 0x8000;
export const NLA_TYPE_MASK = 0x3fff;

/** Length of `struct nlmsghdr`, of `struct nlattr`. */
export const HEADER = 16;
export const ATTRIBUTE = 4;

/** Everything in netlink starts at multiples of four bytes. */
export function align(length: number): number {
  return (length + 3) & ~3;
}

/** Bytes that can be read in words: the same, or a copy of those that lie across. */
export function inWords(bytes: Buffer): Buffer {
  return bytes.byteOffset === align(bytes.byteOffset) ? bytes : Buffer.from(Uint8Array.from(bytes).buffer);
}

/** Bytes in words of this machine's order. */
export function wordsOf(bytes: Buffer): Int32Array {
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
}
