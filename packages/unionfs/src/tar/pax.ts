import { ArchiveError } from './error.js';

/** Records of an extended header, see pax(1). Keys are binary strings, values bytes. */
export type PaxRecords = Map<string, Buffer>;

/** Records of the sparse format 0.0 repeat these keys; all of their values are kept, in order. */
export interface ParsedPax {
  records: PaxRecords;
  /** `GNU.sparse.offset` and `GNU.sparse.numbytes` in turn. */
  sparse: string[];
}

/**
 * Parses the body of an extended header: `length key=value\n`, again and again.
 *
 * @param body - all of it
 * @returns the records; of a key that stands twice the last one
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER`
 */
export function parsePax(body: Buffer): ParsedPax {
  const records: PaxRecords = new Map();
  const sparse: string[] = [];
  let at = 0;
  while (at < body.length) {
    // Programs pad the last block with NULs.
    if (body[at] === 0) {
      if (body.subarray(at).some((byte) => byte !== 0)) throw malformed('a record has no length');
      break;
    }
    let length = 0;
    let space = at;
    for (; space < at + 8 && isDigit(body[space]); space++) length = length * 10 + (body[space] as number) - 0x30;
    const end = at + length;
    if (body[space] !== 0x20 || end > body.length || end < space + 3 || body[end - 1] !== 0x0a) {
      throw malformed('a wrong length');
    }
    let equals = space + 1;
    while (equals < end && body[equals] !== 0x3d) equals++;
    if (equals === end || equals === space + 1) throw malformed('a record without a key');
    const key = body.toString('latin1', space + 1, equals);
    at = end;
    if (key === 'atime' || key === 'ctime') continue;
    const value = body.subarray(equals + 1, end - 1);
    if (key.includes('\0')) throw malformed('a key with NUL');
    if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes') {
      if ((key === 'GNU.sparse.offset') !== (sparse.length % 2 === 0)) throw malformed('a sparse map out of order');
      sparse.push(value.toString('latin1'));
    } else records.set(key, value);
  }
  return { records, sparse };
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 0x30 && byte <= 0x39;
}

function malformed(what: string): ArchiveError {
  return new ArchiveError('ERR_ARCHIVE_HEADER', `an extended header is malformed: ${what}`);
}

/**
 * One record. Its length counts itself.
 *
 * @param key - binary string
 * @param value - bytes
 * @returns the record's bytes
 */
export function paxRecord(key: string, value: Uint8Array): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  if (String(length).length + rest !== length) length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, 'latin1'), value, Buffer.from('\n')]);
}

/**
 * Parses a time: seconds with a fraction, maybe negative. What is finer than nanoseconds is cut off.
 *
 * @param text - for example `1700000000.123456789`
 * @returns nanoseconds
 * @throws {@link ArchiveError} `ERR_ARCHIVE_HEADER`
 */
export function parseTime(text: string): bigint {
  if (!/^-?\d{1,18}(\.\d*)?$/.test(text)) {
    throw new ArchiveError('ERR_ARCHIVE_HEADER', `not a time: ${text.slice(0, 64)}`);
  }
  const dot = text.indexOf('.');
  const seconds = dot < 0 ? text : text.slice(0, dot);
  const nanoseconds = dot < 0 ? '' : text.slice(dot + 1, dot + 10);
  return BigInt(seconds + nanoseconds.padEnd(9, '0'));
}

/**
 * The shortest text of a time.
 *
 * @param time - nanoseconds
 * @returns seconds with a fraction where there is one
 */
export function timeText(time: bigint): string {
  const absolute = time < 0n ? -time : time;
  const fraction = String(absolute % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${time < 0n ? '-' : ''}${absolute / 1_000_000_000n}${fraction && `.${fraction}`}`;
}

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

/**
 * The extended attributes among records: as star, GNU tar and Go write them, and as libarchive does. Where both say something
 * of one attribute, it must be the same.
 *
 * @param records - of an extended header
 * @returns attributes, none where there are none
 * @throws {@link ArchiveError} `ERR_ARCHIVE_AMBIGUOUS`
 */
export function paxXattrs(records: PaxRecords): Map<string, Buffer> | undefined {
  let xattrs: Map<string, Buffer> | undefined;
  const add = (name: string, value: Buffer) => {
    xattrs ??= new Map();
    const other = xattrs.get(name);
    if (other && !other.equals(value)) {
      throw new ArchiveError('ERR_ARCHIVE_AMBIGUOUS', `two values of the extended attribute ${name}`);
    }
    xattrs.set(name, Buffer.from(value));
  };
  for (const [key, value] of records) {
    if (key.startsWith(SCHILY)) add(key.slice(SCHILY.length), value);
    else if (key.startsWith(LIBARCHIVE)) {
      const name = key
        .slice(LIBARCHIVE.length)
        .replace(/%([0-9A-Fa-f]{2})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 16)));
      add(name, Buffer.from(value.toString('latin1'), 'base64'));
    }
  }
  return xattrs;
}

/**
 * The key under which an attribute is written.
 *
 * @param name - binary string
 * @returns for example `SCHILY.xattr.user.comment`
 */
export function xattrKey(name: string): string {
  return SCHILY + name;
}
