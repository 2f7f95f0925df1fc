import { debuglog } from 'node:util';
import { invalid } from './kernel.js';
import { AT, F, O } from './raw/flags.js';
import { attempt, syscall } from './syscall.js';

const debug = debuglog('iso');
const leaked = new FinalizationRegistry<{ number: number; stack: string | undefined }>(({ number, stack }) => {
  process.emitWarning(`descriptor ${number} was collected before it was closed${stack ? `\n${stack}` : ''}`, {
    code: 'ISO_FD_LEAK',
    type: 'ResourceWarning',
  });
  attempt('close', number);
});

/**
 * A file descriptor. An owned one is closed once, by {@link Fd.close} or `using`; closing again does nothing. A borrowed
 * one belongs to somebody else and is never closed. An owned one that is lost is closed by the garbage collector
 * with a warning (`ISO_FD_LEAK`), which holds the stack of its creation under `NODE_DEBUG=iso`.
 *
 * @example
 * ```ts
 * import { Fd } from '@iso/sys';
 * const etc = Fd.open('/etc', { directory: true });
 * etc.close();
 * etc.close();
 * if (!etc.closed) throw new Error('still open');
 * ```
 */
export class Fd implements Disposable {
  #number: number;
  readonly #owned: boolean;

  private constructor(number: number, owned: boolean) {
    if (!Number.isInteger(number) || number < 0 || number > 0x7fffffff)
      throw invalid(`not a file descriptor: ${number}`);
    this.#number = number;
    this.#owned = owned;
    if (owned) {
      const stack = debug.enabled ? new Error('opened here').stack : undefined;
      leaked.register(this, { number, stack }, this);
      Fd.opened?.(this, number);
    }
  }

  /** Told of every descriptor that comes to be owned; the leak ledger of `@iso/sys/testing` listens here. */
  static opened: ((fd: Fd, number: number) => void) | undefined;
  /** Told of every owned descriptor that is closed or given away. */
  static closed: ((fd: Fd, number: number) => void) | undefined;

  /**
   * Takes over a descriptor: from now on this object closes it.
   *
   * @param number - an open descriptor that nobody else will close
   * @returns the owner
   */
  static own(number: number): Fd {
    return new Fd(number, true);
  }

  /**
   * Names a descriptor without owning it.
   *
   * @param fd - a number, or an Fd whose owner stays the owner
   * @returns an Fd whose `close` leaves the descriptor open
   */
  static borrow(fd: number | Fd): Fd {
    // What is neither is named by the constructor's error.
    return new Fd(typeof fd === 'number' ? fd : ((fd as Fd | null)?.number ?? (fd as never)), false);
  }

  /**
   * Opens a path, always close-on-exec; see open(2).
   *
   * @param path - absolute, or relative to the working directory
   * @param options - `flags` as in open(2) (default read-only); `directory` and `path` add O_DIRECTORY and O_PATH
   * @returns the owned descriptor
   * @throws {@link KernelError} `ENOENT`, `EACCES`, `ENOTDIR`, `EMFILE` …
   */
  static open(path: string, options: { flags?: number; mode?: number; directory?: boolean; path?: boolean } = {}): Fd {
    const flags =
      (options.flags ?? 0) | O.CLOEXEC | (options.directory ? O.DIRECTORY : 0) | (options.path ? O.PATH : 0);
    return new Fd(syscall('openat', AT.FDCWD, path, flags, options.mode ?? 0), true);
  }

  /** The number. Throws `EBADF`'s TypeError twin (`ERR_INVALID_STATE`) once closed. */
  get number(): number {
    if (this.#number < 0) throw Object.assign(new Error('the descriptor is closed'), { code: 'ERR_INVALID_STATE' });
    return this.#number;
  }

  /** Whether {@link Fd.close} was called, or the number was given away. */
  get closed(): boolean {
    return this.#number < 0;
  }

  /**
   * A second descriptor for the same open file, close-on-exec.
   *
   * @returns an owned Fd
   * @throws {@link KernelError} `EMFILE`
   */
  duplicate(): Fd {
    return new Fd(syscall('fcntl', this.number, F.DUPFD_CLOEXEC, 3), true);
  }

  /**
   * Gives the number away: the caller owns it, this object is closed.
   *
   * @returns the number
   */
  release(): number {
    const number = this.number;
    this.#forget();
    return number;
  }

  /** Closes it if it is owned and open; else does nothing. Never throws: close(2) frees the number in every case. */
  close(): void {
    if (this.#number < 0) return;
    const number = this.#number;
    this.#forget();
    if (this.#owned) attempt('close', number);
  }

  /** The same as {@link Fd.close}, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #forget(): void {
    if (this.#owned) {
      leaked.unregister(this);
      Fd.closed?.(this, this.#number);
    }
    this.#number = -1;
  }
}
