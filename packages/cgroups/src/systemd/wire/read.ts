import { malformed } from './malformed.js';
import { alignmentOf, parseSignature, type Type } from './signature.js';
import { isObjectPath, type Value, Variant } from './value.js';

const LARGEST_ARRAY = 64 * 2 ** 20;
const DEEPEST = 64;

/** Reads values as the D-Bus specification lays them out, of either byte order. What is not so is an error, whatever the bytes. */
export class Reader {
  readonly #bytes: Buffer;
  readonly #little: boolean;
  #at: number;
  #depth = 0;

  /**
   * @param bytes - to read from
   * @param little - byte order
   * @param at - where to begin; alignment counts from the first byte
   */
  constructor(bytes: Buffer, little: boolean, at = 0) {
    this.#bytes = bytes;
    this.#little = little;
    this.#at = at;
  }

  /** Where it is. */
  get at(): number {
    return this.#at;
  }

  /**
   * Reads the values of a signature.
   *
   * @throws CgroupError `EPROTO`
   */
  all(signature: string): Value[] {
    return parseSignature(signature).map((type) => this.#value(type));
  }

  /** Goes on to a multiple; what is skipped is zeros. */
  align(to: number): void {
    const bytes = this.#take((to - (this.#at % to)) % to);
    if (bytes.some((byte) => byte !== 0)) throw malformed('padding that is not zero');
  }

  #value(type: Type): Value {
    if (++this.#depth > DEEPEST) throw malformed('values are nested too deep');
    this.align(alignmentOf(type));
    const value = this.#aligned(type);
    this.#depth--;
    return value;
  }

  #aligned(type: Type): Value {
    switch (type.code) {
      case 'y':
        return this.#take(1).readUInt8();
      case 'n':
        return this.#little ? this.#take(2).readInt16LE() : this.#take(2).readInt16BE();
      case 'q':
        return this.#little ? this.#take(2).readUInt16LE() : this.#take(2).readUInt16BE();
      case 'i':
        return this.#little ? this.#take(4).readInt32LE() : this.#take(4).readInt32BE();
      case 'u':
      case 'h':
        return this.#unsigned();
      case 'x':
        return this.#little ? this.#take(8).readBigInt64LE() : this.#take(8).readBigInt64BE();
      case 't':
        return this.#little ? this.#take(8).readBigUInt64LE() : this.#take(8).readBigUInt64BE();
      case 'd':
        return this.#little ? this.#take(8).readDoubleLE() : this.#take(8).readDoubleBE();
      case 'b':
        return this.#boolean();
      case 'v':
        return this.#variant();
      case 'a':
        return this.#array(type.of[0] as Type);
      case '(':
      case '{':
        return type.of.map((one) => this.#value(one));
      default:
        return this.#text(type.code);
    }
  }

  #unsigned(): number {
    return this.#little ? this.#take(4).readUInt32LE() : this.#take(4).readUInt32BE();
  }

  #boolean(): boolean {
    const word = this.#unsigned();
    if (word > 1) throw malformed(`a boolean that is ${word}`);
    return word === 1;
  }

  #text(code: string): string {
    const length = code === 'g' ? this.#take(1).readUInt8() : this.#unsigned();
    const bytes = this.#take(length);
    if (this.#take(1)[0] !== 0 || bytes.includes(0)) throw malformed('text that does not end in its only NUL');
    const text = bytes.toString('utf8');
    if (Buffer.byteLength(text) !== length || !Buffer.from(text).equals(bytes))
      throw malformed('text that is not UTF-8');
    if (code === 'o' && !isObjectPath(text)) throw malformed(`no path of an object: ${JSON.stringify(text)}`);
    if (code === 'g') parseSignature(text);
    return text;
  }

  #variant(): Variant {
    const signature = this.#text('g');
    const [type, ...more] = parseSignature(signature);
    if (!type || more.length > 0) throw malformed('a variant of other than one value');
    return new Variant(signature, this.#value(type));
  }

  #array(element: Type): Value {
    const length = this.#unsigned();
    if (length > LARGEST_ARRAY) throw malformed(`an array of ${length} bytes`);
    this.align(alignmentOf(element));
    if (element.code === 'y') return Buffer.from(this.#take(length));
    const end = this.#at + length;
    if (end > this.#bytes.length) throw malformed('an array that ends after its message');
    const values: Value[] = [];
    while (this.#at < end) values.push(this.#value(element));
    if (this.#at !== end) throw malformed('an array whose last element does not fit');
    return values;
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw malformed('a message that ends too soon');
    const bytes = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }
}
