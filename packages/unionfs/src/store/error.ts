import { KernelError } from '@iso/sys';

/**
 * Why a store said no, as a closed set:
 *
 * - `exists`: there is a snapshot of that name
 * - `notFound`: there is none
 * - `notCommitted`: only a committed snapshot can lie below another one
 * - `notActive`: only an active snapshot can be written or committed
 * - `hasChildren`: snapshots lie on it
 * - `inUse`: it is mounted, or somebody reads or writes it
 * - `locked`: another process is making it right now
 * - `corrupt`: what is on the disk is not what the store wrote there; see `check()`
 * - `noSpace`: the file system or its quota is full
 * - `otherDriver`: the store was made with another driver
 * - `exposed`: others can put files in the store's directory, or it is made of links
 * - `incomplete`: a layer of which something was left out when it was unpacked, for who wants all of it
 * - `unsupported`: this driver, file system or kernel cannot do it
 */
export type StoreReason =
  | 'exists'
  | 'notFound'
  | 'notCommitted'
  | 'notActive'
  | 'hasChildren'
  | 'inUse'
  | 'locked'
  | 'corrupt'
  | 'noSpace'
  | 'otherDriver'
  | 'exposed'
  | 'incomplete'
  | 'unsupported';

const brand: unique symbol = Symbol.for('@iso/unionfs/StoreError');

/**
 * A store that cannot do what was asked. `reason` tells why, out of a closed set; nothing was changed.
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { openStore, StoreError } from '@iso/unionfs';
 * const root = mkdtempSync('/tmp/iso-store-');
 * {
 *   await using store = await openStore({ root, driver: 'vfs' });
 *   await store.stat('nothing').catch((error) => {
 *     if (!StoreError.is(error, 'notFound')) throw error;
 *   });
 * }
 * rmSync(root, { recursive: true });
 * ```
 */
export class StoreError extends Error {
  override name = 'StoreError';
  /** Always `'ERR_STORE'`. */
  readonly code = 'ERR_STORE';
  readonly reason: StoreReason;
  /** The snapshot that it is about. */
  declare readonly snapshot?: string;
  /** One line: what to do about it. */
  declare readonly hint?: string;

  /**
   * @param reason - the kind
   * @param message - what is wrong
   * @param more - the snapshot, a hint, the error that led here
   */
  constructor(reason: StoreReason, message: string, more: { snapshot?: string; hint?: string; cause?: unknown } = {}) {
    const about = more.snapshot === undefined ? '' : `${JSON.stringify(more.snapshot)}: `;
    super(
      `${about}${message}${more.hint ? `; ${more.hint}` : ''}`,
      'cause' in more ? { cause: more.cause } : undefined,
    );
    this.reason = reason;
    if (more.snapshot !== undefined) Object.assign(this, { snapshot: more.snapshot });
    if (more.hint) Object.assign(this, { hint: more.hint });
    Object.defineProperty(this, brand, { value: true });
  }

  /**
   * Tells a StoreError from anything else, also across two copies of this package.
   *
   * @param error - anything caught
   * @param reasons - where given, only these count
   * @returns whether it is one
   */
  static is(error: unknown, ...reasons: StoreReason[]): error is StoreError {
    if (typeof error !== 'object' || error === null || !(brand in error)) return false;
    return reasons.length === 0 || reasons.includes((error as unknown as StoreError).reason);
  }
}

/**
 * What to throw for an error that came from below: a full disk has a reason, the rest speaks for itself.
 *
 * @param error - anything caught
 * @param snapshot - that it is about
 * @returns the error to throw
 */
export function explain(error: unknown, snapshot?: string): unknown {
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const message = code === 'ENOSPC' ? 'no space is left on the file system' : 'the quota is used up';
    const said = KernelError.is(error) ? ` (${error.message})` : '';
    return new StoreError('noSpace', message + said, { ...(snapshot === undefined ? {} : { snapshot }), cause: error });
  }
  return error;
}
