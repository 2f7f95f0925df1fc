import { UnsupportedError } from './error.js';

/** What is known of a feature: it is there; it is not, and how that showed; or it could not be found out. */
export type Support =
  | { readonly state: 'supported' }
  | { readonly state: 'unsupported'; readonly reason: string; readonly since?: string }
  | { readonly state: 'unknown'; readonly cause: unknown };

/**
 * Something that a kernel may lack, or refuse to everybody, and how to find out: by doing the smallest real thing, never by a
 * version. What was found out is kept. What was not (no permission, no descriptor left) is tried again the next time, and
 * never counts as a no.
 *
 * @example
 * ```ts
 * import { AT, Fd, Feature, syscall } from '@iso/sys';
 * const openat2 = new Feature(
 *   'openat2',
 *   () => Fd.own(syscall('openat2', AT.FDCWD, '/', Buffer.alloc(24), 24)).close(),
 *   { since: '5.6' },
 * );
 * if (openat2.probe().state === 'supported') openat2.require();
 * ```
 */
export class Feature {
  /** What it is called in errors, by the kernel's name. */
  readonly name: string;
  readonly #attempt: () => void;
  readonly #since: string | undefined;
  #known: Support | undefined;

  /**
   * @param name - the kernel's name of it
   * @param attempt - tries it, leaving nothing behind: returns where it works, throws {@link UnsupportedError} where it is
   * lacking (as {@link syscall} does for `ENOSYS`), anything else where that does not show
   * @param more - `since`: the first kernel release that has it
   */
  constructor(name: string, attempt: () => void, more: { since?: string } = {}) {
    this.name = name;
    this.#attempt = attempt;
    this.#since = more.since;
  }

  /**
   * Finds out, once.
   *
   * @returns what is known; `unknown` only for now
   */
  probe(): Support {
    if (this.#known) return this.#known;
    try {
      this.#attempt();
    } catch (cause) {
      if (!UnsupportedError.is(cause)) return { state: 'unknown', cause };
      const since = cause.since ?? this.#since;
      return (this.#known = { state: 'unsupported', reason: cause.reason, ...(since ? { since } : {}) });
    }
    return (this.#known = { state: 'supported' });
  }

  /**
   * Goes on only where it is there.
   *
   * @throws {@link UnsupportedError} where it is not; what kept it from being found out where that is unknown
   */
  require(): void {
    const found = this.probe();
    if (found.state === 'unknown') throw found.cause;
    if (found.state === 'unsupported')
      throw new UnsupportedError(this.name, found.reason, found.since ? { since: found.since } : {});
  }
}
