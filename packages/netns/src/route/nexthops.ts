import { AF } from '@iso/sys';
import { type Family, familyOf, ipBytes } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { NHA, NHMSG, RTM, RTNH_F } from './raw.js';
import type { Requests } from './requests.js';

/** A next hop as an object of its own, which many routes share: `ip nexthop`. */
export interface NextHopOptions {
  /** 1 and up. */
  id: number;
  gateway?: string;
  /** Name or index. */
  link?: string | number;
  onlink?: boolean;
  /** Drops what comes. */
  blackhole?: boolean;
  /** Shares traffic among other next hops; weights are 1 to 256. */
  group?: readonly { id: number; weight?: number }[];
  family?: Family;
}

/** A next hop as the kernel describes it. */
export interface NextHopObject {
  id: number;
  gateway: string | undefined;
  link: number | undefined;
  onlink: boolean;
  blackhole: boolean;
  group: { id: number; weight: number }[] | undefined;
}

/** The next hop objects of a network namespace, since Linux 5.3. */
export class NextHops {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Makes a next hop.
   *
   * @param options - where it leads
   * @throws KernelError `EEXIST`, `EINVAL` with the kernel's words
   */
  create(options: NextHopOptions): void {
    this.#rtnl.request(this.#message(options, NLM_F.CREATE | NLM_F.EXCL));
  }

  /**
   * Makes a next hop, or changes it for all routes that use it.
   *
   * @param options - where it leads
   * @throws KernelError as {@link NextHops.create}
   */
  replace(options: NextHopOptions): void {
    this.#rtnl.request(this.#message(options, NLM_F.CREATE | NLM_F.REPLACE));
  }

  /**
   * Removes a next hop, and the routes that use it.
   *
   * @param id - which
   * @throws KernelError `ENOENT`
   */
  remove(id: number): void {
    this.#rtnl.request(new Message(`RTM_DELNEXTHOP ${id}`, RTM.DELNEXTHOP, 0, NHA).header(NHMSG).u32(NHA.ID, id));
  }

  /**
   * Lists next hops.
   *
   * @returns by their number
   */
  list(): NextHopObject[] {
    const message = new Message('RTM_GETNEXTHOP', RTM.GETNEXTHOP, NLM_F.DUMP, NHA).header(NHMSG);
    return this.#rtnl.dump(message, RTM.NEWNEXTHOP, readNextHop);
  }

  #message(options: NextHopOptions, flags: number): Message {
    const { id, gateway, group } = options;
    const message = new Message(`RTM_NEWNEXTHOP ${id}`, RTM.NEWNEXTHOP, flags, NHA);
    const family = options.family ?? (gateway === undefined ? 4 : familyOf(gateway));
    message.header(NHMSG, (header) => {
      header[0] = group ? AF.UNSPEC : family === 4 ? AF.INET : AF.INET6;
      header.writeUInt32LE(options.onlink ? RTNH_F.onlink : 0, 4);
    });
    message.u32(NHA.ID, id);
    if (gateway !== undefined) message.raw(NHA.GATEWAY, ipBytes(gateway));
    if (options.link !== undefined) message.u32(NHA.OIF, this.#rtnl.linkIndex(options.link));
    if (options.blackhole) message.flag(NHA.BLACKHOLE);
    if (group) {
      const members = Buffer.alloc(8 * group.length);
      for (const [i, member] of group.entries()) {
        members.writeUInt32LE(member.id, 8 * i);
        members.writeUInt8((member.weight ?? 1) - 1, 8 * i + 4);
      }
      message.raw(NHA.GROUP, members);
    }
    return message;
  }
}

function readNextHop(reply: Replies): NextHopObject {
  const at = reply.header(NHMSG);
  const hop: NextHopObject = {
    id: 0,
    gateway: undefined,
    link: undefined,
    onlink: (reply.bytes.readUInt32LE(at + 4) & RTNH_F.onlink) !== 0,
    blackhole: false,
    group: undefined,
  };
  const attributes = reply.attributes(NHMSG);
  while (attributes.next()) {
    if (attributes.type === NHA.ID) hop.id = attributes.u32();
    else if (attributes.type === NHA.GATEWAY) hop.gateway = attributes.ip();
    else if (attributes.type === NHA.OIF) hop.link = attributes.u32();
    else if (attributes.type === NHA.BLACKHOLE) hop.blackhole = true;
    else if (attributes.type === NHA.GROUP) {
      const members = attributes.bytes();
      hop.group = Array.from({ length: members.length >> 3 }, (_, i) => ({
        id: members.readUInt32LE(8 * i),
        weight: (members[8 * i + 4] as number) + 1,
      }));
    }
  }
  return hop;
}
