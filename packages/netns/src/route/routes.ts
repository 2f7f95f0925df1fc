import { AF, invalid, KernelError } from '@iso/sys';
import { type Family, familyOf, ipBytes, parsePrefix } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import { numberOf } from './name.js';
import { PROTOCOLS, ROUTE_TYPES, RTA, RTAX, RTM, RTM_F_FIB_MATCH, RTMSG, RTNH, RTNH_F, SCOPES, TABLES } from './raw.js';
import type { Requests } from './requests.js';
import { type NextHop, type Route, type RouteOptions, readRoute } from './route.js';

/** Which routes are listed. */
export interface RouteFilter {
  family?: Family;
  table?: keyof typeof TABLES | number;
  /** Index or name of the link by which they leave. */
  link?: string | number;
}

/** Names of link-local and other types whose scope is not the whole world. */
const HOST_TYPES: ReadonlySet<string> = new Set(['local', 'nat']);
const LINK_TYPES: ReadonlySet<string> = new Set(['broadcast', 'multicast', 'anycast']);
/** Types that lead nowhere: no gateway, no link. */
const ENDS: ReadonlySet<string> = new Set(['blackhole', 'unreachable', 'prohibit', 'throw']);

/**
 * The routes of a network namespace, of all tables and both families: `ip route`.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * using lab = NetNS.create();
 * lab.rtnl.routes.create({ dst: '10.9.0.0/16', type: 'blackhole' });
 * if (!lab.rtnl.routes.list().some((route) => route.dst === '10.9.0.0/16')) throw new Error('no route');
 * ```
 */
export class Routes {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds a route.
   *
   * @param options - where it leads
   * @throws KernelError `EEXIST`, `ENETUNREACH` where nothing leads to the gateway, `ENODEV`
   */
  create(options: RouteOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.EXCL));
  }

  /**
   * Adds a route, in the place of one with the same destination, metric and table where there is one.
   *
   * @param options - where it leads
   * @throws KernelError as {@link Routes.create}
   */
  replace(options: RouteOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.REPLACE));
  }

  /**
   * Removes a route.
   *
   * @param options - what is not given counts for any
   * @throws KernelError `ESRCH` where there is none
   */
  remove(options: RouteOptions): void {
    this.#rtnl.request(this.#message('DEL', { scope: 'nowhere', protocol: 'unspec', type: 'unspec', ...options }, 0));
  }

  /**
   * The route by which the kernel sends to an address: `ip route get fibmatch`. It answers without waiting for who changes routes.
   *
   * @param destination - an IP address
   * @returns the route; type `local` where the address is this namespace's own
   * @throws KernelError `ENETUNREACH`, `EHOSTUNREACH` … where there is none
   */
  get(destination: string): Route {
    const family = familyOf(destination);
    const message = new Message(`RTM_GETROUTE ${destination}`, RTM.GETROUTE, 0, RTA);
    message.header(RTMSG, (header) => {
      header[0] = family === 4 ? AF.INET : AF.INET6;
      header[1] = family === 4 ? 32 : 128;
      header.writeUInt32LE(RTM_F_FIB_MATCH, 8);
    });
    message.raw(RTA.DST, ipBytes(destination));
    return this.#rtnl.one(message, (reply) => readRoute(reply) as Route);
  }

  /**
   * Lists routes.
   *
   * @param filter - which; default all of both families
   * @returns in the kernel's order, IPv4 first
   */
  list(filter: RouteFilter = {}): Route[] {
    const link = filter.link === undefined ? undefined : this.#rtnl.linkIndex(filter.link);
    const table = filter.table === undefined ? undefined : numberOf(TABLES, filter.table, 'a table');
    if (filter.family) return this.#dump(filter.family, table, link);
    // Not by flatMap, which takes long for what is long.
    return this.#dump(4, table, link).concat(this.#dump(6, table, link));
  }

  #dump(family: Family, table: number | undefined, link: number | undefined): Route[] {
    const message = new Message('RTM_GETROUTE', RTM.GETROUTE, NLM_F.DUMP, RTA);
    message.header(RTMSG, (header) => {
      header[0] = family === 4 ? AF.INET : AF.INET6;
    });
    if (table !== undefined) message.u32(RTA.TABLE, table);
    if (link !== undefined) message.u32(RTA.OIF, link);
    // A kernel that does not filter answers with all.
    const wanted = (route: Route) =>
      (table === undefined || route.table === table) &&
      (link === undefined || route.link === link || (route.nextHops?.some((hop) => hop.link === link) ?? false));
    try {
      return this.#rtnl.dump(message, RTM.NEWROUTE, (reply) => {
        const route = readRoute(reply);
        return route && wanted(route) ? route : undefined;
      });
    } catch (error) {
      // A table without routes does not exist; a kernel without IPv6 has none.
      if (KernelError.is(error, 'ENOENT', 'EOPNOTSUPP', 'EAFNOSUPPORT')) return [];
      throw error;
    }
  }

  #message(verb: 'NEW' | 'DEL', options: RouteOptions, flags: number): Message {
    const { dst, gateway, nextHops } = options;
    const type = options.type ?? 'unicast';
    const message = new Message(`RTM_${verb}ROUTE ${dst}`, verb === 'NEW' ? RTM.NEWROUTE : RTM.DELROUTE, flags, RTA);
    const prefix = dst === 'default' ? undefined : parsePrefix(dst);
    const hint = gateway ?? options.source ?? nextHops?.find((hop) => hop.gateway)?.gateway;
    const family = prefix?.family ?? options.family ?? (hint === undefined ? 4 : familyOf(hint));
    const from = options.from === undefined ? undefined : parsePrefix(options.from);
    const table = numberOf(TABLES, options.table ?? 'main', 'a table');
    const direct = gateway === undefined && options.nextHopId === undefined && !nextHops?.some((hop) => hop.gateway);
    const scope = options.scope ?? defaultScope(type, direct && !ENDS.has(type), family);
    message.header(RTMSG, (header) => {
      header[0] = family === 4 ? AF.INET : AF.INET6;
      header[1] = prefix?.length ?? 0;
      header[2] = from?.length ?? 0;
      header[4] = table < 256 ? table : 0;
      header[5] = numberOf(PROTOCOLS, options.protocol ?? 'boot', 'a protocol');
      header[6] = numberOf(SCOPES, scope, 'a scope');
      header[7] = numberOf(ROUTE_TYPES, type, 'a type of route');
      header.writeUInt32LE(options.onlink ? RTNH_F.onlink : 0, 8);
    });
    if (prefix && prefix.length > 0) message.raw(RTA.DST, network(prefix));
    if (from) message.raw(RTA.SRC, network(from));
    if (table > 255) message.u32(RTA.TABLE, table);
    if (gateway !== undefined) writeGateway(message, gateway, family);
    if (options.link !== undefined) message.u32(RTA.OIF, this.#rtnl.linkIndex(options.link));
    if (options.source !== undefined) message.raw(RTA.PREFSRC, ipBytes(options.source));
    if (options.metric !== undefined) message.u32(RTA.PRIORITY, options.metric);
    if (options.nextHopId !== undefined) message.u32(RTA.NH_ID, options.nextHopId);
    const { mtu } = options;
    if (mtu !== undefined) message.nest(RTA.METRICS, () => message.u32(RTAX.MTU, mtu), RTAX);
    if (nextHops) this.#nextHops(message, nextHops, family);
    return message;
  }

  #nextHops(message: Message, hops: readonly NextHop[], family: Family): void {
    message.nest(
      RTA.MULTIPATH,
      () => {
        for (const hop of hops) {
          const weight = hop.weight ?? 1;
          if (!Number.isInteger(weight) || weight < 1 || weight > 256)
            throw invalid(`a weight is 1 to 256, not ${weight}`);
          const index = hop.link === undefined ? 0 : this.#rtnl.linkIndex(hop.link);
          message.structure(
            RTNH,
            (header) => {
              header[2] = hop.onlink ? RTNH_F.onlink : 0;
              header[3] = weight - 1;
              header.writeInt32LE(index, 4);
            },
            () => hop.gateway !== undefined && writeGateway(message, hop.gateway, family),
          );
        }
      },
      RTA,
    );
  }
}

function writeGateway(message: Message, gateway: string, family: Family): void {
  const bytes = ipBytes(gateway);
  if ((bytes.length === 4 ? 4 : 6) === family) message.raw(RTA.GATEWAY, bytes);
  else message.raw(RTA.VIA, Buffer.concat([Buffer.from([bytes.length === 4 ? AF.INET : AF.INET6, 0]), bytes]));
}

/** The kernel refuses a destination with bits behind its length. */
function network({ address, length }: { address: string; length: number }): Buffer {
  const bytes = ipBytes(address);
  for (let bit = length; bit < bytes.length * 8; bit++)
    if ((bytes[bit >> 3] as number) & (0x80 >> (bit & 7)))
      throw invalid(`${address}/${length} is no network: it has bits behind its length`);
  return bytes;
}

/** As `ip route` has it. */
function defaultScope(type: string, direct: boolean, family: Family): keyof typeof SCOPES {
  if (HOST_TYPES.has(type)) return 'host';
  if (family === 4 && (direct || LINK_TYPES.has(type))) return 'link';
  return 'global';
}
