import { invalid } from '@iso/sys';
import { ipBytes } from '../ip/ip.js';
import type { Attributes } from '../netlink/attribute.js';
import type { AttributeNames, Message } from '../netlink/message.js';
import { numberOf, wordOf } from './name.js';
import {
  IFLA_BR,
  IFLA_BRPORT,
  IFLA_IPVLAN,
  IFLA_MACVLAN,
  IFLA_TUN,
  IFLA_VLAN,
  IFLA_VXLAN,
  IPVLAN_FLAGS,
  IPVLAN_MODES,
  MACVLAN_MODES,
  VLAN_PROTOCOLS,
} from './raw.js';

/** Settings of a bridge, see ip-link(8). Times are in seconds. */
export interface BridgeData {
  stp?: boolean;
  forwardDelay?: number;
  helloTime?: number;
  maxAge?: number;
  ageingTime?: number;
  priority?: number;
  vlanFiltering?: boolean;
  multicastSnooping?: boolean;
  /** Whether its frames pass the netfilter hooks of IPv4, IPv6, ARP. */
  nfCallIptables?: boolean;
  nfCallIp6tables?: boolean;
  nfCallArptables?: boolean;
}

/** Settings of a port of a bridge, see bridge(8). */
export interface BridgePort {
  /** 0 disabled, 1 listening, 2 learning, 3 forwarding, 4 blocking. */
  state?: number;
  priority?: number;
  cost?: number;
  /** Frames may leave by the port by which they came. */
  hairpin?: boolean;
  guard?: boolean;
  rootBlock?: boolean;
  fastLeave?: boolean;
  learning?: boolean;
  flood?: boolean;
  proxyArp?: boolean;
  multicastFlood?: boolean;
  broadcastFlood?: boolean;
  neighbourSuppress?: boolean;
  /** Isolated ports do not reach one another. */
  isolated?: boolean;
}

/** Settings of a macvlan. */
export interface MacvlanData {
  mode?: keyof typeof MACVLAN_MODES;
}

/** Settings of an ipvlan. */
export interface IpvlanData {
  mode?: keyof typeof IPVLAN_MODES;
  flag?: keyof typeof IPVLAN_FLAGS;
}

/** Settings of a vlan. */
export interface VlanData {
  /** 1 to 4094. */
  id: number;
  protocol?: keyof typeof VLAN_PROTOCOLS;
}

/** Settings of a vxlan. */
export interface VxlanData {
  /** Network identifier, 24 bits. */
  id: number;
  /** Remote or multicast address. */
  group?: string;
  local?: string;
  /** UDP port, default 4789. */
  port?: number;
  ttl?: number;
  learning?: boolean;
  /** Seconds. */
  ageing?: number;
}

/** The kernel counts a bridge's times in hundredths of a second. */
const HZ = 100;

/** How a setting stands in netlink. */
type Field = readonly [attribute: number, form: 'flag' | 'u8' | 'u16' | 'u32' | 'time'];

const bridgeFields: Readonly<Record<keyof BridgeData, Field>> = {
  stp: [IFLA_BR.STP_STATE, 'u32'],
  forwardDelay: [IFLA_BR.FORWARD_DELAY, 'time'],
  helloTime: [IFLA_BR.HELLO_TIME, 'time'],
  maxAge: [IFLA_BR.MAX_AGE, 'time'],
  ageingTime: [IFLA_BR.AGEING_TIME, 'time'],
  priority: [IFLA_BR.PRIORITY, 'u16'],
  vlanFiltering: [IFLA_BR.VLAN_FILTERING, 'flag'],
  multicastSnooping: [IFLA_BR.MCAST_SNOOPING, 'flag'],
  nfCallIptables: [IFLA_BR.NF_CALL_IPTABLES, 'flag'],
  nfCallIp6tables: [IFLA_BR.NF_CALL_IP6TABLES, 'flag'],
  nfCallArptables: [IFLA_BR.NF_CALL_ARPTABLES, 'flag'],
};
const bridgeFlags: ReadonlySet<string> = new Set(['stp']);

const portFields: Readonly<Record<keyof BridgePort, Field>> = {
  state: [IFLA_BRPORT.STATE, 'u8'],
  priority: [IFLA_BRPORT.PRIORITY, 'u16'],
  cost: [IFLA_BRPORT.COST, 'u32'],
  hairpin: [IFLA_BRPORT.HAIRPIN, 'flag'],
  guard: [IFLA_BRPORT.GUARD, 'flag'],
  rootBlock: [IFLA_BRPORT.PROTECT, 'flag'],
  fastLeave: [IFLA_BRPORT.FAST_LEAVE, 'flag'],
  learning: [IFLA_BRPORT.LEARNING, 'flag'],
  flood: [IFLA_BRPORT.UNICAST_FLOOD, 'flag'],
  proxyArp: [IFLA_BRPORT.PROXYARP, 'flag'],
  multicastFlood: [IFLA_BRPORT.MCAST_FLOOD, 'flag'],
  broadcastFlood: [IFLA_BRPORT.BCAST_FLOOD, 'flag'],
  neighbourSuppress: [IFLA_BRPORT.NEIGH_SUPPRESS, 'flag'],
  isolated: [IFLA_BRPORT.ISOLATED, 'flag'],
};

/** How the settings of one kind of link are written and read. */
export interface LinkKind {
  /** Names of its attributes, for errors. */
  names: AttributeNames;
  /** Adds the settings. */
  write(message: Message, data: Readonly<Record<string, unknown>>): void;
  /** Reads the settings that it knows. */
  read(attributes: Attributes): Record<string, unknown>;
}

function kindOf<T extends object>(
  names: AttributeNames,
  write: (message: Message, data: T) => void,
  read: (attributes: Attributes) => Record<string, unknown>,
): LinkKind {
  return { names, write: (message, data) => write(message, data as T), read };
}

/** The kinds whose settings are known here, by the kernel's name. */
export const linkKinds: Readonly<Record<string, LinkKind>> = {
  bridge: table(IFLA_BR, bridgeFields),
  macvlan: kindOf<MacvlanData>(
    IFLA_MACVLAN,
    (message, { mode }) => {
      if (mode !== undefined) message.u32(IFLA_MACVLAN.MODE, numberOf(MACVLAN_MODES, mode, 'a mode of a macvlan'));
    },
    (attributes) =>
      read(attributes, { [IFLA_MACVLAN.MODE]: () => ({ mode: wordOf(MACVLAN_MODES, attributes.u32()) }) }),
  ),
  ipvlan: kindOf<IpvlanData>(
    IFLA_IPVLAN,
    (message, { mode, flag }) => {
      if (mode !== undefined) message.u16(IFLA_IPVLAN.MODE, numberOf(IPVLAN_MODES, mode, 'a mode of an ipvlan'));
      if (flag !== undefined) message.u16(IFLA_IPVLAN.FLAGS, numberOf(IPVLAN_FLAGS, flag, 'a flag of an ipvlan'));
    },
    (attributes) =>
      read(attributes, {
        [IFLA_IPVLAN.MODE]: () => ({ mode: wordOf(IPVLAN_MODES, attributes.u16()) }),
        [IFLA_IPVLAN.FLAGS]: () => ({ flag: wordOf(IPVLAN_FLAGS, attributes.u16()) }),
      }),
  ),
  vlan: kindOf<VlanData>(
    IFLA_VLAN,
    (message, { id, protocol }) => {
      if (!Number.isInteger(id) || id < 1 || id > 4094) throw invalid(`a VLAN's id is 1 to 4094, not ${id}`);
      message.u16(IFLA_VLAN.ID, id);
      if (protocol) message.u16be(IFLA_VLAN.PROTOCOL, numberOf(VLAN_PROTOCOLS, protocol, 'a protocol of a VLAN'));
    },
    (attributes) =>
      read(attributes, {
        [IFLA_VLAN.ID]: () => ({ id: attributes.u16() }),
        [IFLA_VLAN.PROTOCOL]: () => ({ protocol: wordOf(VLAN_PROTOCOLS, attributes.u16be()) }),
      }),
  ),
  vxlan: kindOf<VxlanData>(IFLA_VXLAN, writeVxlan, readVxlan),
  tun: kindOf<object>(
    IFLA_TUN,
    () => {
      throw invalid('the kernel makes a tun or tap link with its descriptor: use the tun() of its NetNS');
    },
    (attributes) =>
      read(attributes, {
        [IFLA_TUN.OWNER]: () => ({ uid: attributes.u32() }),
        [IFLA_TUN.GROUP]: () => ({ gid: attributes.u32() }),
        [IFLA_TUN.TYPE]: () => ({ mode: attributes.u8() === 1 ? 'tun' : 'tap' }),
        [IFLA_TUN.VNET_HDR]: () => ({ virtioHeader: attributes.u8() !== 0 }),
        [IFLA_TUN.PERSIST]: () => ({ persist: attributes.u8() !== 0 }),
      }),
  ),
};
// They differ from what they are built on by the device that they make.
Object.assign(linkKinds, { macvtap: linkKinds.macvlan, ipvtap: linkKinds.ipvlan });

/** Settings of a port of a bridge. */
export const bridgePort: LinkKind = table(IFLA_BRPORT, portFields);

function table(names: AttributeNames, fields: Readonly<Record<string, Field>>): LinkKind {
  return {
    names,
    write: (message, data) => {
      for (const [name, value] of Object.entries(data)) {
        if (value === undefined) continue;
        const field = Object.hasOwn(fields, name) ? fields[name] : undefined;
        if (!field || (typeof value !== 'number' && typeof value !== 'boolean'))
          throw invalid(`no such setting: ${name} = ${JSON.stringify(value)}`);
        const [attribute, form] = field;
        if (form === 'flag' || form === 'u8') message.u8(attribute, Number(value));
        else if (form === 'u16') message.u16(attribute, Number(value));
        else message.u32(attribute, form === 'time' ? Math.round(Number(value) * HZ) : Number(value));
      }
    },
    read: (attributes) => {
      const data: Record<string, unknown> = {};
      while (attributes.next()) {
        for (const name in fields) {
          const [attribute, form] = fields[name] as Field;
          if (attribute !== attributes.type) continue;
          if (form === 'flag') data[name] = attributes.u8() !== 0;
          else if (form === 'u8') data[name] = attributes.u8();
          else if (form === 'u16') data[name] = attributes.u16();
          else if (form === 'time') data[name] = attributes.u32() / HZ;
          else data[name] = bridgeFlags.has(name) ? attributes.u32() !== 0 : attributes.u32();
        }
      }
      return data;
    },
  };
}

function read(
  attributes: Attributes,
  fields: Readonly<Record<number, () => Record<string, unknown>>>,
): Record<string, unknown> {
  const data: Record<string, unknown> = {};
  while (attributes.next()) Object.assign(data, fields[attributes.type]?.());
  return data;
}

function writeVxlan(message: Message, data: VxlanData & { link?: number }): void {
  const { id, link, group, local, port = 4789, ttl, learning, ageing } = data;
  if (!Number.isInteger(id) || id < 0 || id >= 2 ** 24) throw invalid(`a VXLAN's id has 24 bits: ${id}`);
  message.u32(IFLA_VXLAN.ID, id);
  if (link !== undefined) message.u32(IFLA_VXLAN.LINK, link);
  for (const [address, four, six] of [
    [group, IFLA_VXLAN.GROUP, IFLA_VXLAN.GROUP6],
    [local, IFLA_VXLAN.LOCAL, IFLA_VXLAN.LOCAL6],
  ] as const) {
    if (address === undefined) continue;
    const bytes = ipBytes(address);
    message.raw(bytes.length === 4 ? four : six, bytes);
  }
  message.u16be(IFLA_VXLAN.PORT, port);
  if (ttl !== undefined) message.u8(IFLA_VXLAN.TTL, ttl);
  if (learning !== undefined) message.u8(IFLA_VXLAN.LEARNING, learning ? 1 : 0);
  if (ageing !== undefined) message.u32(IFLA_VXLAN.AGEING, ageing);
}

function readVxlan(attributes: Attributes): Record<string, unknown> {
  return read(attributes, {
    [IFLA_VXLAN.ID]: () => ({ id: attributes.u32() }),
    [IFLA_VXLAN.GROUP]: () => ({ group: attributes.ip() }),
    [IFLA_VXLAN.GROUP6]: () => ({ group: attributes.ip() }),
    [IFLA_VXLAN.LOCAL]: () => ({ local: attributes.ip() }),
    [IFLA_VXLAN.LOCAL6]: () => ({ local: attributes.ip() }),
    [IFLA_VXLAN.PORT]: () => ({ port: attributes.u16be() }),
    [IFLA_VXLAN.TTL]: () => ({ ttl: attributes.u8() }),
    [IFLA_VXLAN.LEARNING]: () => ({ learning: attributes.u8() !== 0 }),
    [IFLA_VXLAN.AGEING]: () => ({ ageing: attributes.u32() }),
  });
}
