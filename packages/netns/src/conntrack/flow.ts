import { AF } from '@iso/sys';
import { type Family, ipBytes } from '../ip/ip.js';
import type { Attributes } from '../netlink/attribute.js';
import type { Message } from '../netlink/message.js';
import type { Replies } from '../netlink/replies.js';
import { NFGENMSG } from '../nft/raw.js';
import {
  CTA,
  CTA_COUNTERS,
  CTA_IP,
  CTA_PROTO,
  CTA_PROTOINFO_TCP,
  CTA_PROTOINFO_TCP_STATE,
  CTA_TUPLE,
  IPS,
  TCP_STATES,
} from './raw.js';

/** One direction of a flow. */
export interface Tuple {
  source: string;
  destination: string;
  /** Number of the protocol: 6 is TCP, 17 UDP, 1 ICMP, 58 ICMPv6. */
  protocol: number;
  sourcePort: number | undefined;
  destinationPort: number | undefined;
  /** Of ICMP. */
  icmp: { id: number; type: number; code: number } | undefined;
}

/** What passed in one direction, where the kernel counts (net.netfilter.nf_conntrack_acct). */
export interface FlowCounter {
  packets: bigint;
  bytes: bigint;
}

/** A tracked connection. */
export interface Flow {
  family: Family;
  /** As the first packet had it. */
  original: Tuple;
  /** As answers have it: after translation, the other way round. */
  reply: Tuple;
  /** Kernel's flags of it: seen in both directions, assured, translated … */
  status: (keyof typeof IPS)[];
  tcpState: (typeof TCP_STATES)[number] | undefined;
  /** Seconds until it is forgotten. */
  timeout: number | undefined;
  mark: number;
  id: number;
  zone: number;
  originalCounter: FlowCounter | undefined;
  replyCounter: FlowCounter | undefined;
}

/**
 * Reads IPCTNL_MSG_CT_NEW.
 *
 * @param reply - the message
 * @returns the flow; undefined for one of another family
 * @throws KernelError `EBADMSG`
 */
export function readFlow(reply: Replies): Flow | undefined {
  const family = reply.bytes[reply.header(NFGENMSG)];
  if (family !== AF.INET && family !== AF.INET6) return undefined;
  const flow: Flow = {
    family: family === AF.INET ? 4 : 6,
    original: emptyTuple(),
    reply: emptyTuple(),
    status: [],
    tcpState: undefined,
    timeout: undefined,
    mark: 0,
    id: 0,
    zone: 0,
    originalCounter: undefined,
    replyCounter: undefined,
  };
  const attributes = reply.attributes(NFGENMSG);
  while (attributes.next()) readAttribute(flow, attributes);
  return flow;
}

function readAttribute(flow: Flow, attributes: Attributes): void {
  switch (attributes.type) {
    case CTA.TUPLE_ORIG:
      readTuple(flow.original, attributes.nested());
      break;
    case CTA.TUPLE_REPLY:
      readTuple(flow.reply, attributes.nested());
      break;
    case CTA.STATUS: {
      const bits = attributes.u32be();
      flow.status = (Object.keys(IPS) as (keyof typeof IPS)[]).filter((name) => bits & IPS[name]);
      break;
    }
    case CTA.PROTOINFO: {
      const info = attributes.nested();
      while (info.next()) {
        if (info.type !== CTA_PROTOINFO_TCP) continue;
        const tcp = info.nested();
        while (tcp.next()) if (tcp.type === CTA_PROTOINFO_TCP_STATE) flow.tcpState = TCP_STATES[tcp.u8()];
      }
      break;
    }
    case CTA.TIMEOUT:
      flow.timeout = attributes.u32be();
      break;
    case CTA.MARK:
      flow.mark = attributes.u32be();
      break;
    case CTA.ID:
      flow.id = attributes.u32be();
      break;
    case CTA.ZONE:
      flow.zone = attributes.u16be();
      break;
    case CTA.COUNTERS_ORIG:
      flow.originalCounter = readCounter(attributes.nested());
      break;
    case CTA.COUNTERS_REPLY:
      flow.replyCounter = readCounter(attributes.nested());
      break;
  }
}

function emptyTuple(): Tuple {
  return {
    source: '',
    destination: '',
    protocol: 0,
    sourcePort: undefined,
    destinationPort: undefined,
    icmp: undefined,
  };
}

function readTuple(tuple: Tuple, attributes: Attributes): void {
  while (attributes.next()) {
    const inner = attributes.nested();
    if (attributes.type === CTA_TUPLE.IP) {
      while (inner.next()) {
        if (inner.type === CTA_IP.V4_SRC || inner.type === CTA_IP.V6_SRC) tuple.source = inner.ip();
        else if (inner.type === CTA_IP.V4_DST || inner.type === CTA_IP.V6_DST) tuple.destination = inner.ip();
      }
    } else if (attributes.type === CTA_TUPLE.PROTO) readProtocol(tuple, inner);
  }
}

function readProtocol(tuple: Tuple, attributes: Attributes): void {
  const icmp = { id: 0, type: 0, code: 0 };
  while (attributes.next()) {
    const { type } = attributes;
    if (type === CTA_PROTO.NUM) tuple.protocol = attributes.u8();
    else if (type === CTA_PROTO.SRC_PORT) tuple.sourcePort = attributes.u16be();
    else if (type === CTA_PROTO.DST_PORT) tuple.destinationPort = attributes.u16be();
    else if (type === CTA_PROTO.ICMP_ID || type === CTA_PROTO.ICMPV6_ID) {
      icmp.id = attributes.u16be();
      tuple.icmp = icmp;
    } else if (type === CTA_PROTO.ICMP_TYPE || type === CTA_PROTO.ICMPV6_TYPE) icmp.type = attributes.u8();
    else if (type === CTA_PROTO.ICMP_CODE || type === CTA_PROTO.ICMPV6_CODE) icmp.code = attributes.u8();
  }
}

function readCounter(attributes: Attributes): FlowCounter {
  const counter = { packets: 0n, bytes: 0n };
  while (attributes.next()) {
    if (attributes.type === CTA_COUNTERS.PACKETS) counter.packets = attributes.u64be();
    else if (attributes.type === CTA_COUNTERS.BYTES) counter.bytes = attributes.u64be();
  }
  return counter;
}

/** What is known of one direction of a flow. */
type KnownTuple = Pick<Tuple, 'protocol'> & { [name in keyof Tuple]?: Tuple[name] | undefined };

/**
 * Writes one direction of a flow, the first one.
 *
 * @param message - the request
 * @param tuple - what is known of it
 * @param family - of its addresses
 */
export function writeTuple(message: Message, tuple: KnownTuple, family: Family): void {
  const { source, destination } = tuple;
  message.nest(CTA.TUPLE_ORIG, () => {
    message.nest(CTA_TUPLE.IP, () => {
      if (source !== undefined) message.raw(family === 4 ? CTA_IP.V4_SRC : CTA_IP.V6_SRC, ipBytes(source));
      if (destination !== undefined) message.raw(family === 4 ? CTA_IP.V4_DST : CTA_IP.V6_DST, ipBytes(destination));
    });
    message.nest(CTA_TUPLE.PROTO, () => {
      message.u8(CTA_PROTO.NUM, tuple.protocol);
      const { icmp, sourcePort, destinationPort } = tuple;
      if (sourcePort !== undefined) message.u16be(CTA_PROTO.SRC_PORT, sourcePort);
      if (destinationPort !== undefined) message.u16be(CTA_PROTO.DST_PORT, destinationPort);
      if (!icmp) return;
      message.u16be(family === 4 ? CTA_PROTO.ICMP_ID : CTA_PROTO.ICMPV6_ID, icmp.id);
      message.u8(family === 4 ? CTA_PROTO.ICMP_TYPE : CTA_PROTO.ICMPV6_TYPE, icmp.type);
      message.u8(family === 4 ? CTA_PROTO.ICMP_CODE : CTA_PROTO.ICMPV6_CODE, icmp.code);
    });
  });
}
