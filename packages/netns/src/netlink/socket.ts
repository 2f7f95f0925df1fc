import { attempt, Fd, KernelError, syscall } from '@iso/sys';
import { type Refusal, refused } from './error.js';
import type { Message } from './message.js';
import { AF, NETLINK_OPTION, NLM_F, NLMSG, SO, SOCK, SOL } from './raw.js';
import { datagram, drain, receive } from './receive.js';
import { Replies } from './replies.js';

/** Where a socket is made: a `NetNS`, or anything else that opens sockets somewhere. */
export interface SocketHome {
  /** As socket(2). */
  socket(domain: number, type: number, protocol?: number): Fd;
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
/** Messages of one send: their acknowledgements must fit the receive buffer. */
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
  #sequence = 0;

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
    const type = SOCK.RAW | SOCK.CLOEXEC | SOCK.NONBLOCK;
    const fd = options.home
      ? options.home.socket(AF.NETLINK, type, protocol)
      : Fd.own(syscall('socket', AF.NETLINK, type, protocol));
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
    const [refusal] = this.#exchange([message], onReply);
    if (refusal) throw refusal;
  }

  /**
   * Sends a dump request and reads all of its parts. A dump that changed while it was read is read again.
   *
   * @param message - with NLM_F_DUMP
   * @param decode - makes of each message a value to keep, or undefined; it must copy what it keeps
   * @returns the values, in the kernel's order
   * @throws KernelError `EINTR` where ten attempts were interrupted: `info.partial` holds what the last one read
   * @throws KernelError as {@link NetlinkSocket.request}
   */
  dump<T>(message: Message, decode: (reply: Replies) => T | undefined): T[] {
    let values: T[] = [];
    for (let attempts = 0; attempts < DUMP_ATTEMPTS; attempts++) {
      values = [];
      let interrupted = false;
      const { length } = datagram();
      try {
        const [refusal] = this.#exchange([message], (reply) => {
          interrupted ||= reply.interrupted;
          if (reply.type === NLMSG.DONE) return;
          const value = decode(reply);
          if (value !== undefined) values.push(value);
        });
        if (refusal) throw refusal;
        if (!interrupted) return values;
      } catch (error) {
        // What was cut fits into the buffer that has grown meanwhile.
        if (!KernelError.is(error, 'EMSGSIZE') || datagram().length === length) throw error;
      }
    }
    throw new KernelError(EINTR, {
      syscall: 'recvfrom',
      call: message.call,
      hint: `what it lists changed during each of ${DUMP_ATTEMPTS} attempts; info.partial holds the last one`,
      info: { partial: values },
    });
  }

  /**
   * Sends many requests with few system calls. They are not a transaction: each has its own outcome.
   *
   * @param messages - none of them a dump
   * @returns for each the kernel's error, or undefined where it was done
   * @throws KernelError `ENOBUFS` where acknowledgements were lost
   */
  batch(messages: readonly Message[]): (KernelError | undefined)[] {
    const outcomes: (KernelError | undefined)[] = [];
    for (let from = 0; from < messages.length; ) {
      let to = from;
      for (let bytes = 0; to < messages.length && to - from < BATCH_MESSAGES; to++) {
        bytes += (messages[to] as Message).bytes.length;
        if (bytes > BATCH_BYTES && to > from) break;
      }
      outcomes.push(...this.#exchange(messages.slice(from, to)));
      from = to;
    }
    return outcomes;
  }

  /**
   * Sends a transaction, as nfnetlink has them: of the messages between a begin and an end all are done, or none.
   *
   * @param messages - the first the begin, the last the end
   * @throws KernelError the first refusal, its place in `info.index`
   */
  transaction(messages: readonly Message[]): void {
    // Errors come for every message, the acknowledgement of the last one is asked for: so many fit the buffer.
    const last = messages.length - 2;
    const first = this.#send(messages, (i) => i === last);
    const outcomes = new Map<number, Refusal>();
    this.#collect((reply) => {
      const index = (reply.sequence - first) >>> 0;
      if (reply.type !== NLMSG.ERROR || index >= messages.length) return false;
      const refusal = reply.refusal();
      if (refusal.errno !== 0 || !outcomes.has(index)) outcomes.set(index, refusal);
      return false;
    });
    const failed = [...outcomes].sort(([a], [b]) => a - b).find(([, { errno }]) => errno !== 0);
    if (failed) throw refused(messages[failed[0]] as Message, failed[1], { index: failed[0] - 1 });
    if (!outcomes.has(last)) throw unanswered(messages[last] as Message);
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

  /** Sends, and reads until each message has its outcome. */
  #exchange(messages: readonly Message[], onReply?: (reply: Replies) => void): (KernelError | undefined)[] {
    const first = this.#send(messages, () => true);
    const outcomes: (KernelError | undefined)[] = Array(messages.length).fill(undefined);
    const answered = new Uint8Array(messages.length);
    let pending = messages.length;
    this.#collect((reply) => {
      const index = (reply.sequence - first) >>> 0;
      if (index >= messages.length || answered[index]) return false;
      const message = messages[index] as Message;
      const done = reply.type === NLMSG.DONE;
      if (done) onReply?.(reply);
      if (reply.type === NLMSG.ERROR || done) {
        const refusal = reply.refusal();
        if (refusal.errno !== 0) outcomes[index] = refused(message, refusal);
        answered[index] = 1;
        pending -= 1;
      } else if (reply.type > NLMSG.OVERRUN) onReply?.(reply);
      return pending === 0;
    });
    if (pending > 0) throw unanswered(messages[answered.indexOf(0)] as Message);
    return outcomes;
  }

  #send(messages: readonly Message[], acknowledge: (index: number) => boolean): number {
    if (receiving) throw new Error('a netlink request cannot be made from within the decoding of another');
    const first = (this.#sequence + 1) >>> 0;
    const parts = messages.map((message, i) => {
      const { bytes } = message;
      const flags = bytes.readUInt16LE(6) & ~NLM_F.ACK;
      bytes.writeUInt16LE(acknowledge(i) && !message.dumps ? flags | NLM_F.ACK : flags, 6);
      bytes.writeUInt32LE((first + i) >>> 0, 8);
      bytes.writeUInt32LE(this.portId, 12);
      return bytes;
    });
    this.#sequence = (first + messages.length - 1) >>> 0;
    const whole = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
    const sent = attempt('sendto', this.fd, whole, whole.length, 0, null, 0);
    if (sent < 0) {
      const hint = sent === -EMSGSIZE ? 'the requests are larger than the send buffer of the socket' : undefined;
      throw new KernelError(sent, { syscall: 'sendto', call: (messages[0] as Message).call, ...(hint && { hint }) });
    }
    return first;
  }

  /** Reads message by message until told that it is enough, or until nothing is left. */
  #collect(visit: (reply: Replies) => boolean): void {
    receiving = true;
    let enough = false;
    try {
      while (!enough) {
        const length = receive(this.fd);
        if (length === 0) return;
        if (length < 0) continue;
        const replies = new Replies(datagram(), length);
        while (!enough && replies.next()) if (replies.port === this.portId) enough = visit(replies);
      }
    } catch (error) {
      drain(this.fd);
      throw error;
    } finally {
      receiving = false;
    }
  }

  /** Closes it. */
  close(): void {
    this.fd.close();
  }

  /** The same as {@link NetlinkSocket.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function unanswered(message: Message): KernelError {
  return new KernelError(EAGAIN, { syscall: 'recvfrom', call: message.call, hint: 'the kernel left it unanswered' });
}
