import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { invalid } from './kernel.js';
import { Poller, type Readiness, type Watch } from './poller/poller.js';
import { F } from './raw/flags.js';
import { syscall } from './syscall.js';

export type { Readiness };

const readiness: Readonly<Record<Readiness, true>> = { readable: true, writable: true, priority: true };

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
 * Calls back on the event loop each time a descriptor is ready, see {@link Readiness}. No thread waits: libuv does, for one epoll
 * with all of them, in workers too. That epoll stays open for the next watcher; each for `priority` has one of its own.
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
  #watch: Watch | undefined;
  #copy: Fd | undefined;

  /**
   * @param fd - a pollable descriptor; it must stay open until {@link FdWatcher.close}
   * @param event - readiness to wait for
   * @param callback - told each time
   * @throws {@link KernelError} `EPERM` for descriptors that cannot be polled: regular files, directories; `EBADF`
   */
  constructor(fd: Fd | number, event: Readiness, callback: () => void) {
    if (!Object.hasOwn(readiness, event))
      throw invalid(`a watcher waits for ${Object.keys(readiness).join(', ')}, not ${String(event)}`);
    if (typeof callback !== 'function')
      throw invalid(`the callback of a watcher is a function, not ${String(callback)}`);
    const { number } = Fd.borrow(fd);
    try {
      this.#watch = Poller.watch(number, event, callback);
    } catch (error) {
      if (!KernelError.is(error, 'EEXIST')) throw error;
      // An epoll takes a number once only.
      this.#copy = Fd.own(syscall('fcntl', number, F.DUPFD_CLOEXEC, 0));
      try {
        this.#watch = Poller.watch(this.#copy.number, event, callback);
      } catch (trouble) {
        this.#copy.close();
        throw trouble;
      }
    }
  }

  /** Stops it; again does nothing. */
  close(): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#copy?.close();
    this.#copy = undefined;
  }

  /** Lets the process end although this still waits. */
  unref(): this {
    this.#watch?.keepAlive(false);
    return this;
  }

  /** Keeps the process alive while this waits (the default). */
  ref(): this {
    this.#watch?.keepAlive(true);
    return this;
  }

  /** The same as {@link FdWatcher.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
