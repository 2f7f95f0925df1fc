import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { native, type PollHandle } from './raw/native.js';

/** What {@link watchFd} waits for. */
export interface WatchOptions {
  /** `readable` (default) or `writable`. */
  for?: 'readable' | 'writable';
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
 * Calls back on the event loop each time a descriptor is ready (level-triggered). No thread waits: libuv's own
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
  readonly #fd: Fd;

  /**
   * @param fd - a pollable descriptor; it must stay open until {@link FdWatcher.close}
   * @param event - readiness to wait for
   * @param callback - told each time
   * @throws {@link KernelError} `EPERM` for descriptors that cannot be polled: regular files, directories
   */
  constructor(fd: Fd | number, event: 'readable' | 'writable', callback: () => void) {
    this.#fd = Fd.borrow(fd);
    try {
      this.#handle = native().poll(
        this.#fd.number,
        event === 'readable' ? { readable: true } : { writable: true },
        callback,
      );
    } catch (cause) {
      throw new KernelError(1, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${this.#fd.number})`, cause });
    }
  }

  /** Stops it; again does nothing. */
  close(): void {
    this.#handle?.close();
    this.#handle = undefined;
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
