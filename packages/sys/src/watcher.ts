import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { POLL } from './raw/flags.js';
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
 * epoll does, in worker threads too.
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

  /**
   * @param fd - a pollable descriptor; it must stay open until {@link FdWatcher.close}
   * @param event - readiness to wait for
   * @param callback - told each time
   * @throws {@link KernelError} `EPERM` for descriptors that cannot be polled: regular files, directories
   */
  constructor(fd: Fd | number, event: Readiness, callback: () => void) {
    let { number } = Fd.borrow(fd);
    let tell = callback;
    if (event === 'priority') {
      // libuv's poll as koffi wraps it knows no POLLPRI; an epoll that waits for nothing else is readable when it comes.
      const priority = Fd.own(syscall('epoll_create1', EPOLL_CLOEXEC));
      this.#priority = priority;
      const interest = Buffer.alloc(16);
      interest.writeUInt32LE(EPOLLET + POLL.PRI);
      const refusal = attempt('epoll_ctl', priority, EPOLL_CTL_ADD, number, interest);
      if (refusal < 0) {
        this.close();
        throw new KernelError(refusal, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${number}, EPOLLPRI)` });
      }
      ({ number } = priority);
      tell = () => {
        attempt('epoll_pwait', priority, interest, 1, 0, null, 0);
        callback();
      };
    }
    try {
      this.#handle = native().poll(number, event === 'writable' ? { writable: true } : { readable: true }, tell);
    } catch (cause) {
      this.close();
      throw new KernelError(1, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${number})`, cause });
    }
  }

  /** Stops it; again does nothing. */
  close(): void {
    this.#handle?.close();
    this.#handle = undefined;
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

const EPOLL_CLOEXEC = 0x80000;
const EPOLL_CTL_ADD = 1;
const EPOLLET = 0x80000000;
