import type { EntryType } from './entry.js';
import { ArchiveError } from './error.js';
import { parseNumber } from './number.js';
import { readPairs } from './sparse.js';

export const BLOCK = 512;

/** Where the fields of a header lie, see tar(5). */
export const FIELD = {
  name: { at: 0, length: 100 },
  mode: { at: 100, length: 8 },
  uid: { at: 108, length: 8 },
  gid: { at: 116, length: 8 },
  size: { at: 124, length: 12 },
  mtime: { at: 136, length: 12 },
  checksum: { at: 148, length: 8 },
  type: 156,
  linkname: { at: 157, length: 100 },
  magic: 257,
  uname: { at: 265, length: 32 },
  gname: { at: 297, length: 32 },
  devmajor: { at: 329, length: 8 },
  devminor: { at: 337, length: 8 },
  prefix: { at: 345, length: 155 },
} as const;

/** A header of an extended header or a long name: nothing in it counts but its size. */
export interface SpecialHeader {
  special: true;
  type: string;
  size: number;
}

/** A header as it stands, before what extended headers say of the entry. */
export interface RawHeader {
  special: false;
  /** Character of the type field; NUL is `'0'` here. */
  type: string;
  /** The type field is NUL, as Unix V7 wrote it. */
  v7: boolean;
  name: Buffer;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  linkname: Buffer;
  uname: Buffer;
  gname: Buffer;
  devmajor: number;
  devminor: number;
  /** GNU's old sparse headers: their pairs, the real size, and whether more blocks of pairs follow. */
  sparse: { parts: number[]; size: number; more: boolean } | undefined;
}

/** The types that entries can have, by their character. */
export const ENTRY_TYPES: Readonly<Record<string, EntryType>> = {
  '0': 'file',
  '1': 'link',
  '2': 'symlink',
  '3': 'character',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file',
  S: 'file',
};

/** The words of the memory that headers lie in, one after the other in the same; a large one is not kept for that. */
let words: Uint32Array = new Uint32Array(0);
const WORDS_MAX = 1 << 23;

/**
 * Sum of a header's bytes, its checksum field taken as spaces.
 *
 * @param block - bytes
 * @param at - where the header begins
 * @returns the sum
 */
export function checksum(block: Uint8Array, at: number): number {
  let sum = 8 * 0x20;
  for (let i = at + FIELD.checksum.at; i < at + FIELD.type; i++) sum -= block[i] as number;
  const start = block.byteOffset + at;
  if (start % 4 || block.buffer.byteLength > WORDS_MAX) {
    for (let i = at; i < at + BLOCK; i++) sum += block[i] as number;
    return sum;
  }
  if (words.buffer !== block.buffer) words = new Uint32Array(block.buffer, 0, block.buffer.byteLength >> 2);
  // Four bytes at a time, in two halves of a word that 128 times two bytes do not fill.
  let pairs = 0;
  for (let i = start >> 2; i < (start + BLOCK) >> 2; i++) {
    const word = words[i] as number;
    pairs = (pairs + (word & 0xff00ff) + ((word >>> 8) & 0xff00ff)) | 0;
  }
  return sum + (pairs & 0xffff) + (pairs >>> 16);
}

/** The same of bytes with a sign, as some old programs have them. */
function signedChecksum(block: Uint8Array, at: number): number {
  let sum = checksum(block, at);
  for (let i = at; i < at + BLOCK; i++) {
    const counts = i < at + FIELD.checksum.at || i >= at + FIELD.type;
    if (counts && (block[i] as number) > 127) sum -= 256;
  }
  return sum;
}

/**
 * Whether a block holds nothing but zeros.
 *
 * @param block - bytes
 * @param at - where it begins
 * @returns whether it does
 */
export function isZero(block: Uint8Array, at: number): boolean {
  for (let i = at; i < at + BLOCK; i++) if (block[i] !== 0) return false;
  return true;
}

/**
 * Parses a header.
 *
 * @param block - bytes, of which nothing is kept
 * @param at - where the header begins
 * @returns its fields
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER` for a wrong checksum or a field that is no number; `ERR_ARCHIVE_AMBIGUOUS` where it
 * depends on the program which fields there are
 */
export function parseHeader(block: Buffer, at: number): RawHeader | SpecialHeader {
  const told = number(block, at, FIELD.checksum);
  if (told !== checksum(block, at) && told !== signedChecksum(block, at))
    throw new ArchiveError('ERR_ARCHIVE_HEADER', 'a wrong checksum');
  const code = block[at + FIELD.type] as number;
  const type = code === 0 ? '0' : String.fromCharCode(code);
  const size = number(block, at, FIELD.size);
  if (type === 'x' || type === 'g' || type === 'L' || type === 'K') return { special: true, type, size };
  const ustar = matches(block, at + FIELD.magic, USTAR);
  const gnu = ustar && matches(block, at + FIELD.magic, GNU);
  const posix = ustar && !gnu;
  if (gnu ? type !== 'S' && !isEmpty(block, at, GNU_SPARSE) : !matches(block, at + FIELD.magic, POSIX)) {
    // GNU tar has times there and, of sparse files, a map, which libarchive reads of any; Python has a prefix, and Go where GNU's are no times.
    if (gnu || !isEmpty(block, at, FIELD.prefix)) throw unclear();
  }
  if (gnu) for (const field of GNU_TIMES) number(block, at, field);
  const star = posix && matches(block, at + 508, STAR);
  let name = text(block, at, FIELD.name);
  if (posix) {
    const prefix = text(block, at, star ? { at: FIELD.prefix.at, length: 131 } : FIELD.prefix);
    if (prefix.length) name = Buffer.concat([prefix, SLASH, name]);
  }
  const special = type === '3' || type === '4';
  let sparse: RawHeader['sparse'];
  if (type === 'S') {
    const parts: number[] = [];
    readPairs(block, at + 386, 4, parts);
    sparse = { parts, size: parseNumber(block, at + 483, 12), more: block[at + 482] !== 0 };
  }
  return {
    special: false,
    type,
    v7: code === 0,
    name,
    mode: number(block, at, FIELD.mode),
    uid: number(block, at, FIELD.uid),
    gid: number(block, at, FIELD.gid),
    size,
    mtime: number(block, at, FIELD.mtime),
    linkname: text(block, at, FIELD.linkname),
    uname: posix || gnu ? owner(block, at, 'uname') : EMPTY,
    gname: posix || gnu ? owner(block, at, 'gname') : EMPTY,
    devmajor: special ? number(block, at, FIELD.devmajor) : 0,
    devminor: special ? number(block, at, FIELD.devminor) : 0,
    sparse,
  };
}

const USTAR = Buffer.from('ustar');
const POSIX = Buffer.from('ustar\x0000');
const GNU = Buffer.from('ustar  \0');
/** Of GNU's headers: atime, ctime, offset; what belongs to multi-volume archives and sparse files. */
const GNU_TIMES = [345, 357, 369].map((at) => ({ at, length: 12 }));
const GNU_SPARSE = { at: 381, length: 119 };
const STAR = Buffer.from('tar\0');
const SLASH = Buffer.from('/');
const EMPTY = Buffer.alloc(0);

function number(block: Buffer, at: number, field: { at: number; length: number }): number {
  return parseNumber(block, at + field.at, field.length);
}

function isEmpty(block: Buffer, at: number, field: { at: number; length: number }): boolean {
  const end = at + field.at + field.length;
  for (let i = at + field.at; i < end; i++) if (block[i] !== 0) return false;
  return true;
}

function unclear(): ArchiveError {
  return new ArchiveError(
    'ERR_ARCHIVE_AMBIGUOUS',
    'a header that is of no format, with what could be a prefix of the name',
  );
}

function matches(block: Buffer, at: number, bytes: Buffer): boolean {
  for (let i = 0; i < bytes.length; i++) if (block[at + i] !== bytes[i]) return false;
  return true;
}

/** A copy of a field's bytes up to the first NUL. */
function text(block: Buffer, at: number, field: { at: number; length: number }): Buffer {
  const start = at + field.at;
  let length = 0;
  while (length < field.length && block[start + length] !== 0) length++;
  if (length === 0) return EMPTY;
  const bytes = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) bytes[i] = block[start + i] as number;
  return bytes;
}

/** The owners' names of the last header: neighbours in an archive have the same. */
const owners: Record<'uname' | 'gname', Buffer> = { uname: EMPTY, gname: EMPTY };

function owner(block: Buffer, at: number, name: 'uname' | 'gname'): Buffer {
  const field = FIELD[name];
  const start = at + field.at;
  if (block[start] === 0) return EMPTY;
  const last = owners[name];
  const ended = last.length === field.length || block[start + last.length] === 0;
  if (last.length > 0 && ended && matches(block, start, last)) return last;
  owners[name] = text(block, at, field);
  return owners[name];
}
