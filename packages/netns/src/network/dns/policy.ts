import type { GivenAddress } from './addresses.js';

/** Which names a server passes on, and who is told of the answers. */
export interface NamePolicy {
  /**
   * Whether a name may be asked for.
   *
   * @param name - lower case, without the final dot
   */
  permits(name: string): boolean;
  /**
   * Told of the addresses of a name before who asked is.
   *
   * @param name - that was asked for
   * @param given - its addresses, with seconds for which they count
   * @returns nothing, or a promise for which the answer waits
   * @throws to keep the answer back: who asked is told that it failed
   */
  answered(name: string, given: readonly GivenAddress[]): void | Promise<void>;
  /**
   * Told of a name that was asked for although it may not be.
   *
   * @param name - as in {@link NamePolicy.permits}
   */
  refused(name: string): void;
}
