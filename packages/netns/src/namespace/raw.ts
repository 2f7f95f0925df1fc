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

/** `linux/if_tun.h`. */
export const TUN = {
  SETIFF: 0x400454ca,
  SETPERSIST: 0x400454cb,
  SETOWNER: 0x400454cc,
  SETGROUP: 0x400454ce,
  GETIFF: 0x800454d2,
} as const;
export const IFF_TUN = { TUN: 1, TAP: 2, NO_PI: 0x1000, VNET_HDR: 0x4000 } as const;
