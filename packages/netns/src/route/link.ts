import type { Fd } from '@iso/sys';
import type { Attributes } from '../netlink/attribute.js';
import type { Replies } from '../netlink/replies.js';
import {
  type BridgeData,
  type BridgePort,
  bridgePort,
  type IpvlanData,
  linkKinds,
  type MacvlanData,
  type VlanData,
  type VxlanData,
} from './link-kind.js';
import { IFF, IFINFOMSG, IFLA, IFLA_INFO, OPERSTATES } from './raw.js';
import { type LinkStats, readStats } from './stats.js';

/** A network namespace as a target: a `NetNS`, or whatever has the descriptor of one. */
export interface NetNSRef {
  readonly fd: Fd;
}

/** What every link can be given. */
export interface LinkSettings {
  /** Up to 15 bytes. */
  name?: string;
  up?: boolean;
  mtu?: number;
  /** Link-layer address, `02:…`. */
  mac?: string;
  /** Bridge or other link that it is a port of, by name or index; null takes it out. */
  master?: string | number | null;
  /** Group, by which many links are removed at once. */
  group?: number;
  /** Packets of its queue. */
  txQueueLength?: number;
  /** Description, up to 255 bytes. */
  alias?: string;
  /** Network namespace that it is made in or moved to. Addresses and routes do not move with it. */
  netns?: NetNSRef;
  /** Settings as a port of a bridge. */
  port?: BridgePort;
}

/** What a link that is to be made can be given besides. */
export interface NewLink extends LinkSettings {
  name: string;
  /** Its index, where it matters; default the next free one. */
  index?: number;
  /** Link that it is built on, by name or index. */
  parent?: string | number;
  txQueues?: number;
  rxQueues?: number;
}

/**
 * The other end of a veth pair. It can be made in another network namespace; up it cannot be yet. Its `index` counts where this
 * end's is given too.
 */
export type Peer = Pick<NewLink, 'name' | 'mtu' | 'mac' | 'netns' | 'index' | 'group' | 'txQueueLength'>;

/** A link to be made, by kind. */
export type LinkOptions =
  | (NewLink & { kind: 'veth'; peer: Peer })
  | (NewLink & { kind: 'bridge'; data?: BridgeData })
  | (NewLink & { kind: 'macvlan' | 'macvtap'; parent: string | number; data?: MacvlanData })
  | (NewLink & { kind: 'ipvlan' | 'ipvtap'; parent: string | number; data?: IpvlanData })
  | (NewLink & { kind: 'vlan'; parent: string | number; data: VlanData })
  | (NewLink & { kind: 'vxlan'; data: VxlanData })
  | (NewLink & { kind: 'dummy' | 'ifb' })
  | (NewLink & { kind: 'other'; type: string; data?: Uint8Array });

/** A link as the kernel describes it. */
export interface Link {
  index: number;
  name: string;
  altNames: string[];
  /** The kernel's name of the driver: `veth`, `bridge` …; undefined for physical ones and the loopback. */
  kind: string | undefined;
  /** ARPHRD number: 1 is Ethernet, 772 the loopback. */
  type: number;
  /** IFF flags, netdevice(7). */
  flags: number;
  /** Whether it is switched on. */
  up: boolean;
  /** Whether it has a carrier. */
  carrier: boolean;
  operstate: (typeof OPERSTATES)[number];
  mtu: number;
  mac: string | undefined;
  broadcast: string | undefined;
  /** Index of the link that it is a port of. */
  master: number | undefined;
  /** Index of the link that it is built on; of a veth its peer's. */
  parent: number | undefined;
  /** The namespace of `parent`, as this one numbers others; undefined where it is this one. */
  parentNsid: number | undefined;
  group: number;
  txQueueLength: number;
  qdisc: string | undefined;
  alias: string | undefined;
  /** Settings of its kind, where they are known here. */
  data: Readonly<Record<string, unknown>> | undefined;
  /** Settings as a port of a bridge. */
  port: BridgePort | undefined;
  /** Counters, where they were asked for. */
  stats: LinkStats | undefined;
}

/**
 * Reads RTM_NEWLINK.
 *
 * @param reply - the message
 * @returns the link
 * @throws KernelError `EBADMSG`
 */
export function readLink(reply: Replies): Link {
  const at = reply.header(IFINFOMSG);
  const flags = reply.u32(at + 8);
  const link: Link = {
    index: reply.bytes.readInt32LE(at + 4),
    name: '',
    altNames: [],
    kind: undefined,
    type: reply.bytes.readUInt16LE(at + 2),
    flags,
    up: (flags & IFF.UP) !== 0,
    carrier: (flags & IFF.LOWER_UP) !== 0,
    operstate: 'UNKNOWN',
    mtu: 0,
    mac: undefined,
    broadcast: undefined,
    master: undefined,
    parent: undefined,
    parentNsid: undefined,
    group: 0,
    txQueueLength: 0,
    qdisc: undefined,
    alias: undefined,
    data: undefined,
    port: undefined,
    stats: undefined,
  };
  const attributes = reply.attributes(IFINFOMSG);
  while (attributes.next()) readAttribute(link, attributes);
  return link;
}

function readAttribute(link: Link, attributes: Attributes): void {
  switch (attributes.type) {
    case IFLA.IFNAME:
      link.name = attributes.string();
      break;
    case IFLA.MTU:
      link.mtu = attributes.u32();
      break;
    case IFLA.ADDRESS:
      link.mac = attributes.mac();
      break;
    case IFLA.BROADCAST:
      link.broadcast = attributes.mac();
      break;
    case IFLA.OPERSTATE:
      link.operstate = OPERSTATES[attributes.u8()] ?? 'UNKNOWN';
      break;
    case IFLA.MASTER:
      link.master = attributes.u32();
      break;
    case IFLA.LINK:
      link.parent = attributes.u32() || undefined;
      break;
    case IFLA.LINK_NETNSID:
      link.parentNsid = attributes.i32();
      break;
    case IFLA.GROUP:
      link.group = attributes.u32();
      break;
    case IFLA.TXQLEN:
      link.txQueueLength = attributes.u32();
      break;
    case IFLA.QDISC:
      link.qdisc = attributes.string();
      break;
    case IFLA.IFALIAS:
      link.alias = attributes.string();
      break;
    case IFLA.LINKINFO:
      readInfo(link, attributes.nested());
      break;
    case IFLA.STATS64:
      link.stats = readStats(attributes);
      break;
    case IFLA.PROP_LIST: {
      const names = attributes.nested();
      while (names.next()) if (names.type === IFLA.ALT_IFNAME) link.altNames.push(names.string());
      break;
    }
  }
}

function readInfo(link: Link, info: Attributes): void {
  let slave: string | undefined;
  while (info.next()) {
    if (info.type === IFLA_INFO.KIND) link.kind = info.string();
    else if (info.type === IFLA_INFO.SLAVE_KIND) slave = info.string();
    else if (info.type === IFLA_INFO.DATA && link.kind && Object.hasOwn(linkKinds, link.kind))
      link.data = linkKinds[link.kind]?.read(info.nested());
    else if (info.type === IFLA_INFO.SLAVE_DATA && slave === 'bridge')
      link.port = bridgePort.read(info.nested()) as BridgePort;
  }
}
