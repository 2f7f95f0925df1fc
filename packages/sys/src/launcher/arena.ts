import { native } from '../raw/native.js';
import { attempt, syscall } from '../syscall.js';

const SIZE = 128 * 1024;
const PROT_READ_WRITE = 3;
const MAP_SHARED_ANONYMOUS = 0x21;

/**
 * Memory outside of V8 that a child can read while JavaScript stands still. Shared mappings, so that a child with a
 * memory of its own can still answer. Small ones are kept for the next launch: a mapping costs more than a launch table.
 * A place is a number of bytes from its start, and small: to reckon with addresses takes V8 memory for each.
 */
export class Arena {
  static readonly #free: Arena[] = [];
  readonly #address: number;
  readonly #size: number;
  readonly #bytes: Buffer;
  readonly #words: Int32Array;
  #used = 0;

  private constructor(size: number) {
    this.#size = size;
    this.#address = syscall('mmap', 0, size, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0);
    const memory = native().view(this.#address, size);
    this.#bytes = Buffer.from(memory);
    this.#words = new Int32Array(memory);
  }

  /** Memory of at least `size` bytes, zero where {@link Arena.allocate} hands it out. */
  static take(size: number): Arena {
    if (size <= SIZE) return Arena.#free.pop() ?? new Arena(SIZE);
    return new Arena(Math.ceil(size / 4096) * 4096);
  }

  /** Gives the memory back. The child must be past its exec. */
  release(): void {
    this.#used = 0;
    if (this.#size === SIZE && Arena.#free.length < 64) Arena.#free.push(this);
    else attempt('munmap', this.#address, this.#size);
  }

  /** The address of a place. */
  addressOf(place: number): number {
    return this.#address + place;
  }

  /** The place that an address is of. */
  placeOf(address: number): number {
    return address - this.#address;
  }

  /** The place of `size` fresh, zeroed bytes, aligned to 8. */
  allocate(size: number): number {
    const place = this.#used;
    const end = place + ((size + 7) & ~7);
    if (end > this.#size) throw new RangeError('the launch table is larger than was computed');
    this.#words.fill(0, place >> 2, end >> 2);
    this.#used = end;
    return place;
  }

  /** The place of a copy of `bytes`. */
  store(bytes: Uint8Array): number {
    const place = this.allocate(bytes.length);
    // A detached buffer is empty, and cannot even be copied.
    if (bytes.length > 0) this.#bytes.set(bytes, place);
    return place;
  }

  /** The place of a C string. */
  string(text: string): number {
    const place = this.#used;
    const length = this.#bytes.write(text, place, 'utf8');
    this.#bytes[place + length] = 0;
    this.#used = place + ((length + 8) & ~7);
    return place;
  }

  /** Writes the address of a place. */
  point(place: number, to: number): void {
    this.set(place, this.#address + to);
  }

  /** Writes one 64-bit word. */
  set(place: number, value: number | bigint): void {
    const at = place >> 2;
    if (typeof value === 'bigint') {
      this.#words[at] = Number(BigInt.asIntN(32, value));
      this.#words[at + 1] = Number(BigInt.asIntN(32, value >> 32n));
    } else {
      this.#words[at] = value | 0;
      this.#words[at + 1] = value >= -2147483648 && value <= 2147483647 ? value >> 31 : Math.floor(value / 4294967296);
    }
  }

  /** Writes one byte. */
  setByte(place: number, value: number): void {
    this.#bytes[place] = value;
  }

  /** Reads one 64-bit word; exact up to 2^53. */
  get(place: number): number {
    const at = place >> 2;
    return (this.#words[at + 1] as number) * 4294967296 + ((this.#words[at] as number) >>> 0);
  }

  /** Reads a 32-bit int. */
  int(place: number): number {
    return this.#words[place >> 2] as number;
  }

  /** A copy of what stands there. */
  read(place: number, length: number): Buffer {
    return Buffer.from(this.#bytes.subarray(place, place + length));
  }
}
