import { invalid } from '@iso/sys';
import { shown } from '../../value.js';
import { alignmentOf, parseSignature, type Type } from './signature.js';
import { isObjectPath, type Value, Variant } from './value.js';

const integers: Record<string, { bits: number; signed: boolean }> = {
  y: { bits: 8, signed: false },
  n: { bits: 16, signed: true },
  q: { bits: 16, signed: false },
  i: { bits: 32, signed: true },
  u: { bits: 32, signed: false },
  h: { bits: 32, signed: false },
  x: { bits: 64, signed: true },
  t: { bits: 64, signed: false },
};

/** Writes values as the D-Bus specification lays them out, little-endian. */
export class Writer {
  #bytes = Buffer.alloc(256);
  #length = 0;

  /** What is written so far. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /**
   * Writes the values of a signature.
   *
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where one is not of its type
   */
  all(signature: string, values: readonly Value[]): void {
    const types = parseSignature(signature);
    if (types.length !== values.length)
      throw invalid(`${signature} takes ${types.length} values, not ${values.length}`);
    for (const [i, type] of types.entries()) this.#value(type, values[i] as Value);
  }

  /** Fills up with zeros to a multiple. */
  align(to: number): void {
    this.#room((to - (this.#length % to)) % to);
  }

  #value(type: Type, value: Value): void {
    this.align(alignmentOf(type));
    const { code } = type;
    if (Object.hasOwn(integers, code)) this.#integer(code, value);
    else if (code === 'b') this.#integer('u', value === true ? 1 : value === false ? 0 : this.#wrong(code, value));
    else if (code === 'd') this.#double(value);
    else if (code === 'v') this.#variant(value);
    else if (code === 'a') this.#array(type, value);
    else if (code === '(' || code === '{') this.#structure(type, value);
    else this.#text(code, value);
  }

  #integer(code: string, value: Value): void {
    const { bits, signed } = integers[code] as { bits: number; signed: boolean };
    const whole = typeof value === 'bigint' || (typeof value === 'number' && Number.isSafeInteger(value));
    const number = whole ? BigInt(value) : this.#wrong(code, value);
    const fits = signed ? BigInt.asIntN(bits, number) : BigInt.asUintN(bits, number);
    if (fits !== number) this.#wrong(code, value);
    const at = this.#room(bits / 8);
    const word = BigInt.asUintN(bits, number);
    if (bits === 64) this.#bytes.writeBigUInt64LE(word, at);
    else this.#bytes.writeUIntLE(Number(word), at, bits / 8);
  }

  #double(value: Value): void {
    if (typeof value !== 'number') this.#wrong('d', value);
    const at = this.#room(8);
    this.#bytes.writeDoubleLE(value as number, at);
  }

  #text(code: string, value: Value): void {
    if (typeof value !== 'string' || value.includes('\0') || !value.isWellFormed()) this.#wrong(code, value);
    const text = value as string;
    if (code === 'o' && !isObjectPath(text)) this.#wrong(code, value);
    if (code === 'g') parseSignature(text);
    const bytes = Buffer.from(text);
    this.#integer(code === 'g' ? 'y' : 'u', bytes.length);
    const at = this.#room(bytes.length + 1);
    bytes.copy(this.#bytes, at);
  }

  #variant(value: Value): void {
    if (!(value instanceof Variant)) return this.#wrong('v', value);
    if (parseSignature(value.signature).length !== 1) this.#wrong('v', value.signature);
    this.#text('g', value.signature);
    this.all(value.signature, [value.value]);
  }

  #array({ of: [element] }: Type, value: Value): void {
    const type = element as Type;
    if (!Array.isArray(value) && !(value instanceof Uint8Array)) this.#wrong('a', value);
    const lengthAt = this.#room(4);
    // The length does not count what fills up to the first element.
    this.align(alignmentOf(type));
    const start = this.#length;
    if (value instanceof Uint8Array && type.code === 'y') {
      const at = this.#room(value.length);
      this.#bytes.set(value, at);
    } else for (const one of value as readonly Value[]) this.#value(type, one);
    this.#bytes.writeUInt32LE(this.#length - start, lengthAt);
  }

  #structure({ code, of }: Type, value: Value): void {
    if (!Array.isArray(value) || value.length !== of.length) this.#wrong(code, value);
    for (const [i, type] of of.entries()) this.#value(type, (value as readonly Value[])[i] as Value);
  }

  #room(bytes: number): number {
    const at = this.#length;
    this.#length += bytes;
    if (this.#length > this.#bytes.length) {
      this.#bytes = Buffer.concat([this.#bytes], Math.max(this.#length, this.#bytes.length * 2));
    }
    return at;
  }

  #wrong(code: string, value: unknown): never {
    throw invalid(`${shown(value)} is no ${code} of D-Bus`);
  }
}
