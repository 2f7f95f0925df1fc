import { inspect } from 'node:util';
import { invalid } from '@iso/sys';

/** What is asked of arguments, in words. */
const KINDS = {
  'a path': (value: unknown) => typeof value === 'string' && value !== '' && !value.includes('\0'),
  'a path or an open directory': (value: unknown) => typeof value === 'string' || has(value, 'number', 'number'),
  'a path or bytes as they come': (value: unknown) =>
    typeof value === 'string' || (typeof value === 'object' && value !== null && Symbol.asyncIterator in value),
  'a name': (value: unknown) => typeof value === 'string',
  'options: { … }': (value: unknown) => typeof value === 'object' && value !== null,
  'a positive integer': (value: unknown) => Number.isSafeInteger(value) && (value as number) > 0,
  'a list': (value: unknown) => Array.isArray(value),
  'an image layout, as ImageLayout.open() gives': (value: unknown) => has(value, 'content', 'object'),
  'a store, as openStore() gives': (value: unknown) => has(value, 'applyLayer', 'function'),
  'an image, as layout.image() gives': (value: unknown) => has(value, 'layers', 'object'),
  'an image, as layout.image() gives, or a descriptor': (value: unknown) =>
    has(value, 'descriptor', 'object') || has(value, 'digest', 'string'),
} as const;

/**
 * Refuses an argument that types would have refused, for programs without types: what else comes of it says nothing to who gave it.
 *
 * @param name - of the argument
 * @param value - that was given
 * @param kind - what it must be
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function checkArgument(name: string, value: unknown, kind: keyof typeof KINDS): void {
  if (KINDS[kind](value)) return;
  const given = inspect(value, { depth: 0, breakLength: Number.POSITIVE_INFINITY, maxStringLength: 100 });
  throw invalid(`${name} is ${given}: not ${kind}`);
}

/** Not instanceof: there may be two copies of this package. */
function has(value: unknown, key: string, type: string): boolean {
  return typeof value === 'object' && value !== null && typeof (value as Record<string, unknown>)[key] === type;
}
