import { ipText } from '../../ip/ip.js';
import { TYPE } from './message.js';

const HEADER = 12;
const CNAME = 5;
const CLASS_IN = 1;
/** Names that lead from one to the next; longer chains are not followed by resolvers either. */
const CHAIN = 16;
const POINTERS = 64;

/** An address that an answer gave. */
export interface GivenAddress {
  address: string;
  /** Seconds for which it counts. */
  ttl: number;
}

interface Entry {
  owner: string;
  ttl: number;
  address?: string;
  target?: string;
}

/**
 * The addresses that an answer gives to the name that was asked for: its own, and those of the names that it leads to. Others that
 * stand in the message were not asked for.
 *
 * @param bytes - the answer
 * @param name - that was asked for, lower case
 * @param at - where its question ends
 * @returns none where it is malformed
 */
export function givenAddresses(bytes: Buffer, name: string, at: number): GivenAddress[] {
  const entries = readEntries(bytes, at);
  const given: GivenAddress[] = [];
  let owner = name;
  let ttl = 0xffffffff;
  for (let i = 0; i < CHAIN; i++) {
    for (const entry of entries)
      if (entry.owner === owner && entry.address !== undefined)
        given.push({ address: entry.address, ttl: Math.min(ttl, entry.ttl) });
    const next = entries.find((entry) => entry.owner === owner && entry.target !== undefined);
    if (next?.target === undefined) break;
    ttl = Math.min(ttl, next.ttl);
    owner = next.target;
  }
  return given;
}

function readEntries(bytes: Buffer, from: number): Entry[] {
  const entries: Entry[] = [];
  const count = bytes.length < HEADER ? 0 : bytes.readUInt16BE(6);
  let at = from;
  for (let i = 0; i < count; i++) {
    const owner = readPointed(bytes, at);
    if (!owner || owner.end + 10 > bytes.length) break;
    const { end } = owner;
    const [type, kind] = [bytes.readUInt16BE(end), bytes.readUInt16BE(end + 2)];
    const length = bytes.readUInt16BE(end + 8);
    const data = end + 10;
    at = data + length;
    if (at > bytes.length) break;
    // A time with the highest bit set counts as none, RFC 2181.
    const ttl = bytes.readUInt32BE(end + 4);
    const entry: Entry = { owner: owner.name, ttl: ttl > 0x7fffffff ? 0 : ttl };
    if (kind !== CLASS_IN) continue;
    if ((type === TYPE.A && length === 4) || (type === TYPE.AAAA && length === 16))
      entry.address = ipText(bytes, data, length);
    else if (type === CNAME) entry.target = readPointed(bytes, data)?.name ?? '';
    else continue;
    entries.push(entry);
  }
  return entries;
}

/** A name that may go on elsewhere in the message. */
function readPointed(bytes: Buffer, from: number): { name: string; end: number } | undefined {
  const labels: string[] = [];
  let end: number | undefined;
  let at = from;
  for (let jumps = 0; jumps < POINTERS; ) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if ((length & 0xc0) === 0xc0) {
      if (at + 1 >= bytes.length) return undefined;
      end ??= at + 2;
      at = bytes.readUInt16BE(at) & 0x3fff;
      jumps += 1;
      continue;
    }
    if (length > 63) return undefined;
    if (length === 0) return { name: labels.join('.').toLowerCase(), end: end ?? at + 1 };
    if (at + 1 + length > bytes.length || labels.length > 127) return undefined;
    labels.push(bytes.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  return undefined;
}
