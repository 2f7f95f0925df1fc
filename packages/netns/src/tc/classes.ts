import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import { RTM } from '../route/raw.js';
import type { Requests } from '../route/requests.js';
import { handleNumber, type TcHandle } from './handle.js';
import { type ClassSettings, writeHtbClass } from './qdisc.js';
import type { QdiscPlace } from './qdiscs.js';
import { TCA } from './raw.js';
import { head, type ListedQdisc, readQdisc } from './tcmsg.js';

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
