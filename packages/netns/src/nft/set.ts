import { invalid } from '@iso/sys';
import { ipOf, parsePrefix, rangeOf } from '../ip/ip.js';
import type { Message } from '../netlink/message.js';
import { writeData, writeVerdict } from './data.js';
import { type FieldType, type TypeName, typeOf } from './field.js';
import { NFTA_LIST_ELEM, NFTA_SET_ELEM, SET_ELEM_INTERVAL_END, type SET_FLAGS } from './raw.js';
import type { Verdict } from './statement.js';
import type { TableRef } from './table.js';

/** A set, or with `data` a map, as it is to be. */
export interface SetSpec {
  table: TableRef;
  name: string;
  /** Types of the fields of a key. */
  key: TypeName | readonly TypeName[];
  /** Types of what a map leads to. */
  data?: TypeName | readonly TypeName[] | 'verdict';
  /** `interval` for prefixes and ranges, `timeout` for elements that end. */
  flags?: readonly Exclude<keyof typeof SET_FLAGS, 'map' | 'concat'>[];
  /** Milliseconds after which elements end that say nothing else. */
  timeout?: number;
  /** Elements at the most. */
  size?: number;
}

/** A value of one field in a key: with flag `interval` also a prefix, or a range. */
export type KeyPart = string | number | { from: string | number; to: string | number };

/** An element of a set or map. */
export interface SetElement {
  key: KeyPart | readonly KeyPart[];
  /** What a map leads to. */
  data?: string | number | readonly (string | number)[] | Verdict;
  /** Milliseconds after which it ends, in a set with flag `timeout`. */
  timeout?: number;
  comment?: string;
}

/** The types of a key or of data. */
export function typesOf(names: TypeName | readonly TypeName[]): FieldType[] {
  return (typeof names === 'string' ? [names] : names).map(typeOf);
}

/** Bytes that types take together: in a concatenation each starts at a multiple of four. */
export function sizeOf(types: readonly FieldType[]): number {
  const [only] = types;
  return types.length === 1 && only ? only.size : types.reduce((sum, type) => sum + padded(type), 0);
}

/**
 * Adds an element to a list of them: a range without concatenation is two.
 *
 * @param message - inside of the list
 * @param set - that it belongs to
 * @param element - the element
 * @param withData - whether it is added, not removed
 */
export function writeElement(message: Message, set: SetSpec, element: SetElement, withData: boolean): void {
  const types = typesOf(set.key);
  const parts = Array.isArray(element.key) ? (element.key as readonly KeyPart[]) : [element.key as KeyPart];
  if (parts.length !== types.length)
    throw invalid(`a key of set ${set.name} has ${types.length} fields, not ${parts.length}`);
  const interval = set.flags?.includes('interval') ?? false;
  const bounds = parts.map((part, i) => boundsOf(types[i] as FieldType, part, interval));
  const joined = (end: 'from' | 'to') =>
    Buffer.concat(bounds.map((bound, i) => (types.length === 1 ? bound[end] : pad(bound[end], types[i] as FieldType))));
  const [from, to] = [joined('from'), joined('to')];
  message.nest(NFTA_LIST_ELEM, () => {
    writeData(message, NFTA_SET_ELEM.KEY, from);
    if (interval && types.length > 1) writeData(message, NFTA_SET_ELEM.KEY_END, to);
    if (withData) writeMore(message, set, element);
  });
  const next = interval && types.length === 1 ? successor(to) : undefined;
  if (next) {
    message.nest(NFTA_LIST_ELEM, () => {
      message.u32be(NFTA_SET_ELEM.FLAGS, SET_ELEM_INTERVAL_END);
      writeData(message, NFTA_SET_ELEM.KEY, next);
    });
  }
}

function writeMore(message: Message, set: SetSpec, element: SetElement): void {
  const { data, timeout, comment } = element;
  if ((data === undefined) !== (set.data === undefined))
    throw invalid(`an element of ${set.name} ${set.data === undefined ? 'has no' : 'needs'} data`);
  if (data !== undefined && set.data !== undefined) {
    if (set.data === 'verdict') message.nest(NFTA_SET_ELEM.DATA, () => writeVerdict(message, data as Verdict));
    else {
      const types = typesOf(set.data);
      const values = (Array.isArray(data) ? data : [data]) as readonly (string | number)[];
      if (values.length !== types.length)
        throw invalid(`data of map ${set.name} has ${types.length} fields, not ${values.length}`);
      const bytes = values.map((value, i) => {
        const type = types[i] as FieldType;
        return types.length === 1 ? type.encode(value) : pad(type.encode(value), type);
      });
      writeData(message, NFTA_SET_ELEM.DATA, Buffer.concat(bytes));
    }
  }
  if (timeout !== undefined) message.u64be(NFTA_SET_ELEM.TIMEOUT, timeout);
  if (comment !== undefined) message.raw(NFTA_SET_ELEM.USERDATA, commentBytes(comment));
}

/**
 * A comment as nft keeps it in user data: type, length, text.
 *
 * @param comment - up to 128 bytes
 * @returns its bytes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function commentBytes(comment: string): Buffer {
  const text = Buffer.from(`${comment}\0`);
  if (text.length > 129) throw invalid(`a comment has 128 bytes at the most, not ${text.length - 1}`);
  return Buffer.concat([Buffer.from([0, text.length]), text]);
}

function boundsOf(type: FieldType, part: KeyPart, interval: boolean): { from: Buffer; to: Buffer } {
  if (typeof part === 'object') {
    if (!interval) throw invalid('a range needs a set with flag interval');
    const [from, to] = [type.encode(part.from), type.encode(part.to)];
    if (Buffer.compare(from, to) > 0) throw invalid(`a range that ends before it starts: ${part.from} to ${part.to}`);
    return { from, to };
  }
  if (typeof part === 'string' && part.includes('/') && (type.name === 'ipv4_addr' || type.name === 'ipv6_addr')) {
    if (!interval) throw invalid('a prefix needs a set with flag interval');
    const { family } = parsePrefix(part);
    const { first, last } = rangeOf(part);
    return { from: type.encode(ipOf(first, family)), to: type.encode(ipOf(last, family)) };
  }
  const value = type.encode(part);
  return { from: value, to: value };
}

/** The value behind the last of a range; none behind the very last. */
function successor(bytes: Buffer): Buffer | undefined {
  const next = BigInt(`0x${bytes.toString('hex')}`) + 1n;
  const hex = next.toString(16).padStart(bytes.length * 2, '0');
  return hex.length > bytes.length * 2 ? undefined : Buffer.from(hex, 'hex');
}

function padded(type: FieldType): number {
  return (type.size + 3) & ~3;
}

function pad(bytes: Buffer, type: FieldType): Buffer {
  return Buffer.concat([bytes], padded(type));
}
