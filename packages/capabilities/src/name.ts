import { readFileSync } from 'node:fs';
import { invalid } from '@iso/sys';
import { names } from './raw/capability.js';

/** A capability by its name without `CAP_`, see capabilities(7). */
export type CapabilityName = (typeof names)[number];

/** All that are known here, in the order of their numbers. */
export const capabilityNames: readonly CapabilityName[] = names;

/**
 * A set of capabilities as people write one: names in any case, with `CAP_` or without; `'ALL'` for all that the running kernel
 * has. What is newer than the names here is `CAP_41`, by its number.
 */
export type CapabilityList = 'ALL' | readonly string[];

/** A set of capabilities: bit n is capability n. */
export type CapabilityMask = bigint;

/**
 * The capabilities that Docker gives a container.
 */
export const dockerCapabilities: readonly CapabilityName[] = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FOWNER',
  'FSETID',
  'KILL',
  'SETGID',
  'SETUID',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'NET_RAW',
  'SYS_CHROOT',
  'MKNOD',
  'AUDIT_WRITE',
  'SETFCAP',
];

const numbers: ReadonlyMap<string, number> = new Map(names.map((name, i) => [name, i]));
/** Bits of a set. */
const MOST = 64;

/**
 * The number of a capability.
 *
 * @param name - in any case, with `CAP_` or without; `CAP_41` by its number
 * @returns the kernel's number
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a name that there is not
 *
 * @example
 * ```ts
 * import { capabilityName, capabilityNumber } from '@iso/capabilities';
 * if (capabilityNumber('cap_net_admin') !== 12 || capabilityName(12) !== 'NET_ADMIN') throw new Error('not 12');
 * ```
 */
export function capabilityNumber(name: string): number {
  const bare = typeof name === 'string' ? name.toUpperCase().replace(/^CAP_/, '') : '';
  const number = numbers.get(bare) ?? (/^\d{1,2}$/.test(bare) ? Number(bare) : MOST);
  if (number >= MOST) throw invalid(`no capability is called ${JSON.stringify(name)}`);
  return number;
}

/**
 * The name of a capability.
 *
 * @param number - the kernel's
 * @returns without `CAP_`; the number itself for one that is newer than the names here
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no number from 0 to 63
 */
export function capabilityName(number: number): string {
  if (!Number.isInteger(number) || number < 0 || number >= MOST)
    throw invalid(`not the number of a capability: ${String(number)}`);
  return names[number] ?? String(number);
}

/**
 * A list as a mask.
 *
 * @param list - names, or `'ALL'`
 * @returns a bit for each
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a name that there is not
 *
 * @example
 * ```ts
 * import { formatCapabilities, maskOf, namesOf, parseCapabilities } from '@iso/capabilities';
 * const mask = maskOf(['CHOWN', 'cap_net_raw']);
 * if (mask !== 0x2001n || namesOf(mask).join() !== 'CHOWN,NET_RAW') throw new Error('not those');
 * if (formatCapabilities(mask) !== 'cap_chown,cap_net_raw') throw new Error('not as libcap writes them');
 * if (parseCapabilities('cap_chown, NET_RAW') !== mask || parseCapabilities('0000000000002001') !== mask) throw new Error('not read');
 * ```
 */
export function maskOf(list: CapabilityList): CapabilityMask {
  if (list === 'ALL') return (1n << BigInt(lastCapability() + 1)) - 1n;
  if (!Array.isArray(list)) throw invalid(`not 'ALL' and no array of names: ${String(list)}`);
  let mask = 0n;
  for (const name of list)
    mask |=
      typeof name === 'string' && name.toUpperCase() === 'ALL' ? maskOf('ALL') : 1n << BigInt(capabilityNumber(name));
  return mask;
}

/**
 * A mask as names.
 *
 * @param mask - a bit for each capability
 * @returns without `CAP_`, in the order of their numbers
 */
export function namesOf(mask: CapabilityMask): string[] {
  if (typeof mask !== 'bigint' || mask < 0n || mask >= 1n << BigInt(MOST)) throw invalid(`no mask: ${String(mask)}`);
  return Array.from({ length: MOST }, (_, i) => i)
    .filter((i) => (mask >> BigInt(i)) & 1n)
    .map(capabilityName);
}

/**
 * A mask as libcap's tools write it.
 *
 * @param mask - a bit for each capability
 * @returns `cap_chown,cap_kill`; empty for none
 */
export function formatCapabilities(mask: CapabilityMask): string {
  return namesOf(mask)
    .map((name) => (/^\d/.test(name) ? name : `cap_${name.toLowerCase()}`))
    .join(',');
}

/**
 * Reads a set: names between commas or spaces, `all`, or sixteen hexadecimal digits as in /proc/PID/status.
 *
 * @param text - the set
 * @returns its mask
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a name that there is not
 */
export function parseCapabilities(text: string): CapabilityMask {
  if (typeof text !== 'string') throw invalid(`not a text: ${String(text)}`);
  if (/^[0-9a-f]{16}$/i.test(text.trim())) return BigInt(`0x${text.trim()}`);
  return maskOf(text.split(/[\s,]+/).filter((name) => name !== ''));
}

let last: number | undefined;

/**
 * The highest capability of the running kernel.
 *
 * @returns its number; the highest known one where /proc does not say
 */
export function lastCapability(): number {
  if (last === undefined) {
    try {
      last = Number(readFileSync('/proc/sys/kernel/cap_last_cap', 'utf8'));
    } catch {
      return names.length - 1;
    }
  }
  return last;
}
