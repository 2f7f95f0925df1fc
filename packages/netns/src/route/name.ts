import { invalid } from '@iso/sys';

/**
 * Checks the name of a link.
 *
 * @param name - to be used
 * @returns it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what the kernel refuses, and for `%`, which it would expand
 */
export function linkName(name: string): string {
  const length = Buffer.byteLength(name);
  if (length < 1 || length > 15)
    throw invalid(`a link's name has 1 to 15 bytes: ${JSON.stringify(name)} has ${length}`);
  return checked(name);
}

/**
 * Checks an alternative name of a link.
 *
 * @param name - up to 127 bytes
 * @returns it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function alternativeName(name: string): string {
  const length = Buffer.byteLength(name);
  if (length < 1 || length > 127) throw invalid(`an alternative name has 1 to 127 bytes, not ${length}`);
  return checked(name);
}

function checked(name: string): string {
  if (name === '.' || name === '..' || /[/:%\s\0]/.test(name))
    throw invalid(`not a name of a link: ${JSON.stringify(name)}`);
  return name;
}

/**
 * The number behind a word, or the number itself.
 *
 * @param words - word to number
 * @param value - a word or a number
 * @param what - for the error
 * @returns the number
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an unknown word
 */
export function numberOf<K extends string>(
  words: Readonly<Record<K, number>>,
  value: K | number,
  what: string,
): number {
  if (typeof value === 'number') return value;
  if (Object.hasOwn(words, value)) return words[value];
  throw invalid(`not ${what}: ${JSON.stringify(value)}; there are ${Object.keys(words).join(', ')}`);
}

/**
 * The word for a number.
 *
 * @param words - word to number
 * @param value - the number
 * @returns the word; the number where there is none
 */
export function wordOf<K extends string>(words: Readonly<Record<K, number>>, value: number): K | number {
  for (const word in words) if (words[word] === value) return word;
  return value;
}
