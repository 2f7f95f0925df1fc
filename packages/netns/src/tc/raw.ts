/** The kernel's names and numbers of traffic control: `linux/rtnetlink.h`, `pkt_sched.h`, `pkt_cls.h`, `tc_act/`. */

export const TCMSG = 20;
export const TCA = { KIND: 1, OPTIONS: 2, STATS2: 7, INGRESS_BLOCK: 13 } as const;
export const TCA_STATS = { BASIC: 1, QUEUE: 3 } as const;
/** Handles that mean a place. */
export const TC_H = {
  ROOT: 0xffffffff,
  INGRESS: 0xfffffff1,
  CLSACT_INGRESS: 0xfffffff2,
  CLSACT_EGRESS: 0xfffffff3,
} as const;

export const TCA_TBF = { PARMS: 1, RTAB: 2, RATE64: 4, BURST: 6 } as const;
export const TCA_HTB = { PARMS: 1, INIT: 2, CTAB: 3, RTAB: 4, RATE64: 6, CEIL64: 7 } as const;
export const HTB_VERSION = 3;
export const HTB_RATE_TO_QUANTUM = 10;
export const TCA_FQ_CODEL = { TARGET: 1, LIMIT: 2, INTERVAL: 3, ECN: 4, FLOWS: 5, QUANTUM: 6 } as const;
export const TCA_NETEM = { CORR: 1, REORDER: 3, CORRUPT: 4, RATE: 6, RATE64: 8 } as const;

export const TCA_U32 = { CLASSID: 1, SEL: 5, POLICE: 6, ACT: 7 } as const;
export const TC_U32_TERMINAL = 1;
export const TCA_MATCHALL = { CLASSID: 1, ACT: 2 } as const;
export const TCA_ACT = { KIND: 1, OPTIONS: 2 } as const;
export const TC_ACT = { OK: 0, SHOT: 2, PIPE: 3, STOLEN: 4 } as const;
export const TCA_MIRRED_PARMS = 2;
export const MIRRED = { 'egress redirect': 1, 'egress mirror': 2, 'ingress redirect': 3, 'ingress mirror': 4 } as const;
export const TCA_POLICE = { TBF: 1, RATE: 2, RATE64: 8 } as const;

export const ETH_P = { all: 3, ip: 0x0800, ip6: 0x86dd, arp: 0x0806 } as const;
