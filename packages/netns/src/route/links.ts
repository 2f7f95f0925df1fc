import { invalid, KernelError, UnsupportedError } from '@iso/sys';
import { macBytes } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import { type Link, type LinkOptions, type LinkSettings, type NewLink, type Peer, readLink } from './link.js';
import { bridgePort, linkKinds } from './link-kind.js';
import { alternativeName, linkName } from './name.js';
import { IFF, IFINFOMSG, IFLA, IFLA_INFO, RTEXT_FILTER_SKIP_STATS, RTM, VETH_INFO_PEER } from './raw.js';
import { FEW_ATTEMPTS, type Requests } from './requests.js';
import type { LinkStats } from './stats.js';

/** A link, by name or index. */
export type LinkRef = string | number;

/** Which links are listed. */
export interface LinkFilter {
  /** Ports of this link. */
  master?: LinkRef;
  /** Of this kind. */
  kind?: string;
  /** Whether counters come with them. */
  stats?: boolean;
}

/**
 * The links of a network namespace: `ip link`. Changes need CAP_NET_ADMIN in the user namespace that owns it.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * using a = NetNS.create();
 * using b = NetNS.create();
 * a.rtnl.links.create({ kind: 'veth', name: 'left', up: true, peer: { name: 'right', netns: b } });
 * if (b.rtnl.links.get('right').kind !== 'veth') throw new Error('no peer');
 * ```
 */
export class Links {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Makes a link.
   *
   * @param options - kind, name, settings
   * @throws KernelError `EEXIST` where the name is taken, `ENODEV` where master or parent is missing
   * @throws UnsupportedError where the kernel has no such kind
   */
  create(options: LinkOptions): void {
    const kind = options.kind === 'other' ? options.type : options.kind;
    if (options.netns && (options.port || options.alias !== undefined))
      throw invalid('port and alias are set once the link is made, in its own namespace: do that by its rtnl');
    const flags = NLM_F.CREATE | NLM_F.EXCL;
    const message = new Message(`RTM_NEWLINK ${options.name} (${kind})`, RTM.NEWLINK, flags, IFLA);
    message.header(IFINFOMSG, (header) => {
      if (options.index !== undefined) header.writeInt32LE(options.index, 4);
      writeFlags(header, options.up);
    });
    this.#attributes(message, options);
    const parent = options.parent === undefined ? undefined : this.index(options.parent);
    if (parent !== undefined && kind !== 'vxlan') message.u32(IFLA.LINK, parent);
    if (options.txQueues !== undefined) message.u32(IFLA.NUM_TX_QUEUES, options.txQueues);
    if (options.rxQueues !== undefined) message.u32(IFLA.NUM_RX_QUEUES, options.rxQueues);
    const names = linkKinds[kind]?.names;
    message.nest(
      IFLA.LINKINFO,
      () => {
        message.string(IFLA_INFO.KIND, kind);
        if (options.kind === 'veth') message.nest(IFLA_INFO.DATA, () => writePeer(message, options.peer));
        else if (options.kind === 'other') {
          if (options.data) message.raw(IFLA_INFO.DATA, options.data);
        } else if ('data' in options && options.data) {
          // A vxlan takes the link beneath it as a setting of its kind.
          const beneath = kind === 'vxlan' && parent !== undefined ? { link: parent } : {};
          const data = { ...options.data, ...beneath } as Record<string, unknown>;
          message.nest(IFLA_INFO.DATA, () => linkKinds[kind]?.write(message, data), names);
        }
      },
      IFLA_INFO,
    );
    try {
      this.#rtnl.request(message);
    } catch (error) {
      if (KernelError.is(error, 'EOPNOTSUPP') && error.kernelMessage?.includes('Unknown device type'))
        throw new UnsupportedError(`a link of kind ${kind}`, 'the kernel answered EOPNOTSUPP, Unknown device type', {
          cause: error,
        });
      throw error;
    }
    // What the kernel does not look at while it makes a link.
    const { port, alias } = options;
    if (!port && alias === undefined) return;
    try {
      this.set(options.name, { ...(port && { port }), ...(alias !== undefined && { alias }) });
    } catch (error) {
      this.remove(options.name);
      throw error;
    }
  }

  /**
   * Changes a link.
   *
   * @param link - which
   * @param settings - what to change; `name` renames it, which a kernel before Linux 6.2 refuses with `EBUSY` for one that is up: say
   * `up: false` with it
   * @param data - settings of its kind, as {@link Links.create} takes them
   * @throws KernelError `ENODEV` where it is missing, `EBUSY`, `EINVAL` …
   */
  set(link: LinkRef, settings: LinkSettings, data?: { kind: string; data: object }): void {
    const renames = settings.name !== undefined && settings.name !== link;
    // The kernel renames before it switches off, and until Linux 6.2 only what is off.
    if (renames && settings.up === false) this.set(link, { up: false });
    const message = new Message(`RTM_NEWLINK ${link}`, RTM.NEWLINK, 0, IFLA);
    // By name in the message itself, unless that is where the new name goes.
    const index = typeof link === 'number' ? link : renames ? this.index(link) : 0;
    message.header(IFINFOMSG, (header) => {
      header.writeInt32LE(index, 4);
      writeFlags(header, settings.up);
    });
    if (index === 0) refer(message, link as string);
    const { name, port, ...rest } = settings;
    this.#attributes(message, renames ? { ...rest, name: name as string } : rest);
    const kind = data && linkKinds[data.kind];
    if (port || kind) {
      message.nest(
        IFLA.LINKINFO,
        () => {
          if (kind) {
            message.string(IFLA_INFO.KIND, data.kind);
            message.nest(IFLA_INFO.DATA, () => kind.write(message, data.data as Record<string, unknown>), kind.names);
          }
          if (port) {
            message.string(IFLA_INFO.SLAVE_KIND, 'bridge');
            message.nest(
              IFLA_INFO.SLAVE_DATA,
              () => bridgePort.write(message, port as Record<string, unknown>),
              bridgePort.names,
            );
          }
        },
        IFLA_INFO,
      );
    }
    this.#rtnl.request(message);
  }

  /**
   * Removes a link; a veth goes with its peer. This may take the kernel 20 ms: many go faster by
   * {@link Links.removeGroup}, or with their namespace.
   *
   * @param link - which
   * @throws KernelError `ENODEV` where it is missing, `EOPNOTSUPP` for one that cannot be removed
   */
  remove(link: LinkRef): void {
    const message = new Message(`RTM_DELLINK ${link}`, RTM.DELLINK, 0, IFLA);
    message.header(IFINFOMSG, (header) => header.writeInt32LE(typeof link === 'number' ? link : 0, 4));
    if (typeof link === 'string') refer(message, link);
    this.#rtnl.request(message);
  }

  /**
   * Removes all links of a group, much faster than one by one.
   *
   * @param group - not 0, the group of all others
   * @throws KernelError `ENODEV` where it is empty
   */
  removeGroup(group: number): void {
    const message = new Message(`RTM_DELLINK group ${group}`, RTM.DELLINK, 0, IFLA).header(IFINFOMSG);
    this.#rtnl.request(message.u32(IFLA.GROUP, group));
  }

  /**
   * Describes a link.
   *
   * @param link - which, also by an alternative name
   * @param options - whether counters come with it
   * @returns what the kernel says
   * @throws KernelError `ENODEV` where it is missing
   */
  get(link: LinkRef, options: { stats?: boolean } = {}): Link {
    return this.#rtnl.one(question(link, options), readLink);
  }

  /**
   * The same as {@link Links.get} while the event loop goes on: who changes links meanwhile is waited for.
   *
   * @param link - as there
   * @param options - as there
   * @returns what the kernel says
   * @throws KernelError as there
   */
  getLater(link: LinkRef, options: { stats?: boolean } = {}): Promise<Link> {
    return this.#rtnl.oneLater(question(link, options), readLink);
  }

  /**
   * Lists links.
   *
   * @param filter - which; default all, without counters
   * @returns in the order of their indexes
   */
  list(filter: LinkFilter = {}): Link[] {
    const message = new Message('RTM_GETLINK', RTM.GETLINK, NLM_F.DUMP, IFLA).header(IFINFOMSG);
    if (!filter.stats) message.u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    const master = filter.master === undefined ? undefined : this.index(filter.master);
    if (master !== undefined) message.u32(IFLA.MASTER, master);
    if (filter.kind !== undefined) {
      const { kind } = filter;
      message.nest(IFLA.LINKINFO, () => message.string(IFLA_INFO.KIND, kind), IFLA_INFO);
    }
    const links = this.#dump(message, filter);
    // An old kernel answers in an order of its own, and with all where it does not filter.
    return links
      .filter(
        (link) =>
          (master === undefined || link.master === master) && (filter.kind === undefined || link.kind === filter.kind),
      )
      .sort((a, b) => a.index - b.index);
  }

  /**
   * Where others change links without a pause, on a machine with much to do, no dump ends undisturbed. Links of which the last two attempts
   * saw both are there; those that one of them missed are asked for one by one.
   */
  #dump(message: Message, { stats = false }: LinkFilter): Link[] {
    try {
      return this.#rtnl.dump(message, RTM.NEWLINK, readLink, FEW_ATTEMPTS);
    } catch (error) {
      if (!KernelError.is(error, 'EINTR')) throw error;
      const { partial, before } = error.info as { partial: Link[]; before: Link[] };
      const found = new Map(partial.map((link) => [link.index, link]));
      for (const { index } of before) {
        const link = found.has(index) ? undefined : this.#there(index, stats);
        if (link) found.set(index, link);
      }
      return [...found.values()];
    }
  }

  #there(index: number, stats: boolean): Link | undefined {
    try {
      return this.get(index, { stats });
    } catch (error) {
      if (KernelError.is(error, 'ENODEV')) return undefined;
      throw error;
    }
  }

  /**
   * The counters of a link.
   *
   * @param link - which
   * @returns since it was made
   * @throws KernelError `ENODEV` where it is missing
   */
  stats(link: LinkRef): LinkStats {
    return this.get(link, { stats: true }).stats as LinkStats;
  }

  /**
   * The index of a link.
   *
   * @param link - which
   * @returns it; a number comes back as it is
   * @throws KernelError `ENODEV` where it is missing
   */
  index(link: LinkRef): number {
    return this.#rtnl.linkIndex(link);
  }

  /**
   * Gives a link further names, of up to 127 bytes each.
   *
   * @param link - which
   * @param names - to add
   * @throws KernelError `EEXIST` where one is taken
   */
  addNames(link: LinkRef, ...names: string[]): void {
    this.#names(RTM.NEWLINKPROP, link, names);
  }

  /**
   * Takes further names from a link.
   *
   * @param link - which
   * @param names - to remove
   * @throws KernelError `EINVAL` where it does not have one
   */
  removeNames(link: LinkRef, ...names: string[]): void {
    this.#names(RTM.DELLINKPROP, link, names);
  }

  #names(type: number, link: LinkRef, names: readonly string[]): void {
    const call = `RTM_${type === RTM.NEWLINKPROP ? 'NEW' : 'DEL'}LINKPROP ${link}`;
    const flags = type === RTM.NEWLINKPROP ? NLM_F.CREATE | NLM_F.EXCL | NLM_F.APPEND : 0;
    const message = new Message(call, type, flags, IFLA);
    const index = this.index(link);
    message.header(IFINFOMSG, (header) => header.writeInt32LE(index, 4));
    message.nest(IFLA.PROP_LIST, () => {
      for (const name of names) message.string(IFLA.ALT_IFNAME, alternativeName(name));
    });
    this.#rtnl.request(message);
  }

  #attributes(message: Message, settings: LinkSettings): void {
    writeCommon(message, settings);
    const { master, alias } = settings;
    if (master !== undefined) message.u32(IFLA.MASTER, master === null ? 0 : this.index(master));
    if (alias !== undefined) message.string(IFLA.IFALIAS, alias);
  }
}

function question(link: LinkRef, options: { stats?: boolean }): Message {
  const message = new Message(`RTM_GETLINK ${link}`, RTM.GETLINK, 0, IFLA);
  message.header(IFINFOMSG, (header) => header.writeInt32LE(typeof link === 'number' ? link : 0, 4));
  if (typeof link === 'string') refer(message, link);
  if (!options.stats) message.u32(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return message;
}

function writeFlags(header: Buffer, up: boolean | undefined): void {
  if (up === undefined) return;
  header.writeUInt32LE(up ? IFF.UP : 0, 8);
  header.writeUInt32LE(IFF.UP, 12);
}

/** Names in the request itself save the question for the index. */
function refer(message: Message, name: string): void {
  if (Buffer.byteLength(name) > 15) message.string(IFLA.ALT_IFNAME, alternativeName(name));
  else message.string(IFLA.IFNAME, linkName(name));
}

function writeCommon(message: Message, settings: Partial<NewLink>): void {
  const { name, mtu, mac, group, txQueueLength, netns } = settings;
  if (name !== undefined) message.string(IFLA.IFNAME, linkName(name));
  if (mtu !== undefined) message.u32(IFLA.MTU, mtu);
  if (mac !== undefined) message.raw(IFLA.ADDRESS, macBytes(mac));
  if (group !== undefined) message.u32(IFLA.GROUP, group);
  if (txQueueLength !== undefined) message.u32(IFLA.TXQLEN, txQueueLength);
  if (netns) message.u32(IFLA.NET_NS_FD, netns.fd.number);
}

function writePeer(message: Message, peer: Peer): void {
  message.nest(
    VETH_INFO_PEER,
    () => {
      message.header(IFINFOMSG, (header) => header.writeInt32LE(peer.index ?? 0, 4));
      writeCommon(message, peer);
    },
    IFLA,
  );
}
