import { AF } from '@iso/sys';
import { type Family, familyOf, ipBytes, macBytes } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { numberOf, wordOf } from './name.js';
import { NDA, NDMSG, NEIGHBOUR_STATES, NTF, RTM } from './raw.js';
import type { Requests } from './requests.js';

/** A neighbour as it is to be. */
export interface NeighbourOptions {
  /** Name or index of the link on which it is. */
  link: string | number;
  address: string;
  mac?: string;
  /** Default `permanent`. */
  state?: keyof typeof NEIGHBOUR_STATES;
  /** Answers for it on that link, instead of knowing it. */
  proxy?: boolean;
  router?: boolean;
}

/** A neighbour as the kernel describes it. */
export interface Neighbour {
  family: Family;
  link: number;
  address: string;
  mac: string | undefined;
  state: keyof typeof NEIGHBOUR_STATES | number;
  proxy: boolean;
  router: boolean;
}

/** The neighbours of a network namespace, its ARP and NDP tables: `ip neighbour`. */
export class Neighbours {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds a neighbour.
   *
   * @param options - who and where
   * @throws KernelError `EEXIST`, `ENODEV`
   */
  create(options: NeighbourOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.EXCL));
  }

  /**
   * Adds a neighbour, or changes what is known of it.
   *
   * @param options - who and where
   * @throws KernelError `ENODEV`
   */
  replace(options: NeighbourOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.REPLACE));
  }

  /**
   * Forgets a neighbour.
   *
   * @param options - who and where
   * @throws KernelError `ENOENT`
   */
  remove(options: Pick<NeighbourOptions, 'link' | 'address' | 'proxy'>): void {
    this.#rtnl.request(this.#message('DEL', options, 0));
  }

  /**
   * Lists neighbours.
   *
   * @param filter - on which link, of which family, proxies instead
   * @returns in the kernel's order
   */
  list(filter: { link?: string | number; family?: Family; proxy?: boolean } = {}): Neighbour[] {
    const message = new Message('RTM_GETNEIGH', RTM.GETNEIGH, NLM_F.DUMP, NDA);
    message.header(NDMSG, (header) => {
      header[0] = filter.family === 4 ? AF.INET : filter.family === 6 ? AF.INET6 : AF.UNSPEC;
      header[10] = filter.proxy ? NTF.PROXY : 0;
    });
    const index = filter.link === undefined ? undefined : this.#rtnl.linkIndex(filter.link);
    if (index !== undefined) message.u32(NDA.IFINDEX, index);
    const neighbours = this.#rtnl.dump(message, RTM.NEWNEIGH, readNeighbour);
    return index === undefined ? neighbours : neighbours.filter(({ link }) => link === index);
  }

  #message(verb: 'NEW' | 'DEL', options: NeighbourOptions, flags: number): Message {
    const type = verb === 'NEW' ? RTM.NEWNEIGH : RTM.DELNEIGH;
    const message = new Message(`RTM_${verb}NEIGH ${options.address} on ${options.link}`, type, flags, NDA);
    const index = this.#rtnl.linkIndex(options.link);
    message.header(NDMSG, (header) => {
      header[0] = familyOf(options.address) === 4 ? AF.INET : AF.INET6;
      header.writeInt32LE(index, 4);
      header.writeUInt16LE(numberOf(NEIGHBOUR_STATES, options.state ?? 'permanent', 'a state of a neighbour'), 8);
      header[10] = (options.proxy ? NTF.PROXY : 0) | (options.router ? NTF.ROUTER : 0);
    });
    message.raw(NDA.DST, ipBytes(options.address));
    if (options.mac !== undefined) message.raw(NDA.LLADDR, macBytes(options.mac));
    return message;
  }
}

/**
 * Reads RTM_NEWNEIGH of IPv4 and IPv6.
 *
 * @param reply - the message
 * @returns the neighbour; undefined for one of another family
 * @throws KernelError `EBADMSG`
 */
export function readNeighbour(reply: Replies): Neighbour | undefined {
  const { bytes } = reply;
  const at = reply.header(NDMSG);
  const family = bytes[at];
  if (family !== AF.INET && family !== AF.INET6) return undefined;
  const neighbour: Neighbour = {
    family: family === AF.INET ? 4 : 6,
    link: bytes.readInt32LE(at + 4),
    address: '',
    mac: undefined,
    state: wordOf(NEIGHBOUR_STATES, bytes.readUInt16LE(at + 8)),
    proxy: ((bytes[at + 10] as number) & NTF.PROXY) !== 0,
    router: ((bytes[at + 10] as number) & NTF.ROUTER) !== 0,
  };
  const attributes = reply.attributes(NDMSG);
  while (attributes.next()) {
    if (attributes.type === NDA.DST) neighbour.address = attributes.ip();
    else if (attributes.type === NDA.LLADDR && attributes.length > 0) neighbour.mac = attributes.mac();
  }
  return neighbour;
}
