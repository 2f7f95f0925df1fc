import { close, write } from 'node:fs';
import { AF, attempt, Fd, KernelError, SO, SOL, syscall } from '@iso/sys';
import { type Exchange, Listing, Outcomes, Verdict } from './exchange.js';
import type { Message } from './message.js';
import { NETLINK_OPTION, NLM_F, SOCKET_TYPE } from './raw.js';
import { datagram, drain, receive } from './receive.js';
import { Replies } from './replies.js';
import { turn } from './turn.js';

/** Where a socket is made: a `NetNS`, or anything else that opens sockets somewhere. */
export interface SocketHome {
  /** As socket(2). */
  socket(domain: number, type: number, protocol?: number): Fd;
  /** The same while the event loop goes on. */
  socketAsync?(domain: number, type: number, protocol?: number): Promise<Fd>;
}

/** How a netlink socket is opened. */
export interface NetlinkSocketOptions {
  /** The network namespace that it speaks to; default this process's. */
  home?: SocketHome;
  /** Bytes of the receive buffer that are asked for; 1 MiB by default. What the kernel grants may be less. */
  receiveBuffer?: number;
}

const EAGAIN = -11;
const EINTR = -4;
const EMSGSIZE = 90;
const ADDRESS_SIZE = 12;
const RECEIVE_BUFFER = 2 ** 20;
const DUMP_ATTEMPTS = 10;
const BATCH_MESSAGES = 128;
const BATCH_BYTES = 64 * 1024;

let receiving = false;
const one = Buffer.from([1, 0, 0, 0]);

/**
 * A netlink socket, in whichever network namespace it was opened. Requests are synchronous: the kernel has its answer ready
 * when the send returns, in microseconds for most. Extended acknowledgements and strict checks are on, so that errors carry the
 * kernel's words and filters are never silently ignored.
 *
 * @example
 * ```ts
 * import { Message, NetlinkSocket } from '@iso/netns/netlink';
 * using socket = NetlinkSocket.open(0);
 * const RTM_GETLINK = 18;
 * const indexes = socket.dump(new Message('RTM_GETLINK', RTM_GETLINK, 0x300).header(16), (reply) =>
 *   reply.bytes.readInt32LE(reply.header(16) + 4),
 * );
 * if (!indexes.includes(1)) throw new Error('no loopback');
 * ```
 */
export class NetlinkSocket implements Disposable {
  /** Its descriptor. */
  readonly fd: Fd;
  /** Its address: unique in its network namespace and protocol. */
  readonly portId: number;
  /** Whether the kernel checks dump requests strictly, so that their filters hold. */
  readonly strict: boolean;
  readonly #open = new Set<Exchange<unknown>>();
  /** A socket has one dump at a time. */
  #dumped: Promise<unknown> = Promise.resolve();
  #sequence = 0;
  #closing = false;
  /** How it is closed once nothing is under way. */
  #release = () => this.fd.close();
  #closed: Promise<void> | undefined;

  private constructor(fd: Fd, portId: number, strict: boolean) {
    this.fd = fd;
    this.portId = portId;
    this.strict = strict;
  }

  /**
   * Opens a socket.
   *
   * @param protocol - NETLINK_ROUTE is 0, NETLINK_NETFILTER 12
   * @param options - where, and how much it buffers
   * @returns the socket
   * @throws KernelError `EPROTONOSUPPORT` where the kernel lacks the protocol, `EMFILE`
   */
  static open(protocol: number, options: NetlinkSocketOptions = {}): NetlinkSocket {
    const fd = options.home
      ? options.home.socket(AF.NETLINK, SOCKET_TYPE, protocol)
      : Fd.own(syscall('socket', AF.NETLINK, SOCKET_TYPE, protocol));
    return NetlinkSocket.over(fd, options);
  }

  /**
   * The same as {@link NetlinkSocket.open} while the event loop goes on, where its home can do that.
   *
   * @param protocol - as there
   * @param options - as there
   * @returns the socket
   * @throws KernelError as there
   */
  static async openAsync(protocol: number, options: NetlinkSocketOptions = {}): Promise<NetlinkSocket> {
    const { home } = options;
    if (!home?.socketAsync) return NetlinkSocket.open(protocol, options);
    return NetlinkSocket.over(await home.socketAsync(AF.NETLINK, SOCKET_TYPE, protocol), options);
  }

  /**
   * Makes a socket that is open already ready for use.
   *
   * @param fd - which; closed with it
   * @param options - how much it buffers
   * @returns the socket
   * @internal
   */
  static over(fd: Fd, options: Pick<NetlinkSocketOptions, 'receiveBuffer'> = {}): NetlinkSocket {
    try {
      const address = Buffer.alloc(ADDRESS_SIZE);
      address.writeUInt16LE(AF.NETLINK, 0);
      syscall('bind', fd, address, ADDRESS_SIZE);
      const length = Buffer.from([ADDRESS_SIZE, 0, 0, 0]);
      syscall('getsockname', fd, address, length);
      const size = Buffer.alloc(4);
      size.writeInt32LE(options.receiveBuffer ?? RECEIVE_BUFFER);
      // Beyond the system's limit with CAP_NET_ADMIN of the first user namespace, up to it without.
      if (attempt('setsockopt', fd, SOL.SOCKET, SO.RCVBUFFORCE, size, 4) < 0)
        attempt('setsockopt', fd, SOL.SOCKET, SO.RCVBUF, size, 4);
      attempt('setsockopt', fd, SOL.NETLINK, NETLINK_OPTION.EXT_ACK, one, 4);
      attempt('setsockopt', fd, SOL.NETLINK, NETLINK_OPTION.CAP_ACK, one, 4);
      const strict = attempt('setsockopt', fd, SOL.NETLINK, NETLINK_OPTION.GET_STRICT_CHK, one, 4) === 0;
      return new NetlinkSocket(fd, address.readUInt32LE(4), strict);
    } catch (error) {
      fd.close();
      throw error;
    }
  }

  /**
   * Sends a request and reads to its acknowledgement.
   *
   * @param message - not a dump
   * @param onReply - told of each message before the acknowledgement; what it reads it must copy
   * @throws KernelError of the kernel's: with `kernelMessage`, `info.attribute`
   * @throws KernelError `EBADMSG` for a reply that is cut or forged, `ENOBUFS`, `EMSGSIZE` where the reply was lost
   */
  request(message: Message, onReply?: (reply: Replies) => void): void {
    const [refusal] = this.#exchange(new Outcomes([message], onReply));
    if (refusal) throw refusal;
  }

  /**
   * The same as {@link NetlinkSocket.request} for what the kernel may take long to answer: a thread of Node's pool sends, and the event loop
   * goes on.
   *
   * @param message - not a dump
   * @param onReply - as there
   * @throws KernelError as there
   */
  async requestLater(message: Message, onReply?: (reply: Replies) => void): Promise<void> {
    const [refusal] = await this.#later(new Outcomes([message], onReply));
    if (refusal) throw refusal;
  }

  /**
   * Sends a dump request and reads all of its parts. A dump that changed while it was read is read again.
   *
   * @param message - with NLM_F_DUMP
   * @param decode - makes of each message a value to keep, or undefined; it must copy what it keeps
   * @param most - attempts, default 10
   * @returns the values, in the kernel's order
   * @throws KernelError `EINTR` where all attempts were interrupted: `info.partial` holds what the last one read, `info.before` the one before
   * @throws KernelError as {@link NetlinkSocket.request}
   */
  dump<T>(message: Message, decode: (reply: Replies) => T | undefined, most: number = DUMP_ATTEMPTS): T[] {
    let values: T[] = [];
    let before: T[] = [];
    for (let attempts = 0; attempts < most; attempts++) {
      const listing = new Listing(message, decode);
      const { length } = datagram();
      try {
        const read = this.#exchange(listing, attempts > 0);
        if (!listing.interrupted) return read;
      } catch (error) {
        // What was cut fits into the buffer that has grown meanwhile.
        if (!KernelError.is(error, 'EMSGSIZE') || datagram().length === length) throw error;
      }
      before = values;
      ({ values } = listing);
    }
    throw new KernelError(EINTR, {
      syscall: 'recvfrom',
      call: message.call,
      hint: `what it lists changed during each of ${most} attempts; info.partial holds the last one`,
      info: { partial: values, before },
    });
  }

  /**
   * The same as {@link NetlinkSocket.dump} for what may be long: a thread of Node's pool asks, and the answer is read in turns of the event
   * loop, one datagram at a time. Several are read one after the other; a {@link NetlinkSocket.dump} meanwhile is `EBUSY`.
   *
   * @param message - with NLM_F_DUMP
   * @param decode - as there
   * @returns the values, in the kernel's order; what changed meanwhile may be missing, or there twice
   * @throws KernelError as {@link NetlinkSocket.request}
   */
  dumpLater<T>(message: Message, decode: (reply: Replies) => T | undefined): Promise<T[]> {
    // Where little matches, the kernel looks at all that there is before it has anything to answer.
    const asked = this.#dumped.then(() => this.#later(new Listing(message, decode), 1));
    this.#dumped = asked.catch(() => {});
    return asked;
  }

  /**
   * Sends many requests with few system calls. They are not a transaction: each has its own outcome.
   *
   * @param messages - none of them a dump
   * @returns for each the kernel's error, or undefined where it was done
   * @throws KernelError `ENOBUFS` where acknowledgements were lost
   */
  batch(messages: readonly Message[]): (KernelError | undefined)[] {
    return portions(messages).flatMap((portion) => this.#exchange(new Outcomes(portion)));
  }

  /**
   * The same as {@link NetlinkSocket.batch} for what takes the kernel long: a thread of Node's pool sends, and the event loop goes on. Other
   * requests may be made by this socket meanwhile.
   *
   * @param messages - none of them a dump
   * @returns for each the kernel's error, or undefined where it was done
   * @throws KernelError `ENOBUFS` where acknowledgements were lost
   */
  async batchLater(messages: readonly Message[]): Promise<(KernelError | undefined)[]> {
    const outcomes: (KernelError | undefined)[] = [];
    for (const portion of portions(messages)) outcomes.push(...(await this.#later(new Outcomes(portion))));
    return outcomes;
  }

  /**
   * Sends a transaction, as nfnetlink has them: of the messages between a begin and an end all are done, or none.
   *
   * @param messages - the first the begin, the last the end
   * @throws KernelError the first refusal, its place in `info.index`
   */
  transaction(messages: readonly Message[]): void {
    this.#exchange(new Verdict(messages));
  }

  /**
   * The same as {@link NetlinkSocket.transaction} while the event loop goes on, as {@link NetlinkSocket.batchLater}.
   *
   * @param messages - the first the begin, the last the end
   * @throws KernelError the first refusal, its place in `info.index`
   */
  transactionLater(messages: readonly Message[]): Promise<void> {
    return this.#later(new Verdict(messages));
  }

  /**
   * Reads one datagram of notifications.
   *
   * @param decode - makes of each message a value, or undefined
   * @returns the values; undefined where nothing waits, `overrun` where the buffer was full and messages are lost
   */
  notifications<T>(decode: (message: Replies) => T | undefined): T[] | 'overrun' | undefined {
    let length: number;
    try {
      length = receive(this.fd);
    } catch (error) {
      if (KernelError.is(error, 'ENOBUFS', 'EMSGSIZE')) return 'overrun';
      throw error;
    }
    if (length === 0) return undefined;
    const values: T[] = [];
    const messages = new Replies(datagram(), Math.max(length, 0));
    while (messages.next()) {
      const value = decode(messages);
      if (value !== undefined) values.push(value);
    }
    return values;
  }

  /** Sends, and reads until it is answered; all of it before any is looked at, where it has to be quick. */
  #exchange<T>(exchange: Exchange<T>, quick = false): T {
    const bytes = this.#prepare(exchange);
    this.#open.add(exchange);
    try {
      const sent = attempt('sendto', this.fd, bytes, bytes.length, 0, null, 0);
      if (sent < 0) throw unsent({ errno: sent }, exchange.messages);
      if (quick) this.#collectWhole(exchange);
      else this.#collect(exchange);
      return exchange.result();
    } finally {
      this.#ended(exchange);
    }
  }

  /** The same while the event loop goes on: `most` datagrams are read in one turn of it, by default all. */
  async #later<T>(exchange: Exchange<T>, most?: number): Promise<T> {
    const bytes = this.#prepare(exchange);
    this.#open.add(exchange);
    try {
      await this.#written(bytes, exchange);
      while (this.#collect(exchange, most)) await new Promise((resolve) => setImmediate(resolve));
      return exchange.result();
    } finally {
      this.#ended(exchange);
    }
  }

  /** To whom nobody was named a netlink socket writes to the kernel, which has answered when that returns. */
  #written(bytes: Buffer, { messages }: Exchange<unknown>): Promise<void> {
    return turn(
      () =>
        new Promise<void>((resolve, reject) => {
          write(this.fd.number, bytes, (error) => (error ? reject(unsent(error, messages)) : resolve()));
        }),
    );
  }

  #ended(exchange: Exchange<unknown>): void {
    this.#open.delete(exchange);
    if (this.#closing && this.#open.size === 0) this.#release();
  }

  /** The bytes of the messages, numbered. */
  #prepare(exchange: Exchange<unknown>): Buffer {
    if (receiving) throw new Error('a netlink request cannot be made from within the decoding of another');
    if (this.#closing) throw new Error('the netlink socket is closed');
    const { messages } = exchange;
    const first = (this.#sequence + 1) >>> 0;
    exchange.first = first;
    const parts = messages.map((message, i) => {
      const { bytes } = message;
      const flags = bytes.readUInt16LE(6) & ~NLM_F.ACK;
      bytes.writeUInt16LE(exchange.acknowledges(i) && !message.dumps ? flags | NLM_F.ACK : flags, 6);
      bytes.writeUInt32LE((first + i) >>> 0, 8);
      bytes.writeUInt32LE(this.portId, 12);
      return bytes;
    });
    this.#sequence = (first + messages.length - 1) >>> 0;
    return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
  }

  /**
   * Reads message by message until it is answered, or until nothing is left. What answers others is theirs.
   *
   * @param exchange - whose answer is wanted
   * @param most - datagrams to be read at the most
   * @returns whether more is to come
   */
  #collect(exchange: Exchange<unknown>, most = Number.POSITIVE_INFINITY): boolean {
    receiving = true;
    try {
      for (let read = 0; !exchange.done; read++) {
        if (read === most) return true;
        const length = receive(this.fd);
        if (length === 0) return false;
        if (length > 0) this.#deliver(exchange, new Replies(datagram(), length));
      }
      return false;
    } catch (error) {
      drain(this.fd);
      throw error;
    } finally {
      receiving = false;
    }
  }

  /** The less time goes by between the parts of a dump, the less changes meanwhile. */
  #collectWhole(exchange: Exchange<unknown>): void {
    receiving = true;
    try {
      const parts: Buffer[] = [];
      for (let length = receive(this.fd); length !== 0; length = receive(this.fd))
        if (length > 0) parts.push(Buffer.from(datagram().subarray(0, length)));
      for (const part of parts) this.#deliver(exchange, new Replies(part));
    } catch (error) {
      drain(this.fd);
      throw error;
    } finally {
      receiving = false;
    }
  }

  #deliver(exchange: Exchange<unknown>, replies: Replies): void {
    while (replies.next()) {
      if (replies.port !== this.portId || exchange.take(replies)) continue;
      for (const other of this.#open) if (other.take(replies)) break;
    }
  }

  /** Closes it; what is under way is done all the same. */
  close(): void {
    this.#closing = true;
    if (this.#open.size === 0) this.#release();
  }

  /**
   * The same as {@link NetlinkSocket.close} while the event loop goes on: a socket of nf_tables waits for the transactions of everybody in its
   * namespace.
   *
   * @returns done when it is closed
   */
  closeLater(): Promise<void> {
    this.#closed ??= new Promise<void>((resolve) => {
      this.#release = () => {
        if (this.fd.closed) return resolve();
        const number = this.fd.release();
        void turn(() => new Promise<void>((closed) => close(number, () => closed()))).then(resolve);
      };
      this.close();
    });
    return this.#closed;
  }

  /** The same as {@link NetlinkSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function unsent({ errno }: { errno?: number | undefined }, messages: readonly Message[]): KernelError {
  const hint = errno === -EMSGSIZE ? 'the requests are larger than the send buffer of the socket' : undefined;
  const { call } = messages[0] as Message;
  return new KernelError(errno ?? -EAGAIN, { syscall: 'sendto', call, ...(hint && { hint }) });
}

/** So many messages at once that their acknowledgements fit the receive buffer. */
function portions(messages: readonly Message[]): Message[][] {
  const all: Message[][] = [];
  for (let from = 0; from < messages.length; ) {
    let to = from;
    for (let bytes = 0; to < messages.length && to - from < BATCH_MESSAGES; to++) {
      bytes += (messages[to] as Message).bytes.length;
      if (bytes > BATCH_BYTES && to > from) break;
    }
    all.push(messages.slice(from, to));
    from = to;
  }
  return all;
}
