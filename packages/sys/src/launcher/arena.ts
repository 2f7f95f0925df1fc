import { native } from '../raw/native.js';
import { attempt, syscall } from '../syscall.js';

const SIZE = 128 * 1024;
const PROT_READ_WRITE = 3;
const MAP_SHARED_ANONYMOUS = 0x21;

/**
 * Memory outside of V8 that a child can read while JavaScript stands still. Shared mappings, so that a child with a
 * memory of its own can still answer. Small ones are kept for the next launch: a mapping costs more than a launch table.
 */
export class Arena {
  static readonly #free: Arena[] = [];
  readonly address: number;
  readonly size: number;
  readonly #bytes: Buffer;
  readonly #words: Int32Array;
  #used = 0;

  private constructor(size: number) {
    this.size = size;
    this.address = syscall('mmap', 0, size, PROT_READ_WRITE, MAP_SHARED_ANONYMOUS, -1, 0);
    const memory = native().view(this.address, size);
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
    if (this.size === SIZE && Arena.#free.length < 64) Arena.#free.push(this);
    else attempt('munmap', this.address, this.size);
  }

  /** Address of `size` fresh, zeroed bytes, aligned to 8. */
  allocate(size: number): number {
    const offset = this.#used;
    const end = offset + ((size + 7) & ~7);
    if (end > this.size) throw new RangeError('the launch table is larger than was computed');
    this.#words.fill(0, offset >> 2, end >> 2);
    this.#used = end;
    return this.address + offset;
  }

  /** Address of a copy of `bytes`. */
  store(bytes: Uint8Array): number {
    const address = this.allocate(bytes.length);
    // A detached buffer is empty, and cannot even be copied.
    if (bytes.length > 0) this.#bytes.set(bytes, address - this.address);
    return address;
  }

  /** Address of a C string. */
  string(text: string): number {
    const offset = this.#used;
    const length = this.#bytes.write(text, offset, 'utf8');
    this.#bytes[offset + length] = 0;
    this.#used = offset + ((length + 8) & ~7);
    return this.address + offset;
  }

  /** Writes one 64-bit word. */
  set(address: number, value: number | bigint): void {
    const at = (address - this.address) >> 2;
    if (typeof value === 'bigint') {
      this.#words[at] = Number(BigInt.asIntN(32, value));
      this.#words[at + 1] = Number(BigInt.asIntN(32, value >> 32n));
    } else {
      this.#words[at] = value | 0;
      this.#words[at + 1] = value >= -2147483648 && value <= 2147483647 ? value >> 31 : Math.floor(value / 4294967296);
    }
  }

  /** Writes one byte. */
  setByte(address: number, value: number): void {
    this.#bytes[address - this.address] = value;
  }

  /** Reads one 64-bit word; exact up to 2^53. */
  get(address: number): number {
    const at = (address - this.address) >> 2;
    return (this.#words[at + 1] as number) * 4294967296 + ((this.#words[at] as number) >>> 0);
  }

  /** Reads a 32-bit int. */
  int(address: number): number {
    return this.#words[(address - this.address) >> 2] as number;
  }

  /** A copy of what stands at an address. */
  read(address: number, length: number): Buffer {
    const offset = address - this.address;
    return Buffer.from(this.#bytes.subarray(offset, offset + length));
  }
}
