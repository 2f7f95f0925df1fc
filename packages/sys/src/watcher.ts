import { isMainThread } from 'node:worker_threads';
import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { Poller } from './poller.js';
import { EPOLL, F, O, POLL } from './raw/flags.js';
import { layouts } from './raw/layouts.js';
import { native, type PollHandle } from './raw/native.js';
import { attempt, syscall } from './syscall.js';

/**
 * When a watcher calls back. `readable` and `writable` are level-triggered: again and again for as long as it is so.
 * `priority` is POLLPRI, by which the kernel says that something happened: once for each event of a PSI trigger, of a
 * `cgroup.events` file (read it once before, or the first call comes at once), for urgent data of a socket.
 */
export type Readiness = 'readable' | 'writable' | 'priority';

/** What {@link watchFd} waits for. */
export interface WatchOptions {
  /** What to wait for; `readable` is the default. */
  for?: Readiness;
  /** Gives up waiting. */
  signal?: AbortSignal;
}

/**
 * Waits until a descriptor is ready, on the event loop, without a thread. The wait keeps the process alive.
 *
 * @param fd - a pollable descriptor: pidfd, pipe, socket, eventfd, pty
 * @param options - what for; `signal` ends the wait
 * @throws the signal's reason
 */
export function watchFd(fd: Fd | number, options: WatchOptions = {}): Promise<void> {
  return new Promise((resolve, reject) => {
    const { signal } = options;
    if (signal?.aborted) return reject(signal.reason);
    const watcher = new FdWatcher(fd, options.for ?? 'readable', () => {
      done();
      resolve();
    });
    const abort = () => {
      done();
      reject(signal?.reason);
    };
    const done = () => {
      watcher.close();
      signal?.removeEventListener('abort', abort);
    };
    signal?.addEventListener('abort', abort, { once: true });
  });
}

/**
 * Calls back on the event loop each time a descriptor is ready, see {@link Readiness}. No thread waits: libuv's own
 * epoll does. In a worker thread, which may be terminated at any time, one small thread waits for all of its watchers.
 *
 * @example
 * ```ts
 * import { Fd, FdWatcher, syscall } from '@iso/sys';
 * const counter = Fd.own(syscall('eventfd2', 1, 0o4000));
 * await new Promise<void>((resolve) => {
 *   const watcher = new FdWatcher(counter, 'readable', () => {
 *     watcher.close();
 *     resolve();
 *   });
 * });
 * counter.close();
 * ```
 */
export class FdWatcher implements Disposable {
  #handle: PollHandle | undefined;
  #priority: Fd | undefined;
  #copy: Fd | undefined;
  #tell: (() => void) | undefined;
  // koffi keeps what it calls until the whole heap is collected: these know nothing but this object, which forgets.
  readonly #turn = () => this.#tell?.();
  // It calls outside of Node's own turn: promises would not go on, an exception would be lost. The turn that setImmediate
  // opens follows at once, in the same iteration of the loop.
  readonly #soon = () => void setImmediate(this.#turn);
  #number = -1;

  /**
   * @param fd - a pollable descriptor; it must stay open until {@link FdWatcher.close}
   * @param event - readiness to wait for
   * @param callback - told each time
   * @throws {@link KernelError} `EPERM` for descriptors that cannot be polled: regular files, directories; `EBADF`
   */
  constructor(fd: Fd | number, event: Readiness, callback: () => void) {
    const { number } = Fd.borrow(fd);
    judge(number);
    try {
      this.#start(number, event, callback);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #start(watchedFor: number, event: Readiness, callback: () => void): void {
    let number = watchedFor;
    this.#tell = callback;
    if (event === 'priority') {
      // libuv's poll as koffi wraps it knows no POLLPRI; an epoll that waits for nothing else is readable when it comes.
      const priority = Fd.own(syscall('epoll_create1', O.CLOEXEC));
      this.#priority = priority;
      const interest = Buffer.alloc(layouts.epoll_event.size);
      interest.writeUInt32LE(EPOLL.ET + POLL.PRI, layouts.epoll_event.events);
      syscall('epoll_ctl', priority, EPOLL.CTL_ADD, number, interest);
      ({ number } = priority);
      this.#tell = () => {
        attempt('epoll_pwait', priority, interest, 1, 0, null, 0);
        callback();
      };
    }
    // libuv takes a number once only.
    if (watched.has(number)) {
      this.#copy = Fd.own(syscall('fcntl', number, F.DUPFD_CLOEXEC, 0));
      ({ number } = this.#copy);
    }
    const way = event === 'writable' ? 'writable' : 'readable';
    this.#handle = isMainThread
      ? native().poll(number, { [way]: true }, this.#soon)
      : Poller.watch(number, way, this.#turn);
    watched.set(number, this);
    this.#number = number;
    closeAtExit();
  }

  /** Stops it; again does nothing. */
  close(): void {
    if (this.#handle) {
      this.#handle.close();
      watched.delete(this.#number);
    }
    this.#handle = undefined;
    this.#tell = undefined;
    this.#copy?.close();
    this.#copy = undefined;
    this.#priority?.close();
    this.#priority = undefined;
  }

  /** Lets the process end although this still waits. */
  unref(): this {
    this.#handle?.unref?.();
    return this;
  }

  /** Keeps the process alive while this waits (the default). */
  ref(): this {
    this.#handle?.ref?.();
    return this;
  }

  /** The same as {@link FdWatcher.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** By number, in this thread. */
const watched = new Map<number, FdWatcher>();

/** When Node takes its loop down it turns it once more, and ends in a fatal error where a watcher calls back then. */
let closesAtExit = false;

function closeAtExit(): void {
  if (closesAtExit) return;
  closesAtExit = true;
  process.once('exit', () => {
    for (const watcher of [...watched.values()]) watcher.close();
  });
}

/** Asks an epoll of our own first: libuv's binding ends the process where the kernel refuses. */
function judge(number: number): void {
  using trial = Fd.own(syscall('epoll_create1', O.CLOEXEC));
  const refusal = attempt('epoll_ctl', trial, EPOLL.CTL_ADD, number, Buffer.alloc(layouts.epoll_event.size));
  if (refusal < 0) throw new KernelError(refusal, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${number})` });
}
