import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import { RTM } from '../route/raw.js';
import type { Requests } from '../route/requests.js';
import { handleNumber, type TcHandle } from './handle.js';
import { type QdiscSettings, writeQdisc } from './qdisc.js';
import { TC_H, TCA } from './raw.js';
import { head, type ListedQdisc, readQdisc, supported } from './tcmsg.js';

/** Where a queueing discipline stands. */
export interface QdiscPlace {
  /** Name or index. */
  link: string | number;
  /** Default `root`; of ingress and clsact it is given. */
  parent?: TcHandle;
  /** Its own, `1:`; default the kernel finds one. */
  handle?: TcHandle;
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
