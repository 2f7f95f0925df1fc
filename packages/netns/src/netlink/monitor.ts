import { type Fd, SOL, syscall, watchFd } from '@iso/sys';
import { NETLINK_OPTION } from './raw.js';
import type { Replies } from './replies.js';
import { NetlinkSocket, type NetlinkSocketOptions } from './socket.js';

/** How notifications are watched. */
export interface MonitorOptions extends NetlinkSocketOptions {
  /** Ends it: the iteration rejects with the signal's reason. */
  signal?: AbortSignal;
}

/**
 * Notifications of the kernel as an async iterable. It listens from its creation on, whether or not somebody iterates yet;
 * what is not fetched waits in the socket's buffer, and where that overflows, one `overrun` stands for what was lost.
 * Breaking out of the loop closes it.
 */
export class Monitor<T> implements AsyncIterableIterator<T>, Disposable {
  readonly #socket: NetlinkSocket;
  readonly #ended = new AbortController();
  readonly #events: AsyncGenerator<T, undefined>;

  /**
   * @param protocol - of the socket
   * @param groups - multicast groups, numbered from 1
   * @param decode - makes of each message an event, or undefined; it must copy what it keeps
   * @param overrun - makes the event for lost messages
   * @param options - where, buffer, signal
   * @throws KernelError `EPERM` for groups that need CAP_NET_ADMIN
   */
  constructor(
    protocol: number,
    groups: readonly number[],
    decode: (message: Replies) => T | undefined,
    overrun: () => T | Iterable<T>,
    options: MonitorOptions = {},
  ) {
    this.#socket = NetlinkSocket.open(protocol, options);
    try {
      for (const group of groups) join(this.#socket.fd, group);
    } catch (error) {
      this.#socket.close();
      throw error;
    }
    this.#events = this.#run(decode, overrun, options.signal);
  }

  async *#run(
    decode: (message: Replies) => T | undefined,
    overrun: () => T | Iterable<T>,
    signal?: AbortSignal,
  ): AsyncGenerator<T, undefined> {
    const ended = signal ? AbortSignal.any([signal, this.#ended.signal]) : this.#ended.signal;
    try {
      for (;;) {
        ended.throwIfAborted();
        const events = this.#socket.notifications(decode);
        if (events === 'overrun') {
          // What still waits is older than what is read now.
          for (let i = 0; i < DRAIN_READS && this.#socket.notifications(() => undefined) !== undefined; i++);
          const lost = overrun();
          if (isIterable(lost)) yield* lost;
          else yield lost;
        } else if (events) yield* events;
        else await watchFd(this.#socket.fd, { signal: ended });
      }
    } catch (error) {
      if (this.#ended.signal.aborted && !signal?.aborted) return undefined;
      throw error;
    } finally {
      this.#socket.close();
    }
  }

  /** The next event; waits for it. */
  next(): Promise<IteratorResult<T, undefined>> {
    return this.#events.next();
  }

  /** Ends it, as leaving a `for await` loop does. */
  return(): Promise<IteratorResult<T, undefined>> {
    this.close();
    return this.#events.return(undefined);
  }

  /** Ends it: an iteration that waits is done. */
  close(): void {
    this.#ended.abort();
    this.#socket.close();
  }

  /** The same as {@link Monitor.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}

const DRAIN_READS = 100_000;

function isIterable<T>(value: T | Iterable<T>): value is Iterable<T> {
  return typeof value === 'object' && value !== null && Symbol.iterator in value;
}

function join(fd: Fd, group: number): void {
  const number = Buffer.alloc(4);
  number.writeUInt32LE(group);
  syscall('setsockopt', fd, SOL.NETLINK, NETLINK_OPTION.ADD_MEMBERSHIP, number, 4);
}
