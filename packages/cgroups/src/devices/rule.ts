import { invalid, UnsupportedError } from '@iso/sys';
import { onlyKeys, shown } from '../value.js';

/** One rule on device files, as in OCI's `linux.resources.devices`. */
export interface DeviceRule {
  allow: boolean;
  /** `a` all, `b` block, `c` character devices. */
  type?: 'a' | 'b' | 'c';
  /** Numbers; undefined is every one. */
  major?: number | undefined;
  minor?: number | undefined;
  /** Of `r` read, `w` write, `m` mknod; default all three. */
  access?: string;
}

/** @internal A rule that was checked. */
export interface ExactRule {
  allow: boolean;
  type: 'a' | 'b' | 'c';
  major: number | undefined;
  minor: number | undefined;
  access: string;
}

/**
 * Checks rules and drops those that a later rule for all devices makes pointless.
 *
 * @param rules - in order; the last that matches decides
 * @returns what an access is where no rule matches, and the rules after that
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function exactRules(rules: readonly DeviceRule[]): { allow: boolean; rules: ExactRule[] } {
  if (!Array.isArray(rules)) throw invalid('devices must be a list of rules');
  const exact = rules.map(check);
  const last = exact.findLastIndex((rule) => rule.type === 'a' && rule.access === 'rwm');
  return { allow: exact[last]?.allow ?? false, rules: exact.slice(last + 1) };
}

/**
 * The writes that put rules into v1's lists: first the default, then each exception.
 *
 * @param rules - in order
 * @returns file and line of each
 * @throws UnsupportedError for a rule that takes a part out of a wider one: the kernel would ignore it without a word
 */
export function listWrites(rules: readonly DeviceRule[]): { file: 'devices.allow' | 'devices.deny'; line: string }[] {
  const exact = exactRules(rules);
  const exceptions = new Map<string, { rule: ExactRule; access: Set<string> }>();
  for (const rule of exact.rules) {
    if (rule.type === 'a') {
      throw new UnsupportedError('devices', 'v1 lists have no rule for all devices with a part of rwm');
    }
    const key = `${rule.type} ${rule.major ?? '*'}:${rule.minor ?? '*'}`;
    if (rule.allow !== exact.allow) {
      const entry = exceptions.get(key) ?? { rule, access: new Set() };
      for (const letter of rule.access) entry.access.add(letter);
      exceptions.set(key, entry);
      continue;
    }
    for (const [otherKey, { rule: other, access }] of exceptions) {
      if (!overlaps(rule, other) || ![...rule.access].some((letter) => access.has(letter))) continue;
      if (!covers(rule, other)) {
        throw new UnsupportedError('devices', `v1 lists cannot take ${key} out of ${otherKey}`);
      }
      for (const letter of rule.access) access.delete(letter);
      if (access.size === 0) exceptions.delete(otherKey);
    }
  }
  const file = (allow: boolean) => (allow ? 'devices.allow' : 'devices.deny');
  return [
    { file: file(exact.allow), line: 'a' },
    ...[...exceptions].map(([key, { access }]) => ({
      file: file(!exact.allow) as 'devices.allow' | 'devices.deny',
      line: `${key} ${[...'rwm'].filter((letter) => access.has(letter)).join('')}`,
    })),
  ] as { file: 'devices.allow' | 'devices.deny'; line: string }[];
}

function check(rule: DeviceRule): ExactRule {
  onlyKeys(rule, 'devices', ['allow', 'type', 'major', 'minor', 'access']);
  const { allow, type = 'a', major, minor, access = 'rwm' } = rule;
  const number = (value: unknown) =>
    value === undefined || (Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32);
  const fits =
    typeof allow === 'boolean' &&
    ['a', 'b', 'c'].includes(type) &&
    number(major) &&
    number(minor) &&
    typeof access === 'string' &&
    /^(?!.*(.).*\1)[rwm]+$/.test(access) &&
    !(type === 'a' && (major !== undefined || minor !== undefined));
  if (!fits) throw invalid(`not a rule on devices: ${shownRule(rule)}`);
  return { allow, type, major, minor, access: [...'rwm'].filter((letter) => access.includes(letter)).join('') };
}

function shownRule(rule: DeviceRule): string {
  return Object.entries(rule)
    .map(([key, value]) => `${key} ${shown(value)}`)
    .join(', ');
}

function overlaps(a: ExactRule, b: ExactRule): boolean {
  const same = (x: number | undefined, y: number | undefined) => x === undefined || y === undefined || x === y;
  return a.type === b.type && same(a.major, b.major) && same(a.minor, b.minor);
}

function covers(a: ExactRule, b: ExactRule): boolean {
  const holds = (x: number | undefined, y: number | undefined) => x === undefined || x === y;
  return holds(a.major, b.major) && holds(a.minor, b.minor);
}
