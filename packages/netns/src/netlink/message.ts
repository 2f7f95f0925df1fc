import { invalid } from '@iso/sys';
import { ATTRIBUTE, align, HEADER, NLA_F_NESTED, NLM_F } from './raw.js';

/** Names of attribute types, by which errors speak: the constants of a level, such as `IFLA`. */
export type AttributeNames = Readonly<Record<string, number>>;

const MAX_ATTRIBUTE = 0xffff;

/**
 * A request in the making: header, family header, attributes. The socket adds sequence number and port when it is sent.
 * Numbers are checked: what does not fit its field is a `TypeError`, not cut.
 *
 * @example
 * ```ts
 * import { Message } from '@iso/netns/netlink';
 * const message = new Message('RTM_GETLINK', 18).header(16).string(3, 'lo');
 * if (message.bytes.length !== 16 + 16 + 8) throw new Error('misaligned');
 * ```
 */
export class Message {
  /** What errors call it. */
  readonly call: string;
  #bytes: Buffer;
  #length = HEADER;
  readonly #names: AttributeNames | undefined;
  readonly #nests: { start: number; end: number; names: AttributeNames | undefined }[] = [];

  /**
   * @param call - what it asks, for errors: the type's name and its object
   * @param type - number of the message type
   * @param flags - beside NLM_F_REQUEST; the socket asks for the acknowledgement
   * @param names - of its attributes, for errors
   */
  constructor(call: string, type: number, flags = 0, names?: AttributeNames) {
    this.call = call;
    // Out of memory that Node has at hand, which a buffer of zeros is not.
    this.#bytes = Buffer.allocUnsafe(256).fill(0);
    this.#names = names;
    this.#bytes.writeUInt16LE(type, 4);
    this.#bytes.writeUInt16LE(flags | NLM_F.REQUEST, 6);
  }

  /** Number of its type. */
  get type(): number {
    return this.#bytes.readUInt16LE(4);
  }

  /**
   * Appends a structure that says its own length in its first two bytes, with attributes behind it: a next hop of a route.
   *
   * @param size - of the structure
   * @param write - writes into it
   * @param fill - adds its attributes
   * @returns this
   */
  structure(size: number, write: (structure: Buffer) => void, fill: () => void): this {
    const start = this.#room(align(size));
    write(this.#bytes.subarray(start, start + size));
    fill();
    this.#bytes.writeUInt16LE(this.#length - start, start);
    return this;
  }

  /** Whether it asks for a dump: the answer ends with NLMSG_DONE. The bits mean other things in requests that create. */
  get dumps(): boolean {
    return (this.#bytes.readUInt16LE(6) & (NLM_F.DUMP | NLM_F.CREATE)) === NLM_F.DUMP;
  }

  /** The whole message, its length written. */
  get bytes(): Buffer {
    this.#bytes.writeUInt32LE(this.#length, 0);
    return this.#bytes.subarray(0, this.#length);
  }

  /**
   * Appends the family's header.
   *
   * @param size - its length, zeros but for what `write` writes
   * @param write - writes into it
   * @returns this
   */
  header(size: number, write?: (header: Buffer) => void): this {
    const at = this.#room(align(size));
    write?.(this.#bytes.subarray(at, at + size));
    return this;
  }

  /** Adds a byte. */
  u8(type: number, value: number): this {
    const at = this.#attribute(type, 1);
    this.#bytes[at] = unsigned(value, 0xff);
    return this;
  }

  /** Adds 16 bits in this machine's order. */
  u16(type: number, value: number): this {
    const at = this.#attribute(type, 2);
    this.#bytes.writeUInt16LE(unsigned(value, 0xffff), at);
    return this;
  }

  /** Adds 32 bits in this machine's order. */
  u32(type: number, value: number): this {
    const at = this.#attribute(type, 4);
    this.#bytes.writeUInt32LE(unsigned(value, 0xffffffff), at);
    return this;
  }

  /** Adds 32 bits with a sign. */
  i32(type: number, value: number): this {
    if (!Number.isInteger(value) || value < -0x80000000 || value > 0x7fffffff) throw invalid(`not 32 bits: ${value}`);
    const at = this.#attribute(type, 4);
    this.#bytes.writeInt32LE(value, at);
    return this;
  }

  /** Adds 64 bits in this machine's order. */
  u64(type: number, value: bigint | number): this {
    const at = this.#attribute(type, 8);
    this.#bytes.writeBigUInt64LE(unsigned64(value), at);
    return this;
  }

  /** Adds 16 bits in the network's order. */
  u16be(type: number, value: number): this {
    const at = this.#attribute(type, 2);
    this.#bytes.writeUInt16BE(unsigned(value, 0xffff), at);
    return this;
  }

  /** Adds 32 bits in the network's order. */
  u32be(type: number, value: number): this {
    const at = this.#attribute(type, 4);
    this.#bytes.writeUInt32BE(unsigned(value, 0xffffffff), at);
    return this;
  }

  /** Adds 64 bits in the network's order. */
  u64be(type: number, value: bigint | number): this {
    const at = this.#attribute(type, 8);
    this.#bytes.writeBigUInt64BE(unsigned64(value), at);
    return this;
  }

  /** Adds text with its NUL. */
  string(type: number, value: string): this {
    if (value.includes('\0')) throw invalid(`a string for the kernel holds a NUL byte: ${JSON.stringify(value)}`);
    const length = Buffer.byteLength(value);
    const at = this.#attribute(type, length + 1);
    this.#bytes.write(value, at);
    this.#bytes[at + length] = 0;
    return this;
  }

  /** Adds bytes. */
  raw(type: number, value: Uint8Array): this {
    const at = this.#attribute(type, value.length);
    this.#bytes.set(value, at);
    return this;
  }

  /** Adds an attribute whose presence is its meaning. */
  flag(type: number): this {
    this.#attribute(type, 0);
    return this;
  }

  /**
   * Adds attributes inside of one.
   *
   * @param type - of the outer one
   * @param fill - adds the inner ones
   * @param names - of the inner ones, for errors
   * @param flagged - whether the type says that it is nested; old interfaces have it without
   * @returns this
   */
  nest(type: number, fill: (message: this) => void, names?: AttributeNames, flagged = true): this {
    const start = this.#attribute(type, 0) - ATTRIBUTE;
    const nest = { start, end: Number.POSITIVE_INFINITY, names };
    this.#nests.push(nest);
    fill(this);
    const length = this.#length - start;
    if (length > MAX_ATTRIBUTE) throw invalid(`attributes of ${length} bytes do not fit into one: 65535 do`);
    this.#bytes.writeUInt16LE(length, start);
    if (flagged) this.#bytes.writeUInt16LE(type | NLA_F_NESTED, start + 2);
    nest.end = this.#length;
    return this;
  }

  /**
   * The attribute that stands at an offset, as errors name it.
   *
   * @param offset - from the start of the message
   * @returns for example `LINKINFO.DATA.1`
   */
  pathAt(offset: number): string {
    const around = this.#nests.filter((nest) => nest.start <= offset && offset < nest.end);
    let names = this.#names;
    const path: string[] = [];
    for (const nest of around) {
      path.push(this.#nameAt(nest.start, names));
      ({ names } = nest);
    }
    if (around.at(-1)?.start !== offset) path.push(this.#nameAt(offset, names));
    return path.join('.');
  }

  /**
   * An attribute that is missing, as errors name it.
   *
   * @param type - of the missing one
   * @param nest - offset of the attribute in which it is missing; default the message itself
   * @returns for example `LINKINFO.DATA.ID`
   */
  missingName(type: number, nest?: number): string {
    const inside = this.#nests.find(({ start }) => start === nest);
    const names = nest === undefined ? this.#names : inside?.names;
    const name = names ? nameOf(names, type) : String(type);
    return nest === undefined ? name : `${this.pathAt(nest)}.${name}`;
  }

  #nameAt(offset: number, names: AttributeNames | undefined): string {
    if (offset + ATTRIBUTE > this.#length) return `byte ${offset}`;
    const type = this.#bytes.readUInt16LE(offset + 2) & 0x3fff;
    return names ? nameOf(names, type) : String(type);
  }

  /** Appends an attribute's header; returns where its payload goes. `#bytes` may be another one afterwards. */
  #attribute(type: number, size: number): number {
    if (size + ATTRIBUTE > MAX_ATTRIBUTE) throw invalid(`an attribute holds 65531 bytes, not ${size}`);
    const at = this.#room(align(size + ATTRIBUTE));
    this.#bytes.writeUInt16LE(size + ATTRIBUTE, at);
    this.#bytes.writeUInt16LE(type, at + 2);
    return at + ATTRIBUTE;
  }

  #room(size: number): number {
    const at = this.#length;
    if (at + size > this.#bytes.length) {
      const larger = Buffer.alloc(Math.max(this.#bytes.length * 2, at + size));
      this.#bytes.copy(larger, 0, 0, at);
      this.#bytes = larger;
    }
    this.#length = at + size;
    return at;
  }
}

/**
 * The name of a number.
 *
 * @param names - name to number
 * @param value - the number
 * @returns the first name that has it; the number where none has
 */
export function nameOf(names: AttributeNames, value: number): string {
  for (const name in names) if (names[name] === value) return name;
  return String(value);
}

function unsigned(value: number, max: number): number {
  if (!Number.isInteger(value) || value < 0 || value > max) throw invalid(`not an integer from 0 to ${max}: ${value}`);
  return value;
}

function unsigned64(value: bigint | number): bigint {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw invalid(`not an exact integer: ${value}`);
  const wide = BigInt(value);
  if (wide < 0n || wide >= 2n ** 64n) throw invalid(`not an integer of 64 bits: ${value}`);
  return wide;
}
