import { invalid } from '@iso/sys';

/** How an argument is compared. `masked`: its bits under `mask` are those of `value`. */
export type Operator = '==' | '!=' | '<' | '<=' | '>' | '>=' | 'masked';

/**
 * A condition on an argument of a system call: unsigned, all 64 bits. An argument that is an `int` to the kernel has anything
 * in its upper half: compare it with `masked` under 0xffffffff, or a caller steps around the rule (CVE-2019-10063).
 * What a pointer points to cannot be compared.
 */
export interface Comparison {
  /** Which argument, from 0 to 5. */
  readonly arg: number;
  readonly op: Operator;
  /** Negative ones as the kernel sees them, in 64 bits. */
  readonly value: number | bigint;
  /** For `masked`. */
  readonly mask?: number | bigint;
}

/** A condition that was checked. */
export interface Condition {
  readonly arg: number;
  readonly op: Operator;
  readonly value: bigint;
  readonly mask: bigint;
}

const operators: ReadonlySet<unknown> = new Set(['==', '!=', '<', '<=', '>', '>=', 'masked'] satisfies Operator[]);
const known: ReadonlySet<string> = new Set(['arg', 'op', 'value', 'mask']);
const ALL = 0xffffffffffffffffn;

/**
 * Checks a comparison.
 *
 * @param comparison - as a user wrote it
 * @returns it, with its numbers in 64 bits
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what cannot be compared
 */
export function condition(comparison: Comparison): Condition {
  const { arg, op, value, mask } = comparison;
  const unknown = Object.keys(comparison).find((key) => !known.has(key));
  if (unknown !== undefined) throw invalid(`a comparison has no ${JSON.stringify(unknown)}`);
  if (!Number.isInteger(arg) || arg < 0 || arg > 5) throw invalid(`arg is from 0 to 5, not ${String(arg)}`);
  if (!operators.has(op)) throw invalid(`no operator: ${JSON.stringify(op)}, there are ${[...operators].join(' ')}`);
  if ((mask !== undefined) !== (op === 'masked')) throw invalid('masked takes a mask, and no other operator does');
  const bits = mask === undefined ? ALL : register(mask);
  const compared = register(value);
  if ((compared & bits) !== compared)
    throw invalid(`no argument has bits of 0x${compared.toString(16)} outside of the mask 0x${bits.toString(16)}`);
  return { arg, op, value: compared, mask: bits };
}

/**
 * A number as it stands in a register.
 *
 * @param value - a number or bigint
 * @returns its 64 bits, unsigned
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what does not fit
 */
export function register(value: number | bigint): bigint {
  if (typeof value === 'bigint' ? value >= -(2n ** 63n) && value <= ALL : Number.isSafeInteger(value))
    return BigInt.asUintN(64, BigInt(value));
  throw invalid(`not a 64-bit integer: ${String(value)}`);
}

/** Whether an argument meets a condition. */
export function meets({ op, value, mask }: Condition, argument: bigint): boolean {
  switch (op) {
    case '==':
      return argument === value;
    case '!=':
      return argument !== value;
    case '<':
      return argument < value;
    case '<=':
      return argument <= value;
    case '>':
      return argument > value;
    case '>=':
      return argument >= value;
    case 'masked':
      return (argument & mask) === value;
  }
}
