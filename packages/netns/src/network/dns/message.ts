import { ipBytes } from '../../ip/ip.js';

/** Types of records, RFC 1035 and 3596. */
export const TYPE = { A: 1, PTR: 12, AAAA: 28, OPT: 41, ANY: 255 } as const;
/** Codes of answers. */
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5 } as const;
const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080 } as const;
const OPCODE = 0x7800;
const HEADER = 12;
const CLASS_IN = 1;
const LEAST_SIZE = 512;
const MOST_SIZE = 4096;

/** A question as it came. */
export interface Query {
  id: number;
  /** Whether it is a standard query with one question of class IN. */
  plain: boolean;
  /** In lower case, without the final dot; asked names differ in case to be harder to forge. */
  name: string;
  type: number;
  /** Where the question ends in the message. */
  end: number;
  /** Bytes that the asker takes by UDP. */
  size: number;
  /** Whether the asker speaks EDNS. */
  edns: boolean;
}

/** A record of an answer: an address, or a name for a PTR. */
export type Answer =
  | { type: typeof TYPE.A | typeof TYPE.AAAA; address: string }
  | { type: typeof TYPE.PTR; name: string };

/**
 * Reads a query.
 *
 * @param bytes - the message
 * @returns it; undefined for what is none: too short, malformed, an answer
 */
export function readQuery(bytes: Buffer): Query | undefined {
  if (bytes.length < HEADER) return undefined;
  const flags = bytes.readUInt16BE(2);
  if (flags & FLAG.QR) return undefined;
  const counts = [4, 6, 8, 10].map((at) => bytes.readUInt16BE(at)) as [number, number, number, number];
  const found = readName(bytes, HEADER);
  if (counts[0] < 1 || !found || found.end + 4 > bytes.length) return undefined;
  const { name, end } = found;
  const query: Query = {
    id: bytes.readUInt16BE(0),
    plain: (flags & OPCODE) === 0 && counts[0] === 1 && bytes.readUInt16BE(end + 2) === CLASS_IN,
    name,
    type: bytes.readUInt16BE(end),
    end: end + 4,
    size: LEAST_SIZE,
    edns: false,
  };
  // The pseudo record of EDNS stands at the root.
  const at = query.end;
  if (counts[1] === 0 && counts[2] === 0 && counts[3] > 0 && at + 11 <= bytes.length && bytes[at] === 0) {
    if (bytes.readUInt16BE(at + 1) === TYPE.OPT) {
      query.edns = true;
      query.size = Math.min(MOST_SIZE, Math.max(LEAST_SIZE, bytes.readUInt16BE(at + 3)));
    }
  }
  return query;
}

/** Labels up to the root; pointers have no place in a question. */
function readName(bytes: Buffer, from: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let at = from;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > 63 || at - from > 254) return undefined;
    if (length === 0) return { name: labels.join('.').toLowerCase(), end: at + 1 };
    if (at + 1 + length > bytes.length) return undefined;
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
}

/**
 * Writes an answer. The question is repeated as it came, case and all.
 *
 * @param bytes - the query
 * @param query - as it was read
 * @param code - of {@link RCODE}
 * @param answers - records, each to live for no time
 * @param size - bytes that the answer may have; beyond, it is cut and says so
 * @returns the message
 */
export function writeAnswer(
  bytes: Buffer,
  query: Query,
  code: number,
  answers: readonly Answer[],
  size: number,
): Buffer {
  const records = answers.map(record);
  const tail = query.edns
    ? Buffer.from([0, 0, TYPE.OPT, MOST_SIZE >> 8, MOST_SIZE & 255, 0, 0, 0, 0, 0, 0])
    : Buffer.alloc(0);
  const whole = query.end + tail.length + records.reduce((sum, each) => sum + each.length, 0);
  const fits = whole <= size;
  const header = Buffer.from(bytes.subarray(0, query.end));
  const asked = bytes.readUInt16BE(2) & (FLAG.RD | OPCODE);
  header.writeUInt16BE(FLAG.QR | FLAG.AA | FLAG.RA | asked | (fits ? 0 : FLAG.TC) | code, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(fits ? records.length : 0, 6);
  header.writeUInt16BE(0, 8);
  header.writeUInt16BE(query.edns ? 1 : 0, 10);
  return Buffer.concat([header, ...(fits ? records : []), tail]);
}

function record(answer: Answer): Buffer {
  const data = answer.type === TYPE.PTR ? nameBytes(answer.name) : ipBytes(answer.address);
  const head = Buffer.alloc(12);
  // The name is the question's.
  head.writeUInt16BE(0xc000 | HEADER, 0);
  head.writeUInt16BE(answer.type, 2);
  head.writeUInt16BE(CLASS_IN, 4);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

function nameBytes(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.from(label, 'latin1'));
  return Buffer.concat([...labels.flatMap((label) => [Buffer.from([label.length]), label]), Buffer.alloc(1)]);
}

/**
 * Whether a message answers a query, and not another one.
 *
 * @param bytes - the message
 * @param query - the query's bytes
 * @param end - where its question ends
 * @returns false for what was forged blindly
 */
export function answers(bytes: Buffer, query: Buffer, end: number): boolean {
  if (bytes.length < end || bytes.readUInt16BE(0) !== query.readUInt16BE(0)) return false;
  return (bytes.readUInt16BE(2) & FLAG.QR) !== 0 && bytes.subarray(HEADER, end).equals(query.subarray(HEADER, end));
}

/**
 * The address that a name of a reverse lookup means.
 *
 * @param name - under `in-addr.arpa` or `ip6.arpa`, lower case
 * @returns the address as text, undefined for any other name
 */
export function reverseAddress(name: string): string | undefined {
  const four = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (four) return four.slice(1).reverse().join('.');
  if (!/^([0-9a-f]\.){32}ip6\.arpa$/.test(name)) return undefined;
  const digits = name.slice(0, 64).split('.').slice(0, 32).reverse().join('');
  return digits.match(/.{4}/g)?.join(':');
}
