import { integer } from '../value.js';

/** Conversions between the units of v1 (and OCI) and of v2. What is no integer, or out of range, is a `TypeError` (`ERR_INVALID_ARG_VALUE`). */

/**
 * v1 `cpu.shares` as v2 `cpu.weight`: the formula of runc since 1.3.2 and crun since 1.23, by which 1024 becomes 100.
 *
 * @param shares - 2 to 262144; 0 is unset
 * @returns 1 to 10000; 0 for 0
 */
export function sharesToWeight(shares: number): number {
  if (integer(shares, 'shares', 0) === 0) return 0;
  if (shares <= 2) return 1;
  if (shares >= 262_144) return 10_000;
  const l = Math.log2(shares);
  return Math.ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34));
}

/**
 * v2 `cpu.weight` as v1 `cpu.shares`: the smallest shares of which {@link sharesToWeight} makes this weight, but
 * the default 100 is the default 1024.
 *
 * @param weight - 1 to 10000
 * @returns 2 to 262144
 */
export function weightToShares(weight: number): number {
  if (integer(weight, 'weight', 1, 10_000) === 100) return 1024;
  let [low, high] = [2, 262_144];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (sharesToWeight(middle) >= weight) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * v1 blkio weight as v2 `io.weight`.
 *
 * @param weight - 10 to 1000
 * @returns 1 to 10000
 */
export function blkioToIoWeight(weight: number): number {
  return Math.floor(1 + ((integer(weight, 'weight', 10, 1000) - 10) * 9999) / 990);
}

/**
 * v2 `io.weight` as v1 blkio (and bfq) weight, the inverse of {@link blkioToIoWeight}.
 *
 * @param weight - 1 to 10000
 * @returns 10 to 1000
 */
export function ioToBlkioWeight(weight: number): number {
  return Math.ceil(10 + ((integer(weight, 'weight', 1, 10_000) - 1) * 990) / 9999);
}

/**
 * v1's limit on memory and swap together as v2's on swap alone.
 *
 * @param memsw - bytes; -1 unlimited; 0 or undefined unset
 * @param memory - the limit on memory, the same way
 * @returns the limit on swap; undefined for unset
 * @throws RangeError (`ERR_OUT_OF_RANGE`) where the two do not go together
 */
export function memswToSwap(memsw: number | undefined, memory: number | undefined): number | 'max' | undefined {
  // Not as far as numbers are exact: 2^63 less a page is no limit, on v1.
  for (const bytes of [memsw, memory]) if (bytes !== undefined) integer(bytes, 'memory and swap', -1, 2 ** 63);
  if (memsw === undefined || memsw === 0) return memory === -1 ? 'max' : undefined;
  if (memsw === -1) return 'max';
  if (memory === -1) return memsw;
  if (memory === undefined || memory === 0) throw outOfRange('a limit on memory and swap needs one on memory');
  if (memsw < memory) throw outOfRange('the limit on memory and swap is below the one on memory');
  return memsw - memory;
}

function outOfRange(message: string): RangeError {
  return Object.assign(new RangeError(message), { code: 'ERR_OUT_OF_RANGE' });
}
