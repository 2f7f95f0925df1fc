import { isDeepStrictEqual } from 'node:util';
import { AF, KernelError } from '@iso/sys';
import { type Family, ipBytes, lastOf, parsePrefix } from '../ip/ip.js';
import type { Attributes } from '../netlink/attribute.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { numberOf, wordOf } from './name.js';
import { IFA, IFA_F, IFADDRMSG, RTM, SCOPES } from './raw.js';
import { FEW_ATTEMPTS, type Requests } from './requests.js';

/** A flag of an address, see ip-address(8). */
export type AddressFlag = keyof typeof IFA_F;

/** An address of a link, as it is to be. */
export interface AddressOptions {
  /** Name or index. */
  link: string | number;
  /** With the length of its network: `10.0.0.1/24`. */
  address: string;
  /** The other end of a point-to-point link. */
  peer?: string;
  /** Default is the last of the network, where that has one. */
  broadcast?: string | null;
  scope?: keyof typeof SCOPES | number;
  label?: string;
  /** Metric of the route to its network. */
  metric?: number;
  /** `nodad` lets IPv6 use it at once, without asking the neighbours first. */
  flags?: readonly AddressFlag[];
  /** Seconds for which it is valid, and preferred; default for ever. */
  validFor?: number;
  preferredFor?: number;
}

/** An address of a link, as the kernel describes it. */
export interface Address {
  family: Family;
  /** Index of the link. */
  link: number;
  /** Without the length. */
  address: string;
  /** Bits of its network. */
  prefixLength: number;
  peer: string | undefined;
  broadcast: string | undefined;
  scope: keyof typeof SCOPES | number;
  label: string | undefined;
  flags: AddressFlag[];
  metric: number | undefined;
  /** Seconds left; undefined for ever. */
  validFor: number | undefined;
  preferredFor: number | undefined;
}

const FOREVER = 0xffffffff;

/** The addresses of a network namespace: `ip address`. */
export class Addresses {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds an address to a link.
   *
   * @param options - which, where
   * @throws KernelError `EEXIST` where the link has it, `ENODEV`
   */
  create(options: AddressOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.EXCL));
  }

  /**
   * Adds an address to a link, or changes its flags and times where the link has it.
   *
   * @param options - which, where
   * @throws KernelError `ENODEV`
   */
  replace(options: AddressOptions): void {
    this.#rtnl.request(this.#message('NEW', options, NLM_F.CREATE | NLM_F.REPLACE));
  }

  /**
   * Takes an address from a link. With the first IPv4 address of a network its other ones go, unless
   * `net.ipv4.conf.LINK.promote_secondaries` is set.
   *
   * @param options - which, where
   * @throws KernelError `EADDRNOTAVAIL` where the link does not have it
   */
  remove(options: Pick<AddressOptions, 'link' | 'address' | 'peer'>): void {
    this.#rtnl.request(this.#message('DEL', { ...options, broadcast: null }, 0));
  }

  /**
   * Lists addresses.
   *
   * @param filter - of which link, of which family; default all
   * @returns in the kernel's order
   * @throws KernelError `EINTR` where those of one link change faster than they can be read
   */
  list(filter: { link?: string | number; family?: Family } = {}): Address[] {
    if (filter.link !== undefined) return this.#dump(filter.family, this.#rtnl.linkIndex(filter.link));
    try {
      return this.#dump(filter.family, 0);
    } catch (error) {
      if (!KernelError.is(error, 'EINTR')) throw error;
      return this.#oneByOne(error.info as { partial: Address[]; before: Address[] }, filter.family);
    }
  }

  #dump(family: Family | undefined, link: number): Address[] {
    const message = new Message('RTM_GETADDR', RTM.GETADDR, NLM_F.DUMP, IFA);
    message.header(IFADDRMSG, (header) => {
      header[0] = family === 4 ? AF.INET : family === 6 ? AF.INET6 : AF.UNSPEC;
      header.writeUInt32LE(link, 4);
    });
    const addresses = this.#rtnl.dump(message, RTM.NEWADDR, readAddress, FEW_ATTEMPTS);
    return link === 0 ? addresses : addresses.filter((address) => address.link === link);
  }

  /**
   * Where others change addresses without a pause, no dump of all ends undisturbed. Those of one link come in one piece, in which nothing
   * changes: they are asked for again where the last two attempts differ.
   */
  #oneByOne({ partial, before }: { partial: Address[]; before: Address[] }, family: Family | undefined): Address[] {
    const [now, then] = [byLink(partial), byLink(before)];
    const links = [...new Set([...then.keys(), ...now.keys()])].sort((a, b) => a - b);
    const addresses = links.flatMap((link) => {
      const some = now.get(link);
      return some && isDeepStrictEqual(some, then.get(link)) ? some : this.#ofOne(link, family);
    });
    return addresses.sort((a, b) => a.family - b.family);
  }

  #ofOne(link: number, family: Family | undefined): Address[] {
    try {
      return this.#dump(family, link);
    } catch (error) {
      if (KernelError.is(error, 'ENODEV')) return [];
      throw error;
    }
  }

  #message(verb: 'NEW' | 'DEL', options: AddressOptions, flags: number): Message {
    const { family, address, length } = parsePrefix(options.address);
    const type = verb === 'NEW' ? RTM.NEWADDR : RTM.DELADDR;
    const message = new Message(`RTM_${verb}ADDR ${options.address} on ${options.link}`, type, flags, IFA);
    const index = this.#rtnl.linkIndex(options.link);
    const bits = (options.flags ?? []).reduce((all, flag) => all | numberOf(IFA_F, flag, 'a flag of an address'), 0);
    const scope = options.scope ?? (address.startsWith('127.') ? 'host' : 'global');
    message.header(IFADDRMSG, (header) => {
      header[0] = family === 4 ? AF.INET : AF.INET6;
      header[1] = length;
      header[2] = bits & 0xff;
      header[3] = numberOf(SCOPES, scope, 'a scope');
      header.writeUInt32LE(index, 4);
    });
    const bytes = ipBytes(address);
    message.raw(IFA.LOCAL, bytes);
    message.raw(IFA.ADDRESS, options.peer === undefined ? bytes : ipBytes(options.peer));
    if (family === 4 && length < 31 && !options.peer && options.broadcast === undefined)
      message.raw(IFA.BROADCAST, lastOf(bytes, length));
    else if (options.broadcast) message.raw(IFA.BROADCAST, ipBytes(options.broadcast));
    if (options.label !== undefined) message.string(IFA.LABEL, options.label);
    if (options.metric !== undefined) message.u32(IFA.RT_PRIORITY, options.metric);
    if (bits > 0xff) message.u32(IFA.FLAGS, bits);
    const { validFor, preferredFor } = options;
    if (validFor !== undefined || preferredFor !== undefined) {
      const times = Buffer.alloc(16);
      times.writeUInt32LE(preferredFor ?? validFor ?? FOREVER, 0);
      times.writeUInt32LE(validFor ?? FOREVER, 4);
      message.raw(IFA.CACHEINFO, times);
    }
    return message;
  }
}

function byLink(addresses: readonly Address[]): ReadonlyMap<number, Address[]> {
  const links = new Map<number, Address[]>();
  for (const address of addresses) {
    const some = links.get(address.link);
    if (some) some.push(address);
    else links.set(address.link, [address]);
  }
  return links;
}

/**
 * Reads RTM_NEWADDR.
 *
 * @param reply - the message
 * @returns the address; undefined for one of another family
 * @throws KernelError `EBADMSG`
 */
export function readAddress(reply: Replies): Address | undefined {
  const at = reply.header(IFADDRMSG);
  const family = reply.bytes[at];
  if (family !== AF.INET && family !== AF.INET6) return undefined;
  const address: Address = {
    family: family === AF.INET ? 4 : 6,
    link: reply.bytes.readUInt32LE(at + 4),
    address: '',
    prefixLength: reply.bytes[at + 1] as number,
    peer: undefined,
    broadcast: undefined,
    scope: wordOf(SCOPES, reply.bytes[at + 3] as number),
    label: undefined,
    flags: [],
    metric: undefined,
    validFor: undefined,
    preferredFor: undefined,
  };
  let [local, other] = ['', ''];
  let bits = reply.bytes[at + 2] as number;
  const attributes = reply.attributes(IFADDRMSG);
  while (attributes.next()) {
    if (attributes.type === IFA.LOCAL) local = attributes.ip();
    else if (attributes.type === IFA.ADDRESS) other = attributes.ip();
    else if (attributes.type === IFA.FLAGS) bits = attributes.u32();
    else readMore(address, attributes);
  }
  address.address = local || other;
  if (local && other && local !== other) address.peer = other;
  address.flags = flagNames.filter((name) => bits & IFA_F[name]);
  return address;
}

const flagNames = Object.keys(IFA_F) as AddressFlag[];

function readMore(address: Address, attributes: Attributes): void {
  if (attributes.type === IFA.BROADCAST) address.broadcast = attributes.ip();
  else if (attributes.type === IFA.LABEL) address.label = attributes.string();
  else if (attributes.type === IFA.RT_PRIORITY) address.metric = attributes.u32();
  else if (attributes.type === IFA.CACHEINFO) {
    const times = attributes.fixed(8);
    const [preferred, valid] = [times.readUInt32LE(0), times.readUInt32LE(4)];
    if (preferred !== FOREVER) address.preferredFor = preferred;
    if (valid !== FOREVER) address.validFor = valid;
  }
}
