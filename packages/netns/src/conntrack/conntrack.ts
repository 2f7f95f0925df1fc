import { AF, KernelError } from '@iso/sys';
import { malformed } from '../netlink/error.js';
import { Message } from '../netlink/message.js';
import { NETLINK, NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { NetlinkSocket, type NetlinkSocketOptions } from '../netlink/socket.js';
import { NFGENMSG, NFNL_SUBSYS } from '../nft/raw.js';
import { type FlowFilter, matches, writeFilter } from './filter.js';
import { type Flow, readFlow, writeTuple } from './flow.js';
import { CTA, CTA_STATS_GLOBAL_ENTRIES, IPCTNL_MSG_CT } from './raw.js';

/**
 * Connection tracking of one network namespace: what the kernel remembers of flows, and by which it translates addresses. Needs
 * CAP_NET_ADMIN in the user namespace that owns it.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { Conntrack } from '@iso/netns/conntrack';
 * using lab = NetNS.create();
 * using conntrack = Conntrack.open({ home: lab });
 * if (conntrack.list().length !== 0) throw new Error('flows in an empty namespace');
 * ```
 */
export class Conntrack implements Disposable {
  readonly #socket: NetlinkSocket;
  /** What is to be forgotten by the next look at the kernel's table. */
  readonly #sought: { filter: FlowFilter; judge: (flow: Flow) => boolean }[] = [];
  #next: Promise<void> | undefined;
  #last: Promise<void> = Promise.resolve();

  private constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /**
   * Opens it.
   *
   * @param options - `home` is the network namespace, default this process's
   * @returns the connection
   * @throws KernelError `EPROTONOSUPPORT` where the kernel lacks nfnetlink
   */
  static open(options: NetlinkSocketOptions = {}): Conntrack {
    return new Conntrack(NetlinkSocket.open(NETLINK.NETFILTER, options));
  }

  /**
   * The same as {@link Conntrack.open} while the event loop goes on.
   *
   * @param options - as there
   * @returns the connection
   * @throws KernelError as there
   */
  static async openAsync(options: NetlinkSocketOptions = {}): Promise<Conntrack> {
    return new Conntrack(await NetlinkSocket.openAsync(NETLINK.NETFILTER, options));
  }

  /**
   * How many flows there are. The kernel counts them: it does not look at its table for this.
   *
   * @returns also those of which the first packet is on its way yet
   */
  count(): number {
    let count = 0;
    this.#socket.request(counting(), (reply) => {
      count = readCount(reply);
    });
    return count;
  }

  async #countLater(): Promise<number> {
    let count = 0;
    await this.#socket.requestLater(counting(), (reply) => {
      count = readCount(reply);
    });
    return count;
  }

  /**
   * Lists flows.
   *
   * @param filter - which; default all
   * @returns in no order
   */
  list(filter: FlowFilter = {}): Flow[] {
    // The table that all namespaces share is large, and here nothing is in it.
    if (this.count() === 0) return [];
    return this.#socket.dump(listing(filter), reader(filter));
  }

  /**
   * Forgets a flow: its next packet is looked at as if it were the first.
   *
   * @param flow - as it was listed
   * @returns whether it was still there
   */
  remove(flow: Pick<Flow, 'family' | 'original' | 'id' | 'zone'>): boolean {
    const [outcome] = this.#socket.batch([removal(flow)]);
    if (outcome && !KernelError.is(outcome, 'ENOENT')) throw outcome;
    return !outcome;
  }

  /**
   * Forgets the flows that match.
   *
   * @param filter - which; `{}` is all
   * @returns how many
   */
  removeAll(filter: FlowFilter): number {
    return removed(this.#socket.batch(this.list(filter).map(removal)));
  }

  /**
   * The same as {@link Conntrack.removeAll} while the event loop goes on: a machine may have hundreds of thousands of flows, and to find
   * one of them the kernel looks through a table that all namespaces share, for 15 ms on a large machine. Where the namespace has
   * no flows, it does not look. What is asked for while it does is looked for together the next time.
   *
   * @param filter - which; `{}` is all
   * @param judge - of those, which; default all
   * @returns done when they are forgotten
   */
  removeAllLater(filter: FlowFilter, judge: (flow: Flow) => boolean = () => true): Promise<void> {
    this.#sought.push({ filter, judge: (flow) => matches(flow, filter) && judge(flow) });
    this.#next ??= this.#last.then(() => this.#removeSought());
    return this.#next;
  }

  async #removeSought(): Promise<void> {
    const sought = this.#sought.splice(0);
    this.#last = (this.#next as Promise<void>).catch(() => {});
    this.#next = undefined;
    if ((await this.#countLater()) === 0) return;
    const only = sought.length === 1 ? sought[0]?.filter : undefined;
    const flows = await this.#socket.dumpLater(listing(only ?? {}), (reply) => {
      const flow = readFlow(reply);
      return flow && sought.some(({ judge }) => judge(flow)) ? flow : undefined;
    });
    if (flows.length) removed(await this.#socket.batchLater(flows.map(removal)));
  }

  /**
   * Closes it while the event loop goes on, for the reason of `Nft.closeLater`.
   *
   * @returns done when it is closed
   */
  closeLater(): Promise<void> {
    return this.#socket.closeLater();
  }

  /** Closes it. */
  close(): void {
    this.#socket.close();
  }

  /** The same as {@link Conntrack.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function listing(filter: FlowFilter): Message {
  const message = request(
    'GET',
    filter.family === 4 ? AF.INET : filter.family === 6 ? AF.INET6 : AF.UNSPEC,
    NLM_F.DUMP,
  );
  writeFilter(message, filter);
  return message;
}

function reader(filter: FlowFilter): (reply: Parameters<typeof readFlow>[0]) => Flow | undefined {
  return (reply) => {
    const flow = readFlow(reply);
    return flow && matches(flow, filter) ? flow : undefined;
  };
}

/** How many were there to be forgotten: others may have ended meanwhile. */
function removed(outcomes: readonly (KernelError | undefined)[]): number {
  const failed = outcomes.find((outcome) => outcome && !KernelError.is(outcome, 'ENOENT'));
  if (failed) throw failed;
  return outcomes.filter((outcome) => !outcome).length;
}

function counting(): Message {
  return request('GET_STATS', AF.UNSPEC);
}

function readCount(reply: Replies): number {
  const attributes = reply.attributes(NFGENMSG);
  while (attributes.next()) if (attributes.type === CTA_STATS_GLOBAL_ENTRIES) return attributes.u32be();
  throw malformed('statistics of connection tracking without the number of its flows', reply.start);
}

function request(verb: 'GET' | 'DELETE' | 'GET_STATS', family: number, flags = 0): Message {
  const type = (NFNL_SUBSYS.CTNETLINK << 8) | IPCTNL_MSG_CT[verb];
  return new Message(`IPCTNL_MSG_CT_${verb}`, type, flags, CTA).header(NFGENMSG, (header) => {
    header[0] = family;
  });
}

function removal(flow: Pick<Flow, 'family' | 'original' | 'id' | 'zone'>): Message {
  const message = request('DELETE', flow.family === 4 ? AF.INET : AF.INET6);
  writeTuple(message, flow.original, flow.family);
  if (flow.zone) message.u16be(CTA.ZONE, flow.zone);
  // Not one that took its place.
  return message.u32be(CTA.ID, flow.id);
}
