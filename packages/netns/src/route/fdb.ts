import { AF } from '@iso/sys';
import { ipBytes, macBytes } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { NDA, NDMSG, NEIGHBOUR_STATES, NTF, RTM } from './raw.js';
import type { Requests } from './requests.js';

/** An entry of a bridge's forwarding table, or a vxlan's, as it is to be. */
export interface FdbOptions {
  /** Name or index: of the port, or of the vxlan. */
  link: string | number;
  mac: string;
  /** Remote end, of a vxlan's entry. */
  dst?: string;
  /** In the table of the bridge that the link is a port of (`master`, default), or of the link itself. */
  table?: 'master' | 'self';
  /** A `local` entry means the bridge itself, the default is `static`. */
  kind?: 'static' | 'local' | 'dynamic';
  vlan?: number;
  /** Further ones of a vxlan beside the first. */
  append?: boolean;
}

/** An entry of a forwarding table as the kernel describes it. */
export interface FdbEntry {
  link: number;
  mac: string;
  dst: string | undefined;
  /** Index of the bridge. */
  master: number | undefined;
  vlan: number | undefined;
  table: 'master' | 'self';
  kind: 'static' | 'local' | 'dynamic';
}

/** The forwarding tables of a network namespace's bridges and vxlans: `bridge fdb`. */
export class Fdb {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds an entry.
   *
   * @param options - which
   * @throws KernelError `EEXIST`, `EOPNOTSUPP` where the link has no such table
   */
  create(options: FdbOptions): void {
    const flags = options.append ? NLM_F.CREATE | NLM_F.APPEND : NLM_F.CREATE | NLM_F.EXCL;
    this.#rtnl.request(this.#message('NEW', options, flags));
  }

  /**
   * Removes an entry.
   *
   * @param options - which
   * @throws KernelError `ENOENT`
   */
  remove(options: FdbOptions): void {
    this.#rtnl.request(this.#message('DEL', options, 0));
  }

  /**
   * Lists entries.
   *
   * @param filter - of the ports of which bridge; of which link
   * @returns in the kernel's order
   */
  list(filter: { bridge?: string | number; link?: string | number } = {}): FdbEntry[] {
    const message = new Message('RTM_GETNEIGH', RTM.GETNEIGH, NLM_F.DUMP, NDA);
    message.header(NDMSG, (header) => {
      header[0] = AF.BRIDGE;
    });
    const bridge = filter.bridge === undefined ? undefined : this.#rtnl.linkIndex(filter.bridge);
    const index = filter.link === undefined ? undefined : this.#rtnl.linkIndex(filter.link);
    if (bridge !== undefined) message.u32(NDA.MASTER, bridge);
    return this.#rtnl
      .dump(message, RTM.NEWNEIGH, readFdbEntry)
      .filter(
        (entry) =>
          (bridge === undefined || entry.master === bridge || entry.link === bridge) &&
          (index === undefined || entry.link === index),
      );
  }

  #message(verb: 'NEW' | 'DEL', options: FdbOptions, flags: number): Message {
    const type = verb === 'NEW' ? RTM.NEWNEIGH : RTM.DELNEIGH;
    const message = new Message(`RTM_${verb}NEIGH ${options.mac} on ${options.link}`, type, flags, NDA);
    const index = this.#rtnl.linkIndex(options.link);
    const state = {
      // A vxlan's table wants reachable ones, a bridge's looks at noarp.
      static: NEIGHBOUR_STATES.noarp | NEIGHBOUR_STATES.reachable,
      local: NEIGHBOUR_STATES.permanent,
      dynamic: NEIGHBOUR_STATES.reachable,
    };
    message.header(NDMSG, (header) => {
      header[0] = AF.BRIDGE;
      header.writeInt32LE(index, 4);
      header.writeUInt16LE(state[options.kind ?? 'static'], 8);
      header[10] = options.table === 'self' ? NTF.SELF : NTF.MASTER;
    });
    message.raw(NDA.LLADDR, macBytes(options.mac));
    if (options.dst !== undefined) message.raw(NDA.DST, ipBytes(options.dst));
    if (options.vlan !== undefined) message.u16(NDA.VLAN, options.vlan);
    return message;
  }
}

function readFdbEntry(reply: Replies): FdbEntry | undefined {
  const { bytes } = reply;
  const at = reply.header(NDMSG);
  if (bytes[at] !== AF.BRIDGE) return undefined;
  const state = bytes.readUInt16LE(at + 8);
  const entry: FdbEntry = {
    link: bytes.readInt32LE(at + 4),
    mac: '',
    dst: undefined,
    master: undefined,
    vlan: undefined,
    table: (bytes[at + 10] as number) & NTF.SELF ? 'self' : 'master',
    kind: state & NEIGHBOUR_STATES.permanent ? 'local' : state & NEIGHBOUR_STATES.noarp ? 'static' : 'dynamic',
  };
  const attributes = reply.attributes(NDMSG);
  while (attributes.next()) {
    if (attributes.type === NDA.LLADDR) entry.mac = attributes.mac();
    else if (attributes.type === NDA.DST) entry.dst = attributes.ip();
    else if (attributes.type === NDA.MASTER) entry.master = attributes.u32();
    else if (attributes.type === NDA.VLAN) entry.vlan = attributes.u16();
  }
  return entry;
}
