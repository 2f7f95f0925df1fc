/** The kernel's names and numbers of network namespaces and of the sockets in them. */

export const SIOCSIFFLAGS = 0x8914;
export const IFF_UP_RUNNING = 0x41;
export const NS_GET_USERNS = 0xb701;
export const NS_GET_NSTYPE = 0xb703;
export const SO = { REUSEADDR: 2, ERROR: 4, NETNS_COOKIE: 71 } as const;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const MS = { BIND: 0x1000, REC: 0x4000, SHARED: 0x100000 } as const;
export const MNT_DETACH = 2;
