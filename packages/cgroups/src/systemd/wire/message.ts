import { malformed } from './malformed.js';
import { Reader } from './read.js';
import { type Value, Variant } from './value.js';
import { Writer } from './write.js';

/** What a message is. */
const kinds = ['invalid', 'call', 'return', 'error', 'signal'] as const;

/** A message of D-Bus. */
export interface Message {
  kind: (typeof kinds)[number];
  serial: number;
  path?: string;
  interface?: string;
  member?: string;
  errorName?: string;
  /** Serial of the call that it answers. */
  replySerial?: number;
  destination?: string;
  sender?: string;
  signature?: string;
  body: readonly Value[];
}

/** Header fields by their number, with their type. */
const fields = [
  ['path', 1, 'o'],
  ['interface', 2, 's'],
  ['member', 3, 's'],
  ['errorName', 4, 's'],
  ['replySerial', 5, 'u'],
  ['destination', 6, 's'],
  ['sender', 7, 's'],
  ['signature', 8, 'g'],
] as const;

const VERSION = 1;
const LITTLE = 0x6c;
const BIG = 0x42;
/** Byte order to serial, and the length of the fields. */
const FIXED = 16;
/** The specification allows eight times as much; nobody who is asked here answers so. */
const LARGEST = 16 * 2 ** 20;

/** The bytes of a message. */
export function encode(message: Message): Buffer {
  const body = new Writer();
  body.all(message.signature ?? '', message.body);
  const header = new Writer();
  const present = fields.flatMap(([name, number, signature]): Value[] => {
    const value = message[name];
    return value === undefined || value === '' ? [] : [[number, new Variant(signature, value)]];
  });
  const kind = kinds.indexOf(message.kind);
  header.all('yyyyuua(yv)', [LITTLE, kind, 0, VERSION, body.bytes.length, message.serial, present]);
  header.align(8);
  return Buffer.concat([header.bytes, body.bytes]);
}

/**
 * How long the message is that begins here.
 *
 * @returns bytes; undefined where there are too few to tell
 * @throws CgroupError `EPROTO`
 */
export function lengthOf(bytes: Buffer): number | undefined {
  if (bytes.length < FIXED) return undefined;
  const little = isLittle(bytes);
  const word = (at: number) => (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at));
  const length = FIXED + Math.ceil(word(12) / 8) * 8 + word(4);
  if (length > LARGEST) throw malformed(`a message of ${length} bytes`);
  return length;
}

/**
 * Reads a whole message.
 *
 * @throws CgroupError `EPROTO`
 */
export function decode(bytes: Buffer): Message {
  if (lengthOf(bytes) !== bytes.length) throw malformed('a message of another length than it says');
  const little = isLittle(bytes);
  const reader = new Reader(bytes, little);
  const [, kind, , version, , serial, list] = reader.all('yyyyuua(yv)') as [
    number,
    number,
    number,
    number,
    number,
    number,
    [number, Variant][],
  ];
  if (version !== VERSION || kind === 0 || serial === 0) throw malformed('a header of another version');
  const message: Message = { kind: kinds[kind] ?? 'invalid', serial, body: [] };
  for (const [number, { signature, value }] of list) {
    // Fields of other numbers are for others.
    const field = fields.find((one) => one[1] === number);
    if (!field) continue;
    if (signature !== field[2]) throw malformed(`a header field ${number} of type ${signature}`);
    Object.assign(message, { [field[0]]: value });
  }
  reader.align(8);
  message.body = reader.all(message.signature ?? '');
  if (reader.at !== bytes.length) throw malformed('a message with something after its end');
  return message;
}

function isLittle(bytes: Buffer): boolean {
  if (bytes[0] !== LITTLE && bytes[0] !== BIG) throw malformed('a message of no byte order');
  return bytes[0] === LITTLE;
}
