import type { FieldName } from './field.js';
import type { CMP, NAT_FLAGS } from './raw.js';

/** What a value may be: one, a prefix of addresses, several flags of which one is enough, or a range. */
export type MatchValue = string | number | readonly string[] | { from: string | number; to: string | number };

/** Where a packet goes. */
export type Verdict = 'accept' | 'drop' | 'continue' | 'return' | { jump: string } | { goto: string };

/** Where a packet is translated to: fixed, or found in a map. */
export type NatTarget =
  | { address?: string; port?: number; flags?: readonly (keyof typeof NAT_FLAGS)[] }
  | { family: 'ip' | 'ip6'; key: readonly FieldName[]; map: string; withPort?: boolean };

/** One statement of a rule: a condition, or something that is done. */
export type Statement =
  | { kind: 'match'; field: FieldName; op: keyof typeof CMP; value: MatchValue }
  | { kind: 'lookup'; key: readonly FieldName[]; set: string; invert: boolean }
  | { kind: 'vmap'; key: readonly FieldName[]; map: string }
  | { kind: 'verdict'; verdict: Verdict }
  | { kind: 'dnat' | 'snat'; to: NatTarget }
  | { kind: 'masquerade'; flags: readonly (keyof typeof NAT_FLAGS)[] }
  | { kind: 'redirect'; port: number | undefined }
  | { kind: 'counter' }
  | { kind: 'limit'; rate: number; unit: 'packets' | 'bytes'; per: LimitPeriod; burst: number; over: boolean }
  | { kind: 'log'; prefix: string | undefined; group: number | undefined }
  | { kind: 'reject'; how: 'icmpx' | 'icmpx admin-prohibited' | 'tcp reset' }
  | { kind: 'set mark'; what: 'meta mark' | 'ct mark'; value: number }
  | { kind: 'notrack' }
  | { kind: 'trace' };

/** Unit of a rate. */
export type LimitPeriod = 'second' | 'minute' | 'hour' | 'day';

/**
 * A condition on a field. What it needs before it (the version of IP, the transport protocol) is added where it is missing.
 *
 * @param field - as nft writes it: `ip saddr`, `tcp dport`, `meta iifname`, `ct state` …
 * @param value - to compare with; of addresses also a prefix, of flags several, of numbers a range; a link's name may end in `*`
 * @param op - how, default `==`
 * @returns the statement
 *
 * @example
 * ```ts
 * import { accept, match, ruleText } from '@iso/netns/nft';
 * if (ruleText([match('tcp dport', 22), accept()]) !== 'tcp dport 22 accept') throw new Error('not as nft has it');
 * ```
 */
export function match(field: FieldName, value: MatchValue, op: keyof typeof CMP = '=='): Statement {
  return { kind: 'match', field, op, value };
}

/** The condition that fields, one after another, are (or with `invert` are not) an element of a set. */
export function inSet(
  key: FieldName | readonly FieldName[],
  set: string,
  options: { invert?: boolean } = {},
): Statement {
  return { kind: 'lookup', key: list(key), set, invert: options.invert ?? false };
}

/** The verdict that a map of verdicts has for fields. */
export function vmap(key: FieldName | readonly FieldName[], map: string): Statement {
  return { kind: 'vmap', key: list(key), map };
}

/** Lets it pass this chain: others may still drop it. */
export const accept = (): Statement => ({ kind: 'verdict', verdict: 'accept' });
/** Drops it, finally. */
export const drop = (): Statement => ({ kind: 'verdict', verdict: 'drop' });
/** Back to the chain that jumped here. */
export const returns = (): Statement => ({ kind: 'verdict', verdict: 'return' });
/** Into another chain, and back at its end. */
export const jump = (chain: string): Statement => ({ kind: 'verdict', verdict: { jump: chain } });
/** Into another chain, not back. */
export const goto = (chain: string): Statement => ({ kind: 'verdict', verdict: { goto: chain } });
/** Changes the destination, in a `nat` chain of prerouting or output. */
export const dnat = (to: NatTarget): Statement => ({ kind: 'dnat', to });
/** Changes the source, in a `nat` chain of postrouting or input. */
export const snat = (to: NatTarget): Statement => ({ kind: 'snat', to });
/** Changes the source to the address of the link by which it leaves. */
export const masquerade = (...flags: (keyof typeof NAT_FLAGS)[]): Statement => ({ kind: 'masquerade', flags });
/** Changes the destination to this machine. */
export const redirect = (port?: number): Statement => ({ kind: 'redirect', port });
/** Counts packets and bytes that come this far. */
export const counter = (): Statement => ({ kind: 'counter' });
/** Sets the packet's or the connection's mark. */
export const setMark = (value: number, what: 'meta mark' | 'ct mark' = 'meta mark'): Statement => ({
  kind: 'set mark',
  what,
  value,
});
/** Leaves it out of connection tracking; in a chain before that. */
export const notrack = (): Statement => ({ kind: 'notrack' });
/** Has the kernel tell `watchTrace` what becomes of it from here on. */
export const trace = (): Statement => ({ kind: 'trace' });
/** Writes to the kernel's log, or to a group of nflog. */
export const log = (options: { prefix?: string; group?: number } = {}): Statement => ({
  kind: 'log',
  prefix: options.prefix,
  group: options.group,
});
/** Refuses it and tells the sender: that nobody listens there (`icmpx`), that it is not allowed, or that the connection is over. */
export const reject = (how: 'icmpx' | 'icmpx admin-prohibited' | 'tcp reset' = 'icmpx'): Statement => ({
  kind: 'reject',
  how,
});

/**
 * The condition that a rate is kept, or with `over` exceeded.
 *
 * @param rate - so many
 * @param options - of what, per what; `burst` more may come at once
 * @returns the statement
 */
export function limit(
  rate: number,
  options: { unit?: 'packets' | 'bytes'; per?: LimitPeriod; burst?: number; over?: boolean } = {},
): Statement {
  const { unit = 'packets', per = 'second', over = false } = options;
  return { kind: 'limit', rate, unit, per, over, burst: options.burst ?? (unit === 'packets' ? 5 : 0) };
}

function list(key: FieldName | readonly FieldName[]): readonly FieldName[] {
  return typeof key === 'string' ? [key] : key;
}
