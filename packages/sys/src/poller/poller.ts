import { AsyncResource } from 'node:async_hooks';
import { POLL } from '../raw/flags.js';
import { LoopEpoll } from './epoll.js';

/**
 * When a watcher calls back: again and again for as long as it is so. `priority` is POLLPRI, by which the kernel says that something
 * happened: to a file such as `cgroup.events`, until that is read by the very descriptor (before the first time, too); at a socket, until
 * its urgent data is received; of a PSI trigger and a `mountinfo`, once.
 */
export type Readiness = 'readable' | 'writable' | 'priority';

/** A descriptor that is watched. */
export interface Watch {
  /** Whether it keeps the process alive. */
  keepAlive(alive: boolean): void;
  /** Stops it; again does nothing. */
  close(): void;
}

interface Entry {
  readonly number: number;
  /** Of poll(2). */
  readonly events: number;
  readonly call: () => void;
  alive: boolean;
}

/** The context of whoever imports this: what serves all of a thread's watchers belongs to none of their contexts. */
const nobody = new AsyncResource('iso:poller');

/** A callback in the context in which it was given, with its AsyncLocalStorage, as Node's own handles have it. */
function inContext(callback: () => void): () => void {
  // Not by its bind(), which takes 100 times as long.
  const context = new AsyncResource('iso:watcher');
  return () => context.runInAsyncScope(callback);
}

/** Readiness of the descriptors that a thread of JavaScript watches. */
export class Poller {
  static #running: Poller | undefined;
  #epoll: LoopEpoll = this.#open();
  readonly #entries = new Map<number, Entry>();
  /** The last one that watches a number. */
  readonly #owners = new Map<number, number>();
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
    if (event === 'priority') return watchApart(number, callback);
    return (Poller.#running ??= nobody.runInAsyncScope(() => new Poller())).#watch(number, event, callback);
  }

  #open(): LoopEpoll {
    return new LoopEpoll(() => this.#tell());
  }

  #watch(number: number, event: 'readable' | 'writable', callback: () => void): Watch {
    const id = this.#nextId();
    const events = event === 'readable' ? POLL.IN : POLL.OUT;
    this.#epoll.add(number, events, id);
    const entry: Entry = { number, events, call: inContext(callback), alive: false };
    this.#entries.set(id, entry);
    this.#owners.set(number, id);
    const keepAlive = (alive: boolean) => {
      if (entry.alive === alive || !this.#entries.has(id)) return;
      entry.alive = alive;
      this.#alive += alive ? 1 : -1;
      this.#epoll.keepAlive(this.#alive > 0);
    };
    keepAlive(true);
    return {
      keepAlive,
      close: () => {
        keepAlive(false);
        if (!this.#entries.delete(id)) return;
        // Where it was closed before its watcher, another file may have the number by now, and a watcher.
        if (this.#owners.get(number) !== id) return;
        this.#owners.delete(number);
        this.#epoll.remove(number);
      },
    };
  }

  #nextId(): number {
    do this.#last = (this.#last + 1) >>> 0;
    while (this.#entries.has(this.#last));
    return this.#last;
  }

  /** One that throws keeps nothing from the others: they are ready still in the next turn. */
  #tell(): void {
    const ids = this.#epoll.ready();
    // Closed meanwhile in this very turn it is no more there; else nobody can take it out: its number is closed, and its file is not.
    const stale = ids.some((id) => !this.#entries.has(id));
    for (const id of ids) this.#entries.get(id)?.call();
    if (stale) this.#renew();
  }

  /** What is left of a descriptor that was closed before its watcher goes with the epoll. */
  #renew(): void {
    const old = this.#epoll;
    this.#epoll = nobody.runInAsyncScope(() => this.#open());
    for (const [id, { number, events }] of this.#entries) {
      try {
        this.#epoll.add(number, events, id);
      } catch {
        // Closed before its watcher, too.
      }
    }
    this.#epoll.keepAlive(this.#alive > 0);
    old.close();
  }
}

/**
 * Watches in an epoll of its own. To look whether a PSI trigger has fired takes that away, and who waits for an epoll in an epoll
 * looks twice: here Node's look is the only one.
 */
function watchApart(number: number, callback: () => void): Watch {
  const epoll = new LoopEpoll(inContext(callback));
  try {
    epoll.add(number, POLL.PRI);
  } catch (error) {
    epoll.close();
    throw error;
  }
  epoll.keepAlive(true);
  return { keepAlive: (alive) => epoll.keepAlive(alive), close: () => epoll.close() };
}
