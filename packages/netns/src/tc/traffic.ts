import { KernelError, UnsupportedError } from '@iso/sys';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { numberOf } from '../route/name.js';
import { RTM } from '../route/raw.js';
import type { Requests } from '../route/requests.js';
import { type FilterSettings, writeFilter } from './filter.js';
import { handleNumber, handleText, type TcHandle } from './handle.js';
import { type ClassSettings, type QdiscSettings, writeHtbClass, writeQdisc } from './qdisc.js';
import { ETH_P, TC_H, TCA, TCA_STATS, TCMSG } from './raw.js';

/** Where a queueing discipline stands. */
export interface QdiscPlace {
  /** Name or index. */
  link: string | number;
  /** Default `root`; of ingress and clsact it is given. */
  parent?: TcHandle;
  /** Its own, `1:`; default the kernel finds one. */
  handle?: TcHandle;
}

/** A queueing discipline or class as the kernel describes it. */
export interface ListedQdisc {
  link: number;
  kind: string;
  handle: TcHandle | undefined;
  parent: TcHandle | undefined;
  bytes: bigint;
  packets: number;
  drops: number;
  overlimits: number;
  /** Bytes that wait. */
  backlog: number;
}

/** Where a filter stands. */
export interface FilterPlace {
  link: string | number;
  /** A handle, or `ingress` or `egress` of a clsact. */
  parent: TcHandle;
  /** Lower ones come first; default the kernel finds one. */
  priority?: number;
  /** Packets that it looks at, default all. */
  protocol?: keyof typeof ETH_P;
}

/** A filter as the kernel describes it. */
export interface ListedFilter {
  link: number;
  kind: string;
  parent: TcHandle | undefined;
  priority: number;
  handle: number;
}

/**
 * Traffic control of a network namespace: `tc`.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * using lab = NetNS.create();
 * lab.rtnl.links.create({ kind: 'veth', name: 'v0', peer: { name: 'v1' } });
 * lab.rtnl.qdiscs.create({ link: 'v0' }, { kind: 'tbf', rate: 10e6, burst: 65536, latency: 50 });
 * if (!lab.rtnl.qdiscs.list({ link: 'v0' }).some(({ kind }) => kind === 'tbf')) throw new Error('not shaped');
 * ```
 */
export class Qdiscs {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Puts a queueing discipline in a place.
   *
   * @param place - where
   * @param settings - kind and settings
   * @throws KernelError `EEXIST`, `ENODEV`
   * @throws UnsupportedError where the kernel has no such kind
   */
  create(place: QdiscPlace, settings: QdiscSettings): void {
    this.#send(
      qdiscMessage(place, settings, NLM_F.CREATE | NLM_F.EXCL, this.#rtnl.linkIndex(place.link)),
      settings.kind,
    );
  }

  /**
   * Puts a queueing discipline in the place of what is there, or changes that where it is of the same kind.
   *
   * @param place - where
   * @param settings - kind and settings
   * @throws KernelError, UnsupportedError as {@link Qdiscs.create}
   */
  replace(place: QdiscPlace, settings: QdiscSettings): void {
    const flags = NLM_F.CREATE | NLM_F.REPLACE;
    this.#send(qdiscMessage(place, settings, flags, this.#rtnl.linkIndex(place.link)), settings.kind);
  }

  /**
   * Removes a queueing discipline: the kernel's default takes its place.
   *
   * @param place - where; the parent of ingress and clsact is `ffff:fff1`
   * @throws KernelError `ENOENT` where none was put
   */
  remove(place: QdiscPlace): void {
    const message = new Message(`RTM_DELQDISC ${place.link}`, RTM.DELQDISC, 0, TCA);
    const index = this.#rtnl.linkIndex(place.link);
    const handle = place.handle === undefined ? 0 : handleNumber(place.handle);
    this.#rtnl.request(head(message, index, handle, handleNumber(place.parent ?? 'root'), 0));
  }

  /**
   * Lists queueing disciplines.
   *
   * @param filter - of which link
   * @returns with their counters
   */
  list(filter: { link?: string | number } = {}): ListedQdisc[] {
    const index = filter.link === undefined ? 0 : this.#rtnl.linkIndex(filter.link);
    const message = head(new Message('RTM_GETQDISC', RTM.GETQDISC, NLM_F.DUMP, TCA), index, 0, 0, 0);
    const all = this.#rtnl.dump(message, RTM.NEWQDISC, readQdisc);
    return index === 0 ? all : all.filter(({ link }) => link === index);
  }

  #send(message: Message, kind: string): void {
    supported(`queueing discipline ${kind}`, () => this.#rtnl.request(message));
  }
}

/** The classes of htb of a network namespace: `tc class`. */
export class Classes {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Makes a class.
   *
   * @param place - link, `parent`, and its own `handle` such as `1:10`
   * @param settings - rates
   * @throws KernelError `EEXIST`, `ENOENT` where the parent is missing
   */
  create(place: QdiscPlace & { parent: TcHandle; handle: TcHandle }, settings: ClassSettings): void {
    this.#rtnl.request(classMessage(place, settings, NLM_F.CREATE | NLM_F.EXCL, this.#rtnl.linkIndex(place.link)));
  }

  /**
   * Changes a class.
   *
   * @param place - as it was made
   * @param settings - rates
   * @throws KernelError `ENOENT`
   */
  set(place: QdiscPlace & { parent: TcHandle; handle: TcHandle }, settings: ClassSettings): void {
    this.#rtnl.request(classMessage(place, settings, 0, this.#rtnl.linkIndex(place.link)));
  }

  /**
   * Removes a class.
   *
   * @param place - link and handle
   * @throws KernelError `ENOENT`, `EBUSY` while a filter leads to it
   */
  remove(place: { link: string | number; handle: TcHandle }): void {
    const message = new Message(`RTM_DELTCLASS ${place.handle}`, RTM.DELTCLASS, 0, TCA);
    this.#rtnl.request(head(message, this.#rtnl.linkIndex(place.link), handleNumber(place.handle), 0, 0));
  }

  /**
   * Lists the classes of a link.
   *
   * @param link - name or index
   * @returns with their counters
   */
  list(link: string | number): ListedQdisc[] {
    const message = new Message('RTM_GETTCLASS', RTM.GETTCLASS, NLM_F.DUMP, TCA);
    return this.#rtnl.dump(head(message, this.#rtnl.linkIndex(link), 0, 0, 0), RTM.NEWTCLASS, readQdisc);
  }
}

/** The filters of a network namespace: `tc filter`. */
export class Filters {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds a filter.
   *
   * @param place - where
   * @param settings - what it takes, what it does
   * @throws KernelError `EINVAL` where the parent is missing
   * @throws UnsupportedError where the kernel has no such kind, or not its action
   */
  create(place: FilterPlace, settings: FilterSettings): void {
    const index = this.#rtnl.linkIndex(place.link);
    const message = filterMessage(place, settings, index, (link) => this.#rtnl.linkIndex(link));
    const action = settings.action ? ` with action ${settings.action.kind}` : '';
    supported(`filter ${settings.kind}${action}`, () => this.#rtnl.request(message));
  }

  /**
   * Removes all filters of a place, or those of one priority.
   *
   * @param place - where
   * @throws KernelError `ENOENT`
   */
  remove(place: FilterPlace): void {
    const message = new Message(`RTM_DELTFILTER ${place.link}`, RTM.DELTFILTER, 0, TCA);
    const priority = place.priority ?? 0;
    const protocol = priority === 0 && place.protocol === undefined ? 0 : ETH_P[place.protocol ?? 'all'];
    const info = priority * 0x10000 + swapped(protocol);
    this.#rtnl.request(head(message, this.#rtnl.linkIndex(place.link), 0, handleNumber(place.parent), info));
  }

  /**
   * Lists the filters of a place.
   *
   * @param place - link and parent
   * @returns in the order in which packets meet them
   */
  list(place: Pick<FilterPlace, 'link' | 'parent'>): ListedFilter[] {
    const message = new Message('RTM_GETTFILTER', RTM.GETTFILTER, NLM_F.DUMP, TCA);
    head(message, this.#rtnl.linkIndex(place.link), 0, handleNumber(place.parent), 0);
    return this.#rtnl.dump(message, RTM.NEWTFILTER, readFilter);
  }
}

/** @internal RTM_NEWQDISC as it is sent. */
export function qdiscMessage(place: QdiscPlace, settings: QdiscSettings, flags: number, index: number): Message {
  const message = new Message(`RTM_NEWQDISC ${settings.kind} on ${place.link}`, RTM.NEWQDISC, flags, TCA);
  const ingress = settings.kind === 'ingress' || settings.kind === 'clsact';
  const parent = ingress ? TC_H.INGRESS : handleNumber(place.parent ?? 'root');
  const handle = ingress ? 0xffff0000 : place.handle === undefined ? 0 : handleNumber(place.handle);
  head(message, index, handle, parent, 0).string(TCA.KIND, settings.kind);
  writeQdisc(message, settings);
  return message;
}

/** @internal RTM_NEWTCLASS as it is sent. */
export function classMessage(
  place: QdiscPlace & { parent: TcHandle; handle: TcHandle },
  settings: ClassSettings,
  flags: number,
  index: number,
): Message {
  const message = new Message(`RTM_NEWTCLASS ${place.handle} on ${place.link}`, RTM.NEWTCLASS, flags, TCA);
  head(message, index, handleNumber(place.handle), handleNumber(place.parent), 0).string(TCA.KIND, 'htb');
  writeHtbClass(message, settings);
  return message;
}

/** @internal RTM_NEWTFILTER as it is sent. */
export function filterMessage(
  place: FilterPlace,
  settings: FilterSettings,
  index: number,
  indexOf: (link: string | number) => number,
): Message {
  const flags = NLM_F.CREATE | NLM_F.EXCL;
  const message = new Message(`RTM_NEWTFILTER ${settings.kind} on ${place.link}`, RTM.NEWTFILTER, flags, TCA);
  const protocol = numberOf(ETH_P, place.protocol ?? 'all', 'a protocol');
  const info = (place.priority ?? 0) * 0x10000 + swapped(protocol);
  head(message, index, 0, handleNumber(place.parent), info).string(TCA.KIND, settings.kind);
  writeFilter(message, settings, indexOf);
  return message;
}

/** `struct tcmsg`. */
function head(message: Message, index: number, handle: number, parent: number, info: number): Message {
  return message.header(TCMSG, (header) => {
    header.writeInt32LE(index, 4);
    header.writeUInt32LE(handle, 8);
    header.writeUInt32LE(parent, 12);
    header.writeUInt32LE(info, 16);
  });
}

/** The protocol of a filter stands in the network's order. */
function swapped(protocol: number): number {
  return ((protocol & 0xff) << 8) | (protocol >> 8);
}

function supported(feature: string, send: () => void): void {
  try {
    send();
  } catch (error) {
    const said = KernelError.is(error, 'ENOENT') ? (error.kernelMessage ?? '') : '';
    if (!/unknown|not found|Failed to load/i.test(said) && !(KernelError.is(error, 'ENOENT') && said === ''))
      throw error;
    throw new UnsupportedError(feature, `the kernel answered ENOENT${said ? `, ${said}` : ''}`, { cause: error });
  }
}

function readQdisc(reply: Replies): ListedQdisc {
  const at = reply.header(TCMSG);
  const qdisc: ListedQdisc = {
    link: reply.bytes.readInt32LE(at + 4),
    kind: '',
    handle: handleText(reply.bytes.readUInt32LE(at + 8)),
    parent: handleText(reply.bytes.readUInt32LE(at + 12)),
    bytes: 0n,
    packets: 0,
    drops: 0,
    overlimits: 0,
    backlog: 0,
  };
  const attributes = reply.attributes(TCMSG);
  while (attributes.next()) {
    if (attributes.type === TCA.KIND) qdisc.kind = attributes.string();
    else if (attributes.type === TCA.STATS2) {
      const stats = attributes.nested();
      while (stats.next()) {
        if (stats.type === TCA_STATS.BASIC) {
          const basic = stats.fixed(12);
          qdisc.bytes = basic.readBigUInt64LE(0);
          qdisc.packets = basic.readUInt32LE(8);
        } else if (stats.type === TCA_STATS.QUEUE) {
          const queue = stats.fixed(20);
          qdisc.backlog = queue.readUInt32LE(4);
          qdisc.drops = queue.readUInt32LE(8);
          qdisc.overlimits = queue.readUInt32LE(16);
        }
      }
    }
  }
  return qdisc;
}

function readFilter(reply: Replies): ListedFilter {
  const at = reply.header(TCMSG);
  const filter: ListedFilter = {
    link: reply.bytes.readInt32LE(at + 4),
    kind: '',
    handle: reply.bytes.readUInt32LE(at + 8),
    parent: handleText(reply.bytes.readUInt32LE(at + 12)),
    priority: reply.bytes.readUInt32LE(at + 16) >>> 16,
  };
  const attributes = reply.attributes(TCMSG);
  while (attributes.next()) if (attributes.type === TCA.KIND) filter.kind = attributes.string();
  return filter;
}
