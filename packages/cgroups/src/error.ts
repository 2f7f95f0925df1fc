import { KernelError, type KernelErrorFields } from '@iso/sys';

/**
 * Why the kernel said no, as a closed set:
 *
 * - `controllerNotEnabled`: the controller does not stand in `cgroup.subtree_control` of the ancestor `at`
 * - `notDelegated`: the file or directory belongs to somebody else
 * - `readOnly`: the hierarchy is mounted read-only
 * - `internalProcess`: a v2 group with processes cannot have domain controllers for children, and the other way round
 * - `threaded`: not possible in, or between, threaded groups
 * - `belowUsage`: a limit below what is used now
 * - `busy`: processes or children are still there
 * - `removed`: the group is gone
 * - `exists`: there is one of that name
 * - `noSuchProcess`, `noSuchDevice`: what the value names is not there
 * - `invalidValue`: the kernel takes no such value, or not beside the other values
 * - `notApplied`: the kernel took the value and shows another one
 * - `invalidPartition`: the cpuset partition reads back as invalid
 * - `tooMany`: `cgroup.max.descendants`, `cgroup.max.depth` or a system limit is reached
 * - `other`: see `code`
 */
export type Reason =
  | 'controllerNotEnabled'
  | 'notDelegated'
  | 'readOnly'
  | 'internalProcess'
  | 'threaded'
  | 'belowUsage'
  | 'busy'
  | 'removed'
  | 'exists'
  | 'noSuchProcess'
  | 'noSuchDevice'
  | 'invalidValue'
  | 'notApplied'
  | 'invalidPartition'
  | 'tooMany'
  | 'other';

/** What a {@link CgroupError} knows beside what a KernelError does. */
export interface CgroupErrorFields extends KernelErrorFields {
  reason: Reason;
  /** Control file that was written or read. */
  file?: string;
  /** Text that was written. */
  value?: string;
  /** The group that stands in the way, where that is another one. */
  at?: string;
}

const brand: unique symbol = Symbol.for('@iso/cgroups/CgroupError');

/**
 * A KernelError on a cgroup that says why: `reason` out of a closed set, `file`, `value`, and `at`, the group in the way.
 *
 * @example
 * ```ts
 * import { Cgroup, CgroupError } from '@iso/cgroups';
 * try {
 *   await Cgroup.open('/no/such/group');
 * } catch (error) {
 *   if (!CgroupError.is(error, 'removed') && !(error instanceof Error)) throw error;
 * }
 * ```
 */
export class CgroupError extends KernelError implements CgroupErrorFields {
  override name = 'CgroupError';
  readonly reason: Reason;
  declare readonly file?: string;
  declare readonly value?: string;
  declare readonly at?: string;

  /**
   * @param errno - the kernel's number, either sign
   * @param fields - what else is known
   */
  constructor(errno: number, fields: CgroupErrorFields) {
    // An error on a path says which.
    const { syscall, path } = fields;
    super(errno, path === undefined ? fields : { call: `${syscall}(${JSON.stringify(path)})`, ...fields });
    this.reason = fields.reason;
    for (const key of ['file', 'value', 'at'] as const) {
      if (fields[key] !== undefined) Object.assign(this, { [key]: fields[key] });
    }
    Object.defineProperty(this, brand, { value: true });
  }

  /**
   * Tells a CgroupError from anything else, also across two copies of this package.
   *
   * @param error - anything caught
   * @param reasons - where given, only these count; error names (`'EBUSY'`) count too
   * @returns whether it is one
   */
  static override is(error: unknown, ...reasons: (Reason | (string & {}))[]): error is CgroupError {
    if (typeof error !== 'object' || error === null || !(brand in error)) return false;
    const { reason, code } = error as unknown as CgroupError;
    return reasons.length === 0 || reasons.includes(reason) || reasons.includes(code);
  }
}

/** @internal Error numbers that are told apart here. */
export const E = {
  PERM: 1,
  NOENT: 2,
  SRCH: 3,
  INTR: 4,
  AGAIN: 11,
  ACCES: 13,
  BUSY: 16,
  EXIST: 17,
  NODEV: 19,
  NOTDIR: 20,
  INVAL: 22,
  NOSPC: 28,
  ROFS: 30,
  RANGE: 34,
  NOSYS: 38,
  OPNOTSUPP: 95,
  TIMEDOUT: 110,
} as const;
