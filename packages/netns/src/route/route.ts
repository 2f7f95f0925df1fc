import { AF } from '@iso/sys';
import { type Family, ipText } from '../ip/ip.js';
import { Attributes } from '../netlink/attribute.js';
import { malformed } from '../netlink/error.js';
import { align } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from './name.js';
import { PROTOCOLS, ROUTE_TYPES, RTA, RTAX, RTM_F_CLONED, RTMSG, RTNH, RTNH_F, SCOPES, type TABLES } from './raw.js';

/** Kind of a route, see ip-route(8). */
export type RouteType = keyof typeof ROUTE_TYPES;

/** One way of a route with several. */
export interface NextHop {
  gateway?: string;
  /** Name or index in a request, index in an answer. */
  link?: string | number;
  /** Share of the traffic, 1 to 256. */
  weight?: number;
  /** The gateway is taken for reachable on the link, whatever the addresses say. */
  onlink?: boolean;
}

/** A route as it is to be. */
export interface RouteOptions {
  /** `default`, or a prefix. */
  dst: string;
  /** Only packets from this prefix; IPv6. */
  from?: string;
  gateway?: string;
  /** Name or index. */
  link?: string | number;
  /** Address from which this machine sends by it. */
  source?: string;
  metric?: number;
  /** Default `main`, 254. */
  table?: keyof typeof TABLES | number;
  type?: RouteType;
  scope?: keyof typeof SCOPES | number;
  /** Who made it, default `boot`, as `ip` has it. */
  protocol?: keyof typeof PROTOCOLS | number;
  onlink?: boolean;
  /** Bytes of a packet on this way. */
  mtu?: number;
  /** Several ways at once. */
  nextHops?: readonly NextHop[];
  /** Identifier of a next hop object, instead of gateway and link. */
  nextHopId?: number;
  /** Family of `default` where no gateway tells it; default 4. */
  family?: Family;
}

/** A route as the kernel describes it. */
export interface Route {
  family: Family;
  /** `default`, a prefix, or an address for the full length. */
  dst: string;
  from: string | undefined;
  gateway: string | undefined;
  /** Index. */
  link: number | undefined;
  source: string | undefined;
  metric: number | undefined;
  table: number;
  type: RouteType | number;
  scope: keyof typeof SCOPES | number;
  protocol: keyof typeof PROTOCOLS | number;
  onlink: boolean;
  /** Whether its link is down or has no carrier. */
  dead: boolean;
  mtu: number | undefined;
  nextHops: NextHop[] | undefined;
  nextHopId: number | undefined;
}

const typeWords = wordsOf(ROUTE_TYPES);
const scopeWords = wordsOf(SCOPES);
const protocolWords = wordsOf(PROTOCOLS);

/**
 * Reads RTM_NEWROUTE.
 *
 * @param reply - the message
 * @returns the route; undefined for one of another family, or out of a cache
 * @throws KernelError `EBADMSG`
 */
export function readRoute(reply: Replies): Route | undefined {
  const { bytes } = reply;
  const at = reply.header(RTMSG);
  const family = bytes[at];
  const flags = reply.u32(at + 8);
  if ((family !== AF.INET && family !== AF.INET6) || flags & RTM_F_CLONED) return undefined;
  const bits = bytes[at + 1] as number;
  const route: Route = {
    family: family === AF.INET ? 4 : 6,
    dst: '',
    from: undefined,
    gateway: undefined,
    link: undefined,
    source: undefined,
    metric: undefined,
    table: bytes[at + 4] as number,
    type: typeWords[bytes[at + 7] as number] as RouteType | number,
    scope: scopeWords[bytes[at + 6] as number] as Route['scope'],
    protocol: protocolWords[bytes[at + 5] as number] as Route['protocol'],
    onlink: (flags & RTNH_F.onlink) !== 0,
    dead: (flags & (RTNH_F.dead | RTNH_F.linkdown)) !== 0,
    mtu: undefined,
    nextHops: undefined,
    nextHopId: undefined,
  };
  const attributes = reply.attributes(RTMSG);
  const full = family === AF.INET ? 32 : 128;
  while (attributes.next()) {
    switch (attributes.type) {
      case RTA.DST:
        route.dst = bits === full ? attributes.ip() : `${attributes.ip()}/${bits}`;
        break;
      case RTA.TABLE:
        route.table = attributes.u32();
        break;
      case RTA.OIF:
        route.link = attributes.u32();
        break;
      case RTA.GATEWAY:
        route.gateway = attributes.ip();
        break;
      case RTA.PRIORITY:
        route.metric = attributes.u32();
        break;
      case RTA.PREFSRC:
        route.source = attributes.ip();
        break;
      default:
        readMore(route, attributes, bytes, bytes[at + 2] as number);
    }
  }
  if (route.dst === '') route.dst = bits === 0 ? 'default' : `${family === AF.INET ? '0.0.0.0' : '::'}/${bits}`;
  return route;
}

function readMore(route: Route, attributes: Attributes, bytes: Buffer, fromBits: number): void {
  if (attributes.type === RTA.VIA) route.gateway = readVia(attributes);
  else if (attributes.type === RTA.SRC) route.from = `${attributes.ip()}/${fromBits}`;
  else if (attributes.type === RTA.NH_ID) route.nextHopId = attributes.u32();
  else if (attributes.type === RTA.MULTIPATH) route.nextHops = readNextHops(bytes, attributes.start, attributes.end);
  else if (attributes.type === RTA.METRICS) {
    const metrics = attributes.nested();
    while (metrics.next()) if (metrics.type === RTAX.MTU) route.mtu = metrics.u32();
  }
}

/** A gateway of another family than the route's. */
function readVia(attributes: Attributes): string {
  const bytes = attributes.bytes();
  if (bytes.length !== 6 && bytes.length !== 18)
    throw malformed(`a gateway of ${bytes.length} bytes`, attributes.start);
  return ipText(bytes, 2);
}

function readNextHops(bytes: Buffer, start: number, end: number): NextHop[] {
  const hops: NextHop[] = [];
  for (let at = start; end - at >= RTNH; ) {
    const length = bytes.readUInt16LE(at);
    if (length < RTNH || at + length > end) throw malformed(`a next hop of ${length} bytes`, at);
    const hop: NextHop = { weight: (bytes[at + 3] as number) + 1 };
    if ((bytes[at + 2] as number) & RTNH_F.onlink) hop.onlink = true;
    const link = bytes.readInt32LE(at + 4);
    if (link) hop.link = link;
    const attributes = new Attributes(bytes, at + RTNH, at + length);
    while (attributes.next()) {
      if (attributes.type === RTA.GATEWAY) hop.gateway = attributes.ip();
      else if (attributes.type === RTA.VIA) hop.gateway = readVia(attributes);
    }
    hops.push(hop);
    at += align(length);
  }
  return hops;
}

/** All numbers of a byte at once: dumps are long. */
function wordsOf(words: Readonly<Record<string, number>>): readonly (string | number)[] {
  return Array.from({ length: 256 }, (_, value) => wordOf(words, value));
}
