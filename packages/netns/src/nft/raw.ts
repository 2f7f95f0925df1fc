/** The kernel's names and numbers of nf_tables: `linux/netfilter/nf_tables.h`, `nfnetlink.h`, `nf_nat.h`. */

export const NFNL_SUBSYS = { CTNETLINK: 1, NFTABLES: 10 } as const;
export const NFNL_MSG_BATCH = { BEGIN: 0x10, END: 0x11 } as const;
export const NFGENMSG = 4;

export const NFT_MSG = {
  NEWTABLE: 0,
  GETTABLE: 1,
  DELTABLE: 2,
  NEWCHAIN: 3,
  GETCHAIN: 4,
  DELCHAIN: 5,
  NEWRULE: 6,
  GETRULE: 7,
  DELRULE: 8,
  NEWSET: 9,
  GETSET: 10,
  DELSET: 11,
  NEWSETELEM: 12,
  GETSETELEM: 13,
  DELSETELEM: 14,
  TRACE: 17,
} as const;

export const FAMILIES = { inet: 1, ip: 2, arp: 3, netdev: 5, bridge: 7, ip6: 10 } as const;
export const NFNLGRP_NFTRACE = 9;
export const NFTA_TRACE = {
  TABLE: 1,
  CHAIN: 2,
  RULE_HANDLE: 3,
  TYPE: 4,
  VERDICT: 5,
  ID: 6,
  NETWORK_HEADER: 8,
  TRANSPORT_HEADER: 9,
  POLICY: 16,
} as const;
export const TRACE_TYPES = { policy: 1, return: 2, rule: 3 } as const;
export const NFPROTO = { ipv4: 2, ipv6: 10 } as const;
export const ETHERTYPE = { ip: 0x0800, arp: 0x0806, ip6: 0x86dd } as const;
export const IPPROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;

export const NFTA_LIST_ELEM = 1;
export const NFTA_TABLE = { NAME: 1, FLAGS: 2, USE: 3, HANDLE: 4, OWNER: 7 } as const;
export const TABLE_FLAGS = { dormant: 1, owner: 2, persist: 4 } as const;
export const NFTA_CHAIN = {
  TABLE: 1,
  HANDLE: 2,
  NAME: 3,
  HOOK: 4,
  POLICY: 5,
  USE: 6,
  TYPE: 7,
  FLAGS: 10,
  ID: 11,
} as const;
export const NFTA_HOOK = { HOOKNUM: 1, PRIORITY: 2, DEV: 3, DEVS: 4 } as const;
export const HOOKS = {
  inet: { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4, ingress: 5 },
  arp: { input: 0, output: 1, forward: 2 },
  netdev: { ingress: 0, egress: 1 },
} as const;
export const NFTA_RULE = { TABLE: 1, CHAIN: 2, HANDLE: 3, EXPRESSIONS: 4, POSITION: 6, USERDATA: 7 } as const;
export const NFTA_SET = {
  TABLE: 1,
  NAME: 2,
  FLAGS: 3,
  KEY_TYPE: 4,
  KEY_LEN: 5,
  DATA_TYPE: 6,
  DATA_LEN: 7,
  DESC: 9,
  ID: 10,
  TIMEOUT: 11,
  USERDATA: 13,
  HANDLE: 16,
} as const;
export const NFTA_SET_DESC = { SIZE: 1, CONCAT: 2 } as const;
export const NFTA_SET_FIELD_LEN = 1;
export const SET_FLAGS = { constant: 2, interval: 4, map: 8, timeout: 16, dynamic: 32, concat: 128 } as const;
export const NFTA_SET_ELEM_LIST = { TABLE: 1, SET: 2, ELEMENTS: 3 } as const;
export const NFTA_SET_ELEM = {
  KEY: 1,
  DATA: 2,
  FLAGS: 3,
  TIMEOUT: 4,
  EXPIRATION: 5,
  USERDATA: 6,
  EXPR: 7,
  KEY_END: 10,
} as const;
export const SET_ELEM_INTERVAL_END = 1;
export const NFTA_DATA = { VALUE: 1, VERDICT: 2 } as const;
export const NFTA_VERDICT = { CODE: 1, CHAIN: 2 } as const;
export const VERDICTS = { drop: 0, accept: 1, continue: -1, jump: -3, goto: -4, return: -5 } as const;
export const NFT_DATA_VERDICT = 0xffffff00;

export const NFTA_EXPR = { NAME: 1, DATA: 2 } as const;
export const NFTA_IMMEDIATE = { DREG: 1, DATA: 2 } as const;
export const NFTA_BITWISE = { SREG: 1, DREG: 2, LEN: 3, MASK: 4, XOR: 5 } as const;
export const NFTA_LOOKUP = { SET: 1, SREG: 2, DREG: 3, FLAGS: 5 } as const;
export const NFT_LOOKUP_F_INV = 1;
export const NFTA_CMP = { SREG: 1, OP: 2, DATA: 3 } as const;
export const CMP = { '==': 0, '!=': 1, '<': 2, '<=': 3, '>': 4, '>=': 5 } as const;
export const NFTA_RANGE = { SREG: 1, OP: 2, FROM_DATA: 3, TO_DATA: 4 } as const;
export const NFTA_PAYLOAD = { DREG: 1, BASE: 2, OFFSET: 3, LEN: 4 } as const;
export const PAYLOAD = { link: 0, network: 1, transport: 2 } as const;
export const NFTA_META = { DREG: 1, KEY: 2, SREG: 3 } as const;
export const META = {
  length: 0,
  protocol: 1,
  mark: 3,
  iif: 4,
  oif: 5,
  iifname: 6,
  oifname: 7,
  iiftype: 8,
  nftrace: 12,
  nfproto: 15,
  l4proto: 16,
  pkttype: 19,
} as const;
export const NFTA_CT = { DREG: 1, KEY: 2, DIRECTION: 3, SREG: 4 } as const;
export const CT = { state: 0, direction: 1, status: 2, mark: 3, proto_dst: 12, dst_ip: 20, dst_ip6: 22 } as const;
export const CT_STATES = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 } as const;
export const CT_STATUS = { expected: 1, 'seen-reply': 2, assured: 4, confirmed: 8, snat: 16, dnat: 32 } as const;
export const NFTA_LIMIT = { RATE: 1, UNIT: 2, BURST: 3, TYPE: 4, FLAGS: 5 } as const;
export const NFTA_COUNTER = { BYTES: 1, PACKETS: 2 } as const;
export const NFTA_LOG = { GROUP: 1, PREFIX: 2 } as const;
export const NFTA_REJECT = { TYPE: 1, ICMP_CODE: 2 } as const;
export const REJECT = { icmp: 0, 'tcp reset': 1, icmpx: 2, 'icmpx admin-prohibited': 2 } as const;
export const ICMPX = { 'port-unreachable': 1, 'admin-prohibited': 3 } as const;
export const NFTA_NAT = {
  TYPE: 1,
  FAMILY: 2,
  REG_ADDR_MIN: 3,
  REG_ADDR_MAX: 4,
  REG_PROTO_MIN: 5,
  REG_PROTO_MAX: 6,
  FLAGS: 7,
} as const;
export const NFTA_MASQ = { FLAGS: 1 } as const;
export const NFTA_REDIR = { REG_PROTO_MIN: 1 } as const;
export const NAT_FLAGS = { random: 4, persistent: 8, 'fully-random': 16 } as const;
export const NFTA_FIB = { DREG: 1, RESULT: 2, FLAGS: 3 } as const;
export const FIB = { saddr: 1, daddr: 2, iif: 8, oif: 16 } as const;
export const FIB_RESULT_ADDRTYPE = 3;
export const ADDRESS_TYPES = { unicast: 1, local: 2, broadcast: 3, anycast: 4, multicast: 5 } as const;

/** Registers: four of 16 bytes, or sixteen of 4 in the same place. */
export const REG = { VERDICT: 0, FIRST: 1, WORD: 8 } as const;
