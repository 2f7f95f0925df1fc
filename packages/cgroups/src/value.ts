import { invalid } from '@iso/sys';

const units: Record<string, number> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/**
 * A number of bytes as a limit takes it.
 *
 * @param value - bytes, text with a suffix, `'max'`
 * @param name - of the limit, for the error
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for negative, fractional, not a number, above 2^53
 */
export function bytes(value: unknown, name: string): number | 'max' {
  if (value === 'max') return value;
  const match = typeof value === 'number' || typeof value === 'string' ? /^(\d+)([KMGT]?)$/i.exec(String(value)) : null;
  const number = match ? Number(match[1]) * (units[(match[2] ?? '').toUpperCase()] as number) : Number.NaN;
  if (!Number.isSafeInteger(number)) {
    throw invalid(`${name} must be a number of bytes below 2^53, '256M' or 'max', not ${shown(value)}`);
  }
  return number;
}

/**
 * A whole number within bounds.
 *
 * @param value - what was given
 * @param name - of the limit, for the error
 * @param min - smallest
 * @param max - largest
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function integer(value: unknown, name: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw invalid(`${name} must be a whole number from ${min} to ${max}, not ${shown(value)}`);
  }
  return value;
}

/** {@link integer}, or `'max'`. */
export function integerOrMax(value: unknown, name: string, min = 0): number | 'max' {
  return value === 'max' ? value : integer(value, name, min);
}

/**
 * A list of processors or memory nodes.
 *
 * @param value - for example `'0-3,8'`; `''` only where `empty` allows it
 * @param name - of the limit, for the error
 * @param empty - whether none is a value
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function cpuList(value: unknown, name: string, empty: boolean): string {
  const fits = typeof value === 'string' && (value === '' ? empty : /^\d+(-\d+)?(,\d+(-\d+)?)*$/.test(value));
  if (!fits) throw invalid(`${name} must be a list such as '0-3,8'${empty ? " or ''" : ''}, not ${shown(value)}`);
  return value;
}

/**
 * Members of a processor list.
 *
 * @param list - `'0-2,4'`
 * @returns `[0, 1, 2, 4]`
 */
export function members(list: string): number[] {
  return list
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first = 0, last = first] = part.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
}

/**
 * One word that becomes a part of a line or of a file's name.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where it holds white space, a slash or nothing
 */
export function oneWord(value: unknown, name: string): string {
  if (typeof value !== 'string' || !/^[^\s/]+$/.test(value) || value.startsWith('.')) {
    throw invalid(`${name} must be one word, not ${shown(value)}`);
  }
  return value;
}

/** A boolean, as the kernel writes it. */
export function flag(value: unknown, name: string): '0' | '1' {
  if (typeof value !== 'boolean') throw invalid(`${name} must be true or false, not ${shown(value)}`);
  return value ? '1' : '0';
}

/**
 * One of some words.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function choice<T extends string>(value: unknown, name: string, choices: readonly T[]): T {
  if (!choices.includes(value as T)) throw invalid(`${name} must be one of ${choices.join(', ')}, not ${shown(value)}`);
  return value as T;
}

/**
 * Refuses what an object of limits or options must not have: a misspelt limit is no limit.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function onlyKeys(value: unknown, name: string, keys: readonly string[]): void {
  for (const key of Object.keys(plain(value, name))) {
    if (!keys.includes(key)) throw invalid(`${name}: there is no ${key}, only ${keys.join(', ')}`);
  }
}

/**
 * Entries of an object whose keys are not known beforehand.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function entries<T>(value: Record<string, T>, name: string): [string, T][] {
  return Object.entries(plain(value, name));
}

/**
 * A list, empty where there is none.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function list<T>(value: readonly T[] | undefined, name: string): readonly T[] {
  if (value !== undefined && !Array.isArray(value)) throw invalid(`${name} must be a list, not ${shown(value)}`);
  return value ?? [];
}

/** What a Map or a list holds is not in its keys, and would be no limit without a word. */
function plain<T>(value: T, name: string): T & object {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    const prototype = Object.getPrototypeOf(value);
    if (prototype === null || Object.getPrototypeOf(prototype) === null) return value;
  }
  throw invalid(`${name} must be a plain object, not ${shown(value)}`);
}

/** Anything, for the text of an error. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  return typeof value === 'object' && value !== null ? Object.prototype.toString.call(value) : String(value);
}
