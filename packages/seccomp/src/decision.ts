import type { Condition } from './comparison.js';

/** What is decided of one system call: the first rule whose conditions are all met, else `otherwise`. As filters return it. */
export interface Decision {
  readonly rules: readonly { readonly conditions: readonly Condition[]; readonly action: number }[];
  readonly otherwise: number;
}

/** Calls from a number on, up to the next range. */
export interface Range {
  readonly from: number;
  readonly decision: Decision;
}

/**
 * Rules without those that change nothing.
 *
 * @param rules - in order
 * @param fallback - what is decided where none matches
 * @returns the same decisions
 */
export function simplify(rules: Decision['rules'], fallback: number): Decision {
  const end = rules.findIndex(({ conditions }) => conditions.length === 0);
  const otherwise = end < 0 ? fallback : (rules[end]?.action as number);
  let last = end < 0 ? rules.length : end;
  while (last > 0 && rules[last - 1]?.action === otherwise) last--;
  return { rules: rules.slice(0, last), otherwise };
}

/** Text that is equal for equal decisions. */
export function keyOf({ rules, otherwise }: Decision): string {
  if (rules.length === 0) return String(otherwise);
  const text = rules.map(
    ({ conditions, action }) =>
      `${conditions.map(({ arg, op, value, mask }) => `${arg}${op}${value}&${mask}`)}:${action}`,
  );
  return `${text.join(';')};${otherwise}`;
}

/**
 * Decisions by number as ranges from 0 on; neighbours with the same decision are one.
 *
 * @param decisions - by number
 * @param gap - what is decided of every other number
 */
export function ranges(decisions: ReadonlyMap<number, Decision>, gap: Decision): Range[] {
  const found: Range[] = [];
  let [next, last] = [0, ''];
  const add = (from: number, decision: Decision) => {
    const key = keyOf(decision);
    if (key !== last) found.push({ from, decision });
    last = key;
  };
  for (const [number, decision] of [...decisions].sort(([a], [b]) => a - b)) {
    if (number > next) add(next, gap);
    add(number, decision);
    next = number + 1;
  }
  add(next, gap);
  return found;
}
