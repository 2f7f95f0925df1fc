import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { numberOf } from '../route/name.js';
import { RTM } from '../route/raw.js';
import type { Requests } from '../route/requests.js';
import { type FilterSettings, writeFilter } from './filter.js';
import { handleNumber, handleText, type TcHandle } from './handle.js';
import { ETH_P, TCA, TCMSG } from './raw.js';
import { head, supported } from './tcmsg.js';

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

/** The protocol of a filter stands in the network's order. */
function swapped(protocol: number): number {
  return ((protocol & 0xff) << 8) | (protocol >> 8);
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
