import { isIPv4, isIPv6 } from 'node:net';
import { invalid } from '@iso/sys';

/** Internet Protocol version. */
export type Family = 4 | 6;

/**
 * The version of an address.
 *
 * @param address - as text
 * @returns 4 or 6
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no address
 */
export function familyOf(address: string): Family {
  if (isIPv4(address)) return 4;
  if (isIPv6(address) && !address.includes('%')) return 6;
  throw invalid(`not an IP address: ${JSON.stringify(address)}`);
}

/**
 * The bytes of an address.
 *
 * @param address - as text, without a zone
 * @returns 4 or 16 bytes in the network's order
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function ipBytes(address: string): Buffer {
  if (familyOf(address) === 4) return Buffer.from(address.split('.').map(Number));
  const bytes = Buffer.alloc(16);
  let text = address;
  const dotted = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address);
  if (dotted) {
    const [a, b, c, d] = (dotted[2] as string).split('.').map(Number) as [number, number, number, number];
    text = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head, tail] = text.split('::') as [string, string | undefined];
  const words = (part: string | undefined) => (part ? part.split(':').map((word) => Number.parseInt(word, 16)) : []);
  const [before, after] = [words(head), words(tail)];
  for (const [i, word] of before.entries()) bytes.writeUInt16BE(word, 2 * i);
  for (const [i, word] of after.entries()) bytes.writeUInt16BE(word, 2 * (8 - after.length + i));
  return bytes;
}

/**
 * An address as text, as inet_ntop(3) writes it.
 *
 * @param bytes - that hold it
 * @param at - where
 * @param length - 4 or 16
 * @returns for example `10.0.0.1`, `fe80::1`, `::ffff:10.0.0.1`
 */
export function ipText(bytes: Uint8Array, at = 0, length: number = bytes.length - at): string {
  if (length === 4) return dotted(bytes, at);
  if (length !== 16) throw invalid(`an IP address has 4 or 16 bytes, not ${length}`);
  const words: number[] = [];
  for (let i = 0; i < 8; i++) words.push(((bytes[at + 2 * i] as number) << 8) | (bytes[at + 2 * i + 1] as number));
  const { start, run } = longestZeros(words);
  const embeds = start === 0 && (run === 6 || (run === 5 && words[5] === 0xffff));
  const hex = (from: number, to: number) =>
    words
      .slice(from, to)
      .map((word) => word.toString(16))
      .join(':');
  if (embeds) return run === 6 ? `::${dotted(bytes, at + 12)}` : `::ffff:${dotted(bytes, at + 12)}`;
  if (run < 2) return hex(0, 8);
  return `${hex(0, start)}::${hex(start + run, 8)}`;
}

// Dumps are long: each half of an address becomes text once, and a gateway is that of many routes.
const halves: (string | undefined)[] = Array(65536).fill(undefined);
const ends: (string | undefined)[] = Array(65536).fill(undefined);
const RECENT = 256;
const recent = new Int32Array(RECENT);
const texts: string[] = Array(RECENT).fill('0.0.0.0');

/** Of two bytes, the first one the lower. */
function half(value: number): string {
  return (halves[value] ??= `${value & 0xff}.${value >> 8}`);
}

/**
 * An IPv4 address as text.
 *
 * @param word - its four bytes, the first one the lowest: as this machine reads them from memory
 * @returns for example `10.0.0.1`
 */
export function ip4Text(word: number): string {
  const place = (word ^ (word >>> 24)) & (RECENT - 1);
  if (recent[place] === word) return texts[place] as string;
  const end = word >>> 16;
  const text = half(word & 0xffff) + (ends[end] ??= `.${half(end)}`);
  recent[place] = word;
  texts[place] = text;
  return text;
}

function dotted(bytes: Uint8Array, at: number): string {
  const [a, b, c, d] = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]] as [number, number, number, number];
  return ip4Text(a | (b << 8) | (c << 16) | (d << 24));
}

function longestZeros(words: readonly number[]): { start: number; run: number } {
  let best = { start: 0, run: 0 };
  for (let i = 0; i < 8; i++) {
    let run = 0;
    while (i + run < 8 && words[i + run] === 0) run += 1;
    if (run > best.run) best = { start: i, run };
    i += run;
  }
  return best;
}

/** A block of addresses, or an address with the length of its network. */
export interface Prefix {
  family: Family;
  /** The address as it was written, host bits and all. */
  address: string;
  /** Bits of the network. */
  length: number;
}

/**
 * Reads `ADDRESS/LENGTH`; without a length it is one address.
 *
 * @param text - for example `10.0.0.1/24`, `fd00::/8`
 * @returns its parts
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function parsePrefix(text: string): Prefix {
  const [address, length, ...rest] = text.split('/') as [string, string | undefined];
  const family = familyOf(address);
  const bits = family === 4 ? 32 : 128;
  if (length === undefined) return { family, address, length: bits };
  if (rest.length || !/^\d{1,3}$/.test(length) || Number(length) > bits)
    throw invalid(`not a prefix length of 0 to ${bits}: ${JSON.stringify(text)}`);
  return { family, address, length: Number(length) };
}

/**
 * The last address of a block.
 *
 * @param address - any of its addresses
 * @param length - bits of the network
 * @returns its bytes
 */
export function lastOf(address: Uint8Array, length: number): Buffer {
  const last = Buffer.from(address);
  for (const [i, byte] of address.entries()) last[i] = byte | (0xff >> Math.min(Math.max(length - 8 * i, 0), 8));
  return last;
}

/**
 * An address as a number, for arithmetic.
 *
 * @param address - as text
 * @returns up to 128 bits
 */
export function ipNumber(address: string): bigint {
  return BigInt(`0x${ipBytes(address).toString('hex')}`);
}

/**
 * The reverse of {@link ipNumber}.
 *
 * @param value - the number
 * @param family - 4 or 6
 * @returns the address as text
 */
export function ipOf(value: bigint, family: Family): string {
  return ipText(Buffer.from(value.toString(16).padStart(family === 4 ? 8 : 32, '0'), 'hex'));
}

/**
 * First and last address of a block.
 *
 * @param prefix - text or parts
 * @returns both as numbers
 */
export function rangeOf(prefix: string | Prefix): { family: Family; first: bigint; last: bigint; length: number } {
  const { family, address, length } = typeof prefix === 'string' ? parsePrefix(prefix) : prefix;
  const hostBits = BigInt((family === 4 ? 32 : 128) - length);
  const first = (ipNumber(address) >> hostBits) << hostBits;
  return { family, first, last: first + (1n << hostBits) - 1n, length };
}

/**
 * The bytes of a link-layer address.
 *
 * @param text - six pairs of hexadecimal digits, with colons
 * @returns six bytes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function macBytes(text: string): Buffer {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) throw invalid(`not a MAC address: ${JSON.stringify(text)}`);
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

const hex = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, '0'));

/**
 * A link-layer address as text.
 *
 * @param bytes - that hold it
 * @param at - where it starts
 * @param end - where it ends
 * @returns pairs of hexadecimal digits, with colons
 */
export function macText(bytes: Uint8Array, at = 0, end: number = bytes.length): string {
  let text = '';
  for (let i = at; i < end; i++) text += i === at ? hex[bytes[i] as number] : `:${hex[bytes[i] as number]}`;
  return text;
}
