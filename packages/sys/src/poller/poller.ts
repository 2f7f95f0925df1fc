import { type OnReadOpts, Socket, type SocketConstructorOpts } from 'node:net';
import { isMainThread } from 'node:worker_threads';
import { Fd } from '../fd.js';
import { EPOLL, O, POLL } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { addTo, call, check, interestIn } from './call.js';
import { LoopWaiter } from './loop.js';
import { waitInThread } from './thread.js';

/**
 * When a watcher calls back. `readable` and `writable` are level-triggered: again and again for as long as it is so.
 * `priority` is POLLPRI, by which the kernel says that something happened: once for each event of a PSI trigger, of a
 * `cgroup.events` file (read it once before, or the first call comes at once), for urgent data of a socket.
 */
export type Readiness = 'readable' | 'writable' | 'priority';

/** Who writes to the pipe what the epoll tells, an event at a time. */
export interface Waiter {
  /** Watches for priority events; absent where the epoll does. Returns what stops it. */
  priority?(number: number, event: Uint8Array): () => void;
  /** Gives up what it has, when the pipe has closed; absent where it stays with the process. */
  release?(): void;
}

/** A descriptor that is watched. */
export interface Watch {
  /** Whether it keeps the process alive. */
  keepAlive(alive: boolean): void;
  /** Stops it; again does nothing. */
  close(): void;
}

interface Entry {
  readonly callback: () => void;
  /** Asks for more, where that is necessary. */
  readonly again: (() => void) | undefined;
  alive: boolean;
}

/** Each is told once: what lasts is asked for again when it was told. */
const interests: Readonly<Record<Readiness, number>> = {
  readable: POLL.IN + EPOLL.ONESHOT,
  writable: POLL.OUT + EPOLL.ONESHOT,
  priority: POLL.PRI + EPOLL.ET,
};

/** Events that are read at a time. */
const AT_ONCE = 64;

/**
 * Readiness of all descriptors that a thread of JavaScript watches: one epoll, and a pipe that Node itself reads, with what the epoll
 * tells. So all callbacks are made in Node's own turn and by Node's own machinery, and cost no system call from JavaScript.
 *
 * Who writes to the pipe: on the main thread libuv itself, which calls machine code ({@link LoopWaiter}). Whoever ends a worker
 * gives it no time to take its own handles off libuv's loop, and Node ends the whole process over one that is left there: there it is
 * a thread that only walks a table of system calls ({@link waitInThread}).
 *
 * It asks the kernel itself, also while a test's kernel records: it is a part of the event loop.
 */
export class Poller {
  static #running: Poller | undefined;
  readonly #epoll: number;
  readonly #pipe: Socket;
  readonly #ends: readonly number[];
  readonly #waiter: Waiter;
  readonly #entries = new Map<number, Entry>();
  #alive = 0;
  #last = 0;

  /**
   * Watches a descriptor.
   *
   * @param number - that is not watched yet
   * @param event - what for
   * @param callback - told in a turn of Node's own
   * @throws {@link KernelError} of epoll_ctl: `EPERM` for what cannot be polled, `EBADF`, `EEXIST` for what is watched
   */
  static watch(number: number, event: Readiness, callback: () => void): Watch {
    const poller = (Poller.#running ??= new Poller());
    try {
      return poller.#watch(number, event, callback);
    } catch (error) {
      poller.#endIfIdle();
      throw error;
    }
  }

  /** The pipe's ends, which stay open for the next watcher. */
  static get descriptors(): readonly number[] {
    return Poller.#running ? Poller.#running.#ends : [];
  }

  private constructor() {
    const ends = Buffer.alloc(8);
    check('pipe2', ends, O.CLOEXEC);
    const near = ends.readInt32LE(0);
    const far = Fd.own(ends.readInt32LE(4));
    this.#ends = [near, far.number];
    const buffer = Buffer.alloc(AT_ONCE * layouts.epoll_event.size);
    const onread = { buffer, callback: (length: number) => this.#tell(buffer.subarray(0, length)) };
    // Node's types know it of connections only.
    const options: SocketConstructorOpts & { onread: OnReadOpts } = {
      fd: near,
      readable: true,
      writable: false,
      onread,
    };
    this.#pipe = new Socket(options);
    try {
      using epoll = Fd.own(check('epoll_create1', O.CLOEXEC));
      this.#waiter = (isMainThread && LoopWaiter.start(epoll, far)) || waitInThread(epoll, far);
      this.#epoll = epoll.release();
      far.release();
    } catch (error) {
      far.close();
      this.#pipe.destroy();
      throw error;
    }
    this.#pipe.unref();
  }

  #watch(number: number, event: Readiness, callback: () => void): Watch {
    const id = this.#nextId();
    const interest = interestIn(interests[event], id);
    const control = (operation: number) => void call('epoll_ctl', this.#epoll, operation, number, interest);
    const apart = event === 'priority' ? this.#waiter.priority?.(number, interest) : undefined;
    if (!apart) addTo(this.#epoll, number, interest);
    const again = event === 'priority' ? undefined : () => control(EPOLL.CTL_MOD);
    const entry: Entry = { callback, alive: false, again };
    this.#entries.set(id, entry);
    const keepAlive = (alive: boolean) => {
      if (entry.alive === alive || !this.#entries.has(id)) return;
      entry.alive = alive;
      this.#alive += alive ? 1 : -1;
      if (this.#alive === 0) this.#pipe.unref();
      else if (alive && this.#alive === 1) this.#pipe.ref();
    };
    keepAlive(true);
    return {
      keepAlive,
      close: () => {
        keepAlive(false);
        if (!this.#entries.delete(id)) return;
        if (apart) apart();
        else control(EPOLL.CTL_DEL);
        // What closes one watcher often opens the next.
        if (this.#waiter.release) setImmediate(() => this.#endIfIdle());
      },
    };
  }

  /** 0 is the pipe's own. */
  #nextId(): number {
    do this.#last = (this.#last + 1) >>> 0 || 1;
    while (this.#entries.has(this.#last));
    return this.#last;
  }

  /** Calls back for each event that was read. */
  #tell(events: Buffer): true {
    const { size, data } = layouts.epoll_event;
    for (let at = 0; at < events.length; at += size) {
      const id = events.readUInt32LE(at + data);
      const entry = this.#entries.get(id);
      if (!entry) continue;
      let returned = false;
      try {
        entry.callback();
        returned = true;
      } finally {
        if (this.#entries.get(id) === entry) entry.again?.();
        if (!returned && at + size < events.length) {
          // The kernel does not tell of the others again, and the next events are read into the same bytes.
          const rest = Buffer.from(events.subarray(at + size));
          setImmediate(() => this.#tell(rest));
        }
      }
    }
    return true;
  }

  #endIfIdle(): void {
    if (!this.#waiter.release || this.#entries.size > 0 || Poller.#running !== this) return;
    Poller.#running = undefined;
    this.#pipe.destroy();
    this.#waiter.release();
  }
}
