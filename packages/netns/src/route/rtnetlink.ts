import { attempt, type Fd, KernelError } from '@iso/sys';
import { malformed } from '../netlink/error.js';
import type { Message } from '../netlink/message.js';
import type { Monitor } from '../netlink/monitor.js';
import { NETLINK } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { NetlinkSocket, type NetlinkSocketOptions, type SocketHome } from '../netlink/socket.js';
import { Classes } from '../tc/classes.js';
import { Filters } from '../tc/filters.js';
import { Qdiscs } from '../tc/qdiscs.js';
import { Addresses } from './addresses.js';
import { Fdb } from './fdb.js';
import { Links } from './links.js';
import { linkName } from './name.js';
import { Neighbours } from './neighbours.js';
import { NextHops } from './nexthops.js';
import { IFNAMSIZ, IFREQ, SIOCGIFINDEX } from './raw.js';
import type { Requests } from './requests.js';
import { Routes } from './routes.js';
import { Rules } from './rules.js';
import { type RouteEvent, type WatchTopics, watchRoutes } from './watch.js';

/**
 * rtnetlink in one network namespace: its links, addresses, routes, rules, neighbours. Methods are synchronous, as the kernel's
 * answers are; most take microseconds. See rtnetlink(7).
 *
 * @example
 * ```ts
 * import { Rtnetlink } from '@iso/netns/route';
 * using rtnl = Rtnetlink.open();
 * if (rtnl.links.get('lo').index !== 1) throw new Error('no loopback');
 * ```
 */
export class Rtnetlink implements Requests, Disposable {
  readonly links: Links;
  readonly addresses: Addresses;
  readonly routes: Routes;
  readonly rules: Rules;
  readonly neighbours: Neighbours;
  readonly fdb: Fdb;
  readonly nextHops: NextHops;
  readonly qdiscs: Qdiscs;
  readonly classes: Classes;
  readonly filters: Filters;
  readonly #socket: NetlinkSocket;
  readonly #home: SocketHome | undefined;
  #batch: Message[] | undefined;
  #later: Promise<void> = Promise.resolve();
  #waiting = 0;
  #closed = false;

  private constructor(socket: NetlinkSocket, home: SocketHome | undefined) {
    this.#socket = socket;
    this.#home = home;
    this.links = new Links(this);
    this.addresses = new Addresses(this);
    this.routes = new Routes(this);
    this.rules = new Rules(this);
    this.neighbours = new Neighbours(this);
    this.fdb = new Fdb(this);
    this.nextHops = new NextHops(this);
    this.qdiscs = new Qdiscs(this);
    this.classes = new Classes(this);
    this.filters = new Filters(this);
  }

  /**
   * Opens it.
   *
   * @param options - `home` is the network namespace, default this process's
   * @returns the connection
   * @throws KernelError `EMFILE`
   */
  static open(options: NetlinkSocketOptions = {}): Rtnetlink {
    return new Rtnetlink(NetlinkSocket.open(NETLINK.ROUTE, options), options.home);
  }

  /**
   * The same as {@link Rtnetlink.open} while the event loop goes on.
   *
   * @param options - as there
   * @returns the connection
   * @throws KernelError as there
   */
  static async openAsync(options: NetlinkSocketOptions = {}): Promise<Rtnetlink> {
    return new Rtnetlink(await NetlinkSocket.openAsync(NETLINK.ROUTE, options), options.home);
  }

  /**
   * Speaks by a socket that was made already.
   *
   * @param fd - the socket; closed with it
   * @param home - its network namespace
   * @returns the connection
   * @internal
   */
  static over(fd: Fd, home: SocketHome): Rtnetlink {
    return new Rtnetlink(NetlinkSocket.over(fd), home);
  }

  /**
   * Sends many changes with few system calls: what `build` asks for is collected and sent when it returns. They are not a
   * transaction: where one fails, the others are done all the same. Questions (`get`, `list`, names that have to be looked
   * up) are answered at once, before any of the changes; name links that the batch itself makes by their index.
   *
   * @param build - makes the changes
   * @throws KernelError the first refusal, its place in `info.index`
   */
  batch(build: () => void): void {
    check(this.#socket.batch(this.#collect(build)));
  }

  /**
   * The same as {@link Rtnetlink.batch} while the event loop goes on: a thread of Node's pool waits for the kernel. For what takes that
   * long: removing a link takes up to 20 ms. Several are done one after the other.
   *
   * @param build - makes the changes
   * @returns done when they are
   * @throws KernelError as {@link Rtnetlink.batch}
   *
   * @example
   * ```ts root
   * import { NetNS } from '@iso/netns';
   * using lab = NetNS.create();
   * const { links } = lab.rtnl;
   * links.create({ kind: 'veth', name: 'v0', peer: { name: 'v1' } });
   * await lab.rtnl.later(() => links.remove('v0'));
   * if (links.list().length !== 1) throw new Error('still there');
   * ```
   */
  later(build: () => void): Promise<void> {
    const messages = this.#collect(build);
    const done = this.#later.then(async () => check(await this.#socket.batchLater(messages)));
    this.#waiting += 1;
    this.#later = done
      .catch(() => {})
      .then(() => {
        this.#waiting -= 1;
        if (this.#closed && this.#waiting === 0) this.#socket.close();
      });
    return done;
  }

  #collect(build: () => void): Message[] {
    if (this.#batch) throw new Error('a batch inside of a batch');
    const messages: Message[] = [];
    this.#batch = messages;
    try {
      build();
    } finally {
      this.#batch = undefined;
    }
    return messages;
  }

  /**
   * What changes, as an async iterable. It listens from now on. Where the kernel had to drop events, one `resync` event holds
   * all that there is now, in place of what was lost.
   *
   * @param topics - what to watch; default everything
   * @param options - `signal` ends it; `receiveBuffer` in bytes
   * @returns the events; leaving the loop closes it
   */
  watch(
    topics: WatchTopics = {},
    options: Pick<NetlinkSocketOptions, 'receiveBuffer'> & { signal?: AbortSignal } = {},
  ): Monitor<RouteEvent> {
    return watchRoutes(this, topics, { ...options, ...(this.#home && { home: this.#home }) });
  }

  /** {@inheritDoc Requests.request} */
  request(message: Message): void {
    if (this.#batch) this.#batch.push(message);
    else this.#socket.request(message);
  }

  /** {@inheritDoc Requests.one} */
  one<T>(message: Message, read: (reply: Replies) => T): T {
    let value: T | undefined;
    this.#socket.request(message, (reply) => {
      value = read(reply);
    });
    return answered(message, value);
  }

  /** {@inheritDoc Requests.oneLater} */
  async oneLater<T>(message: Message, read: (reply: Replies) => T): Promise<T> {
    let value: T | undefined;
    await this.#socket.requestLater(message, (reply) => {
      value = read(reply);
    });
    return answered(message, value);
  }

  /** {@inheritDoc Requests.dump} */
  dump<T>(message: Message, type: number, read: (reply: Replies) => T | undefined, most?: number): T[] {
    return this.#socket.dump(message, (reply) => (reply.type === type ? read(reply) : undefined), most);
  }

  /** {@inheritDoc Requests.linkIndex} */
  linkIndex(link: string | number): number {
    if (typeof link === 'number') return link;
    if (Buffer.byteLength(link) > IFNAMSIZ - 1) return this.links.get(link).index;
    // Any socket answers this one, without all else that there is to say of a link.
    const request = Buffer.alloc(IFREQ);
    request.write(linkName(link));
    const refusal = attempt('ioctl', this.#socket.fd, SIOCGIFINDEX, request);
    if (refusal < 0) {
      const hint = 'no such device in this network namespace';
      throw new KernelError(refusal, { syscall: 'ioctl', call: `SIOCGIFINDEX ${link}`, hint });
    }
    return request.readInt32LE(IFNAMSIZ);
  }

  /** Closes it. What {@link Rtnetlink.later} is at is done all the same. */
  close(): void {
    this.#closed = true;
    if (this.#waiting === 0) this.#socket.close();
  }

  /** The same as {@link Rtnetlink.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function answered<T>(message: Message, value: T | undefined): T {
  if (value === undefined) throw malformed(`an acknowledgement of ${message.call} without its answer`, 0);
  return value;
}

function check(outcomes: readonly (KernelError | undefined)[]): void {
  const index = outcomes.findIndex((outcome) => outcome);
  if (index >= 0) throw Object.assign(outcomes[index] as Error, { info: { ...outcomes[index]?.info, index } });
}
