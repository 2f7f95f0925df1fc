import { invalid } from '@iso/sys';
import { familyOf, ipBytes } from '../ip/ip.js';
import type { Message } from '../netlink/message.js';
import { writeData, writeVerdict } from './data.js';
import { type Field, type FieldName, fieldOf, fieldTypes, prefixBytes } from './field.js';
import {
  CMP,
  CT,
  ETHERTYPE,
  type FAMILIES,
  FIB_RESULT_ADDRTYPE,
  ICMPX,
  META,
  NAT_FLAGS,
  NFPROTO,
  NFT_LOOKUP_F_INV,
  NFTA_BITWISE,
  NFTA_CMP,
  NFTA_COUNTER,
  NFTA_CT,
  NFTA_EXPR,
  NFTA_FIB,
  NFTA_IMMEDIATE,
  NFTA_LIMIT,
  NFTA_LIST_ELEM,
  NFTA_LOG,
  NFTA_LOOKUP,
  NFTA_MASQ,
  NFTA_META,
  NFTA_NAT,
  NFTA_PAYLOAD,
  NFTA_RANGE,
  NFTA_REDIR,
  NFTA_REJECT,
  REG,
  REJECT,
} from './raw.js';
import type { MatchValue, NatTarget, Statement } from './statement.js';

const SECONDS = { second: 1, minute: 60, hour: 3600, day: 86400 } as const;

/**
 * Writes statements as the kernel's expressions: loads into registers, comparisons, actions.
 */
export class RuleCompiler {
  readonly #message: Message;
  readonly #family: keyof typeof FAMILIES;
  #network: 'ip' | 'ip6' | 'arp' | undefined;
  #transport: number | undefined;
  #ether = false;

  /**
   * @param message - where to
   * @param family - of the table
   */
  constructor(message: Message, family: keyof typeof FAMILIES) {
    this.#message = message;
    this.#family = family;
    if (family === 'ip' || family === 'ip6' || family === 'arp') this.#network = family;
  }

  /** Adds a statement. */
  add(statement: Statement): void {
    switch (statement.kind) {
      case 'match':
        this.#match(statement.field, statement.op, statement.value);
        break;
      case 'lookup':
        this.#lookup(statement.key, statement.set, undefined, statement.invert);
        break;
      case 'vmap':
        this.#lookup(statement.key, statement.map, REG.VERDICT);
        break;
      case 'verdict':
        this.#expression('immediate', (message) => {
          message.u32be(NFTA_IMMEDIATE.DREG, REG.VERDICT);
          message.nest(NFTA_IMMEDIATE.DATA, () => writeVerdict(message, statement.verdict));
        });
        break;
      case 'dnat':
      case 'snat':
        this.#nat(statement.kind, statement.to);
        break;
      case 'masquerade':
        this.#expression('masq', (message) => {
          if (statement.flags.length) message.u32be(NFTA_MASQ.FLAGS, natFlags(statement.flags));
        });
        break;
      case 'redirect': {
        const { port } = statement;
        if (port !== undefined) this.#immediate(REG.FIRST, fieldTypes.inet_service.encode(port));
        this.#expression('redir', (message) => {
          if (port !== undefined) message.u32be(NFTA_REDIR.REG_PROTO_MIN, REG.FIRST);
        });
        break;
      }
      case 'counter':
        this.#expression('counter', (message) => message.u64be(NFTA_COUNTER.BYTES, 0).u64be(NFTA_COUNTER.PACKETS, 0));
        break;
      case 'limit':
        this.#expression('limit', (message) =>
          message
            .u64be(NFTA_LIMIT.RATE, statement.rate)
            .u64be(NFTA_LIMIT.UNIT, SECONDS[statement.per])
            .u32be(NFTA_LIMIT.BURST, statement.burst)
            .u32be(NFTA_LIMIT.TYPE, statement.unit === 'bytes' ? 1 : 0)
            .u32be(NFTA_LIMIT.FLAGS, statement.over ? 1 : 0),
        );
        break;
      case 'log':
        this.#expression('log', (message) => {
          if (statement.prefix !== undefined) message.string(NFTA_LOG.PREFIX, statement.prefix);
          if (statement.group !== undefined) message.u16be(NFTA_LOG.GROUP, statement.group);
        });
        break;
      case 'reject':
        if (statement.how === 'tcp reset') this.#require({ transport: 6 });
        this.#expression('reject', (message) =>
          message
            .u32be(NFTA_REJECT.TYPE, REJECT[statement.how])
            .u8(
              NFTA_REJECT.ICMP_CODE,
              ICMPX[statement.how === 'icmpx admin-prohibited' ? 'admin-prohibited' : 'port-unreachable'],
            ),
        );
        break;
      case 'set mark': {
        this.#immediate(REG.FIRST, fieldTypes.mark.encode(statement.value));
        const packet = statement.what === 'meta mark';
        this.#expression(packet ? 'meta' : 'ct', (message) =>
          packet
            ? message.u32be(NFTA_META.KEY, META.mark).u32be(NFTA_META.SREG, REG.FIRST)
            : message.u32be(NFTA_CT.KEY, CT.mark).u32be(NFTA_CT.SREG, REG.FIRST),
        );
        break;
      }
      case 'notrack':
        this.#expression('notrack', () => {});
        break;
      case 'trace':
        this.#immediate(REG.FIRST, Buffer.from([1]));
        this.#expression('meta', (message) =>
          message.u32be(NFTA_META.KEY, META.nftrace).u32be(NFTA_META.SREG, REG.FIRST),
        );
        break;
    }
  }

  #match(name: FieldName, op: keyof typeof CMP, value: MatchValue): void {
    const field = fieldOf(name);
    const { type } = field;
    this.#require(field.needs);
    this.#load(field, REG.FIRST);
    if (typeof value === 'object' && 'from' in value) {
      this.#expression('range', (message) => {
        if (op !== '==' && op !== '!=') throw invalid(`a range is compared by == and !=, not by ${op}`);
        message.u32be(NFTA_RANGE.SREG, REG.FIRST).u32be(NFTA_RANGE.OP, CMP[op]);
        writeData(message, NFTA_RANGE.FROM_DATA, type.encode(value.from));
        writeData(message, NFTA_RANGE.TO_DATA, type.encode(value.to));
      });
      return;
    }
    const { bits } = type;
    if (bits) {
      // Any of the flags.
      const mask = Buffer.alloc(type.size);
      for (const flag of typeof value === 'object' ? value : [value])
        mask.writeUInt32LE((mask.readUInt32LE() | type.encode(flag).readUInt32LE()) >>> 0);
      this.#bitwise(mask);
      this.#compare(op === '==' ? '!=' : '==', Buffer.alloc(type.size));
      return;
    }
    if (typeof value === 'object') throw invalid(`${name} takes one value: several are a set`);
    const text = String(value);
    if (type.size >= 4 && text.includes('/')) {
      const { value: network, mask } = prefixBytes(type, text);
      this.#bitwise(mask);
      this.#compare(op, network);
    } else if (type === fieldTypes.ifname && text.endsWith('*')) {
      this.#compare(op, Buffer.from(text.slice(0, -1)));
    } else this.#compare(op, type.encode(value));
    this.#learn(name, op, value);
  }

  /** What a condition has made sure of. */
  #learn(name: FieldName, op: string, value: string | number): void {
    if (op !== '==') return;
    if (name === 'meta nfproto') this.#network = value === 'ipv4' || value === 2 ? 'ip' : 'ip6';
    else if (name === 'meta protocol') this.#network = networkOf(value);
    else if (name === 'meta l4proto' || name === 'ip protocol' || name === 'ip6 nexthdr')
      this.#transport = fieldTypes.inet_proto.encode(value)[0];
  }

  #require(needs: Field['needs']): void {
    if (needs?.ether && this.#family !== 'bridge' && this.#family !== 'netdev' && !this.#ether) {
      this.#ether = true;
      this.#expression('meta', (message) =>
        message.u32be(NFTA_META.KEY, META.iiftype).u32be(NFTA_META.DREG, REG.FIRST),
      );
      this.#compare('==', Buffer.from([ARPHRD_ETHER, 0]));
    }
    if (needs?.network && this.#network !== needs.network) {
      if (this.#network) throw invalid(`a rule cannot match ${needs.network} and ${this.#network} at once`);
      const inet = this.#family === 'inet';
      if (inet) {
        if (needs.network === 'arp') throw invalid('family inet sees no ARP');
        this.#load({ type: fieldTypes.nf_proto, source: { load: 'meta', key: META.nfproto } }, REG.FIRST);
        this.#compare('==', Buffer.from([needs.network === 'ip' ? NFPROTO.ipv4 : NFPROTO.ipv6]));
      } else {
        this.#load({ type: fieldTypes.ether_type, source: { load: 'meta', key: META.protocol } }, REG.FIRST);
        this.#compare('==', fieldTypes.ether_type.encode(needs.network));
      }
      this.#network = needs.network;
    }
    if (needs?.transport !== undefined && this.#transport !== needs.transport) {
      if (this.#transport !== undefined) throw invalid('a rule cannot match two transport protocols at once');
      this.#load({ type: fieldTypes.inet_proto, source: { load: 'meta', key: META.l4proto } }, REG.FIRST);
      this.#compare('==', Buffer.from([needs.transport]));
      this.#transport = needs.transport;
    }
  }

  #lookup(key: readonly FieldName[], set: string, destination?: number, invert = false): void {
    const used = key.map((name) => fieldOf(name));
    for (const field of used) this.#require(field.needs);
    let word = 0;
    for (const field of used) {
      this.#load(field, used.length === 1 ? REG.FIRST : REG.WORD + word);
      word += Math.ceil(field.type.size / 4);
    }
    if (word > 16) throw invalid('a key has 64 bytes at the most');
    this.#expression('lookup', (message) => {
      message.string(NFTA_LOOKUP.SET, set).u32be(NFTA_LOOKUP.SREG, REG.FIRST);
      if (destination !== undefined) message.u32be(NFTA_LOOKUP.DREG, destination);
      if (invert) message.u32be(NFTA_LOOKUP.FLAGS, NFT_LOOKUP_F_INV);
    });
  }

  #nat(kind: 'dnat' | 'snat', to: NatTarget): void {
    let family: 'ip' | 'ip6' | undefined;
    let [address, port]: (number | undefined)[] = [undefined, undefined];
    let flags = 0;
    if ('map' in to) {
      ({ family } = to);
      this.#lookup(to.key, to.map, REG.FIRST);
      address = REG.FIRST;
      // The port stands behind the address.
      if (to.withPort) port = REG.WORD + (family === 'ip' ? 1 : 4);
    } else {
      if (to.address === undefined && to.port === undefined) throw invalid(`${kind} needs an address or a port`);
      if (to.address !== undefined) {
        family = familyOf(to.address) === 4 ? 'ip' : 'ip6';
        address = REG.FIRST;
        this.#immediate(address, ipBytes(to.address));
      } else if (this.#network !== 'arp') family = this.#network;
      if (to.port !== undefined) {
        port = REG.FIRST + 1;
        this.#immediate(port, fieldTypes.inet_service.encode(to.port));
      }
      flags = natFlags(to.flags ?? []);
    }
    if (!family) throw invalid(`${kind} without an address needs a condition on the version of IP before it`);
    this.#expression('nat', (message) => {
      message
        .u32be(NFTA_NAT.TYPE, kind === 'snat' ? 0 : 1)
        .u32be(NFTA_NAT.FAMILY, family === 'ip' ? NFPROTO.ipv4 : NFPROTO.ipv6);
      if (address !== undefined) message.u32be(NFTA_NAT.REG_ADDR_MIN, address);
      if (port !== undefined) message.u32be(NFTA_NAT.REG_PROTO_MIN, port);
      if (flags) message.u32be(NFTA_NAT.FLAGS, flags);
    });
  }

  #load({ type, source }: Field, register: number): void {
    switch (source.load) {
      case 'meta':
        this.#expression('meta', (message) => message.u32be(NFTA_META.KEY, source.key).u32be(NFTA_META.DREG, register));
        break;
      case 'ct':
        this.#expression('ct', (message) => {
          message.u32be(NFTA_CT.KEY, source.key).u32be(NFTA_CT.DREG, register);
          if (source.direction !== undefined) message.u8(NFTA_CT.DIRECTION, source.direction);
        });
        break;
      case 'payload':
        this.#expression('payload', (message) =>
          message
            .u32be(NFTA_PAYLOAD.DREG, register)
            .u32be(NFTA_PAYLOAD.BASE, source.base)
            .u32be(NFTA_PAYLOAD.OFFSET, source.offset)
            .u32be(NFTA_PAYLOAD.LEN, type.size),
        );
        break;
      case 'fib':
        this.#expression('fib', (message) =>
          message
            .u32be(NFTA_FIB.DREG, register)
            .u32be(NFTA_FIB.RESULT, FIB_RESULT_ADDRTYPE)
            .u32be(NFTA_FIB.FLAGS, source.flags),
        );
        break;
    }
  }

  #compare(op: keyof typeof CMP, value: Buffer): void {
    this.#expression('cmp', (message) => {
      message.u32be(NFTA_CMP.SREG, REG.FIRST).u32be(NFTA_CMP.OP, CMP[op]);
      writeData(message, NFTA_CMP.DATA, value);
    });
  }

  #bitwise(mask: Buffer): void {
    this.#expression('bitwise', (message) => {
      message.u32be(NFTA_BITWISE.SREG, REG.FIRST).u32be(NFTA_BITWISE.DREG, REG.FIRST);
      message.u32be(NFTA_BITWISE.LEN, mask.length);
      writeData(message, NFTA_BITWISE.MASK, mask);
      writeData(message, NFTA_BITWISE.XOR, Buffer.alloc(mask.length));
    });
  }

  #immediate(register: number, value: Buffer): void {
    this.#expression('immediate', (message) => {
      message.u32be(NFTA_IMMEDIATE.DREG, register);
      writeData(message, NFTA_IMMEDIATE.DATA, value);
    });
  }

  #expression(name: string, fill: (message: Message) => void): void {
    this.#message.nest(NFTA_LIST_ELEM, (message) => {
      message.string(NFTA_EXPR.NAME, name);
      message.nest(NFTA_EXPR.DATA, fill);
    });
  }
}

const ARPHRD_ETHER = 1;

function networkOf(protocol: string | number): 'ip' | 'ip6' | 'arp' | undefined {
  return (Object.keys(ETHERTYPE) as (keyof typeof ETHERTYPE)[]).find(
    (name) => name === protocol || ETHERTYPE[name] === protocol,
  );
}

function natFlags(flags: readonly (keyof typeof NAT_FLAGS)[]): number {
  return flags.reduce((bits, flag) => bits | NAT_FLAGS[flag], 0);
}
