import { invalid } from '@iso/sys';
import { ipBytes, ipText, macBytes, macText, parsePrefix } from '../ip/ip.js';
import { wordOf } from '../route/name.js';
import { ADDRESS_TYPES, CT, CT_STATES, CT_STATUS, ETHERTYPE, FIB, IPPROTO, META, NFPROTO, PAYLOAD } from './raw.js';

/** What a value of a field looks like, and how nft calls the type. */
export interface FieldType {
  /** nft's name. */
  name: string;
  /** nft's number, by which it knows how to print the keys of a set. */
  id: number;
  /** Bytes of it. */
  size: number;
  /** Bits of a mask that match any of them, in this machine's order. */
  bits?: Readonly<Record<string, number>>;
  /** Makes bytes of a value. */
  encode(value: string | number): Buffer;
  /** The reverse. */
  decode(bytes: Buffer): string | number;
}

/** Messages by which neighbours on a wire find one another, and tell which groups they listen to. */
const ICMPV6_TYPES = {
  'mld-listener-query': 130,
  'mld-listener-report': 131,
  'mld-listener-done': 132,
  'nd-router-solicit': 133,
  'nd-router-advert': 134,
  'nd-neighbor-solicit': 135,
  'nd-neighbor-advert': 136,
  'mld2-listener-report': 143,
} as const;

/** Types of keys and values, by nft's name. */
export const fieldTypes = {
  ipv4_addr: {
    name: 'ipv4_addr',
    id: 7,
    size: 4,
    encode: (value: string | number) => address(value, 4),
    decode: ipText,
  },
  ipv6_addr: {
    name: 'ipv6_addr',
    id: 8,
    size: 16,
    encode: (value: string | number) => address(value, 16),
    decode: ipText,
  },
  ether_addr: {
    name: 'ether_addr',
    id: 9,
    size: 6,
    encode: (value: string | number) => macBytes(String(value)),
    decode: (bytes: Buffer) => macText(bytes, 0, 6),
  },
  ifname: {
    name: 'ifname',
    id: 41,
    size: 16,
    encode: interfaceName,
    decode: (bytes: Buffer) => bytes.toString('utf8').replace(/\0.*$/s, ''),
  },
  ether_type: words('ether_type', 10, ETHERTYPE, be16),
  inet_proto: words('inet_proto', 12, IPPROTO, byte),
  inet_service: words('inet_service', 13, {}, be16),
  icmp_type: words('icmp_type', 14, { 'echo-reply': 0, 'echo-request': 8 }, byte),
  icmpv6_type: words('icmpv6_type', 29, ICMPV6_TYPES, byte),
  nf_proto: words('nf_proto', 2, NFPROTO, byte),
  mark: words('mark', 19, {}, host32),
  iface_index: words('iface_index', 20, {}, host32),
  ct_state: { ...words('ct_state', 26, CT_STATES, host32), bits: CT_STATES },
  ct_dir: words('ct_dir', 27, { original: 0, reply: 1 }, byte),
  ct_status: { ...words('ct_status', 28, CT_STATUS, host32), bits: CT_STATUS },
  pkt_type: words('pkt_type', 31, { host: 0, broadcast: 1, multicast: 2, other: 3 }, byte),
  fib_addrtype: words('fib_addrtype', 38, ADDRESS_TYPES, host32),
} as const satisfies Readonly<Record<string, FieldType>>;

/** nft's name of a type. */
export type TypeName = keyof typeof fieldTypes;

/** How a field is read out of a packet. */
type Source =
  | { load: 'meta'; key: number }
  | { load: 'ct'; key: number; direction?: number }
  | { load: 'payload'; base: number; offset: number }
  | { load: 'fib'; flags: number };

/** A field of a packet. */
export interface Field {
  type: FieldType;
  source: Source;
  /** What has to be matched first for it to mean anything. */
  needs?: { network?: 'ip' | 'ip6' | 'arp'; transport?: number; ether?: true };
}

const t = fieldTypes;
const ip = (offset: number, type: FieldType): Field => ({
  type,
  source: { load: 'payload', base: PAYLOAD.network, offset },
  needs: { network: 'ip' },
});
const arp = (offset: number, type: FieldType): Field => ({ ...ip(offset, type), needs: { network: 'arp' } });
const ip6 = (offset: number, type: FieldType): Field => ({ ...ip(offset, type), needs: { network: 'ip6' } });
const transport = (offset: number, type: FieldType, protocol?: number, network?: 'ip' | 'ip6'): Field => ({
  type,
  source: { load: 'payload', base: PAYLOAD.transport, offset },
  ...(protocol !== undefined && { needs: { transport: protocol, ...(network && { network }) } }),
});
const ether = (offset: number): Field => ({
  type: t.ether_addr,
  source: { load: 'payload', base: PAYLOAD.link, offset },
  needs: { ether: true },
});
const meta = (key: number, type: FieldType): Field => ({ type, source: { load: 'meta', key } });
const ct = (key: number, type: FieldType, direction?: number): Field => ({
  type,
  source: { load: 'ct', key, ...(direction !== undefined && { direction }) },
});

/** The fields that rules can look at, as nft writes them. */
const fields = {
  'ip saddr': ip(12, t.ipv4_addr),
  'ip daddr': ip(16, t.ipv4_addr),
  'ip protocol': ip(9, t.inet_proto),
  'ip6 saddr': ip6(8, t.ipv6_addr),
  'ip6 daddr': ip6(24, t.ipv6_addr),
  'ip6 nexthdr': ip6(6, t.inet_proto),
  'tcp sport': transport(0, t.inet_service, IPPROTO.tcp),
  'tcp dport': transport(2, t.inet_service, IPPROTO.tcp),
  'udp sport': transport(0, t.inet_service, IPPROTO.udp),
  'udp dport': transport(2, t.inet_service, IPPROTO.udp),
  'th sport': transport(0, t.inet_service),
  'th dport': transport(2, t.inet_service),
  'icmp type': transport(0, t.icmp_type, IPPROTO.icmp, 'ip'),
  'icmpv6 type': transport(0, t.icmpv6_type, IPPROTO.icmpv6, 'ip6'),
  'arp saddr ip': arp(14, t.ipv4_addr),
  'arp saddr ether': arp(8, t.ether_addr),
  'ether saddr': ether(6),
  'ether daddr': ether(0),
  'meta protocol': meta(META.protocol, t.ether_type),
  'meta mark': meta(META.mark, t.mark),
  'meta iif': meta(META.iif, t.iface_index),
  'meta oif': meta(META.oif, t.iface_index),
  'meta iifname': meta(META.iifname, t.ifname),
  'meta oifname': meta(META.oifname, t.ifname),
  'meta nfproto': meta(META.nfproto, t.nf_proto),
  'meta l4proto': meta(META.l4proto, t.inet_proto),
  'meta pkttype': meta(META.pkttype, t.pkt_type),
  'ct state': ct(CT.state, t.ct_state),
  'ct status': ct(CT.status, t.ct_status),
  'ct direction': ct(CT.direction, t.ct_dir),
  'ct mark': ct(CT.mark, t.mark),
  'ct original ip daddr': ct(CT.dst_ip, t.ipv4_addr, 0),
  'ct original ip6 daddr': ct(CT.dst_ip6, t.ipv6_addr, 0),
  'ct original proto-dst': ct(CT.proto_dst, t.inet_service, 0),
  'fib daddr type': { type: t.fib_addrtype, source: { load: 'fib', flags: FIB.daddr } },
  'fib saddr type': { type: t.fib_addrtype, source: { load: 'fib', flags: FIB.saddr } },
} as const satisfies Readonly<Record<string, Field>>;

/** Name of a field, as nft writes it. */
export type FieldName = keyof typeof fields;

/**
 * A field by its name.
 *
 * @param name - as nft writes it
 * @returns the field
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an unknown one
 */
export function fieldOf(name: FieldName): Field {
  if (!Object.hasOwn(fields, name))
    throw invalid(`no such field: ${JSON.stringify(name)}; there are ${Object.keys(fields).join(', ')}`);
  return fields[name];
}

/**
 * A type by its name.
 *
 * @param name - as nft writes it
 * @returns the type
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an unknown one
 */
export function typeOf(name: TypeName): FieldType {
  if (!Object.hasOwn(fieldTypes, name))
    throw invalid(`no such type: ${JSON.stringify(name)}; there are ${Object.keys(fieldTypes).join(', ')}`);
  return fieldTypes[name];
}

/**
 * The network that a prefix means, as value and mask.
 *
 * @param type - an address type
 * @param text - with a length
 * @returns both in bytes
 */
export function prefixBytes(type: FieldType, text: string): { value: Buffer; mask: Buffer; length: number } {
  const { address: host, length } = parsePrefix(text);
  const value = type.encode(host);
  const mask = Buffer.alloc(type.size);
  for (let bit = 0; bit < length; bit++) mask[bit >> 3] = (mask[bit >> 3] as number) | (0x80 >> (bit & 7));
  for (const [i, byte] of mask.entries()) value[i] = (value[i] as number) & byte;
  return { value, mask, length };
}

/** How a number stands in a register. */
interface NumberForm {
  size: number;
  write(bytes: Buffer, value: number): void;
  read(bytes: Buffer): number;
}

function words(name: string, id: number, names: Readonly<Record<string, number>>, form: () => NumberForm): FieldType {
  const { size, write, read } = form();
  return {
    name,
    id,
    size,
    encode: (value) => {
      const number =
        typeof value === 'number' ? value : Object.hasOwn(names, value) ? (names[value] as number) : undefined;
      if (number === undefined || !Number.isInteger(number) || number < 0 || number >= 2 ** (8 * size))
        throw invalid(`not a value of ${name}: ${JSON.stringify(value)}`);
      const bytes = Buffer.alloc(size);
      write(bytes, number);
      return bytes;
    },
    decode: (bytes) => wordOf(names, read(bytes)),
  };
}

function byte(): NumberForm {
  return { size: 1, write: (bytes, value) => bytes.writeUInt8(value), read: (bytes) => bytes.readUInt8() };
}

function be16(): NumberForm {
  return { size: 2, write: (bytes, value) => bytes.writeUInt16BE(value), read: (bytes) => bytes.readUInt16BE() };
}

function host32(): NumberForm {
  return { size: 4, write: (bytes, value) => bytes.writeUInt32LE(value), read: (bytes) => bytes.readUInt32LE() };
}

function address(value: string | number, size: number): Buffer {
  const bytes = ipBytes(String(value));
  if (bytes.length !== size) throw invalid(`an IPv${size === 4 ? 4 : 6} address is wanted here, not ${value}`);
  return bytes;
}

function interfaceName(value: string | number): Buffer {
  const text = String(value);
  const bytes = Buffer.alloc(16);
  if (Buffer.byteLength(text) > 15 || text === '' || text.includes('\0'))
    throw invalid(`a link's name has 1 to 15 bytes: ${JSON.stringify(text)}`);
  bytes.write(text);
  return bytes;
}
