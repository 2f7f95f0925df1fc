import { ArchiveError } from './error.js';

/**
 * Decodes a number of a header: octal digits, or base 256 where the first bit is set.
 *
 * @param block - bytes
 * @param at - where the field begins
 * @param length - of the field
 * @returns the number
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER` for other bytes, and beyond 2^53
 */
export function parseNumber(block: Uint8Array, at: number, length: number): number {
  const first = block[at] as number;
  if (first & 0x80) return parseBinary(block, at, length);
  const end = at + length;
  let i = at;
  while (i < end && (block[i] === 0x20 || block[i] === 0)) i++;
  let value = 0;
  let digit = 0;
  for (; i < end; i++) {
    digit = (block[i] as number) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  if (i < end && block[i] !== 0x20 && block[i] !== 0) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'not a number');
  return value;
}

/** Two's complement, big-endian; the highest bit is the mark, the second one the sign. */
function parseBinary(block: Uint8Array, at: number, length: number): number {
  const negative = ((block[at] as number) & 0x40) !== 0;
  let value = 0n;
  for (let i = 0; i < length; i++) {
    const byte = block[at + i] as number;
    value = (value << 8n) | BigInt(i === 0 ? byte & 0x7f : byte);
  }
  if (negative) value -= 1n << BigInt(8 * length - 1);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a number is too large');
  return number;
}

/**
 * Whether a number fits a field as octal digits.
 *
 * @param value - the number
 * @param length - of the field, with its final NUL
 * @returns whether it fits
 */
export function fitsOctal(value: number, length: number): boolean {
  return value >= 0 && value < 8 ** (length - 1);
}

/**
 * Writes a number as octal digits with a final NUL.
 *
 * @param block - bytes
 * @param at - where the field begins
 * @param length - of the field
 * @param value - a number that fits
 */
export function writeOctal(block: Buffer, at: number, length: number, value: number): void {
  block.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
}

/**
 * Decodes a whole number of decimal digits, as extended records have them.
 *
 * @param text - digits
 * @param what - for the message
 * @returns the number
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER`
 */
export function parseDecimal(text: string, what: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw new ArchiveError('ERR_ARCHIVE_HEADER', `${what} is not a number: ${text}`);
  return value;
}
