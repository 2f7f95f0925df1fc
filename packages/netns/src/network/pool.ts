import { randomBytes } from 'node:crypto';
import { invalid, KernelError } from '@iso/sys';
import { type Family, ipNumber, ipOf, parsePrefix, rangeOf } from '../ip/ip.js';

const EADDRINUSE = 98;
const EADDRNOTAVAIL = 99;

/** Addresses of one subnet. */
export interface PoolOptions {
  /** For example `10.50.0.0/24`. */
  subnet: string;
  /** Only these are given out; default all of the subnet. */
  range?: string;
  /** Default the first of the subnet. */
  gateway?: string;
}

/**
 * Gives out the addresses of a subnet: each once, and one that came back last of all, for others may still know who had it.
 * The network's own address, the broadcast address and the gateway are kept back.
 *
 * @example
 * ```ts
 * import { Pool } from '@iso/netns/network';
 * const pool = new Pool({ subnet: '10.50.0.0/29' });
 * if (pool.gateway !== '10.50.0.1' || pool.take() !== '10.50.0.2') throw new Error('not the first');
 * ```
 */
export class Pool {
  readonly family: Family;
  /** The subnet, without host bits. */
  readonly subnet: string;
  /** Bits of the network. */
  readonly length: number;
  readonly gateway: string;
  /** What makes the same pool again. */
  readonly options: PoolOptions;
  readonly #first: bigint;
  readonly #last: bigint;
  readonly #from: bigint;
  readonly #to: bigint;
  readonly #taken = new Set<bigint>();
  readonly #kept: ReadonlySet<bigint>;
  #next: bigint;

  /**
   * @param options - the subnet
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for malformed ones, a range or gateway outside, a subnet without room
   */
  constructor(options: PoolOptions) {
    const { family, first, last, length } = rangeOf(options.subnet);
    if (parsePrefix(options.subnet).length > (family === 4 ? 30 : 126))
      throw invalid(`${options.subnet} has no room for a gateway and others`);
    this.family = family;
    this.length = length;
    this.subnet = `${ipOf(first, family)}/${length}`;
    this.#first = first;
    this.#last = last;
    const range = options.range === undefined ? { first, last } : rangeOf(options.range);
    if (range.first < first || range.last > last) throw invalid(`${options.range} is not inside of ${options.subnet}`);
    this.#from = range.first;
    this.#to = range.last;
    this.gateway = options.gateway ?? ipOf(first + 1n, family);
    // Addresses in use elsewhere are none of a pool's, but these three are nobody's.
    this.#kept = new Set([first, ...(family === 4 ? [last] : []), this.#inside(this.gateway)]);
    this.#next = range.first;
    const { range: only } = options;
    this.options = { subnet: this.subnet, gateway: this.gateway, ...(only !== undefined && { range: only }) };
  }

  /**
   * Takes a free address.
   *
   * @returns it
   * @throws KernelError `EADDRNOTAVAIL` where none is left
   */
  take(): string {
    const size = this.#to - this.#from + 1n;
    // Taken and kept ones can be in the way, no others.
    const tries = BigInt(this.#taken.size + this.#kept.size + 1);
    for (let i = 0n; i < size && i < tries; i++) {
      const candidate = this.#from + ((this.#next - this.#from + i) % size);
      if (this.#taken.has(candidate) || this.#kept.has(candidate)) continue;
      this.#taken.add(candidate);
      this.#next = candidate === this.#to ? this.#from : candidate + 1n;
      return ipOf(candidate, this.family);
    }
    throw new KernelError(EADDRNOTAVAIL, {
      syscall: 'bind',
      call: `an address of ${this.subnet}`,
      hint: `all ${this.#taken.size} are taken: detach what is not needed, or make the subnet larger`,
    });
  }

  /**
   * Takes a certain address.
   *
   * @param address - in the subnet, also outside of the range
   * @returns it
   * @throws KernelError `EADDRINUSE` where it is taken or kept back
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) outside of the subnet
   */
  claim(address: string): string {
    const number = this.#inside(address);
    if (this.#taken.has(number) || this.#kept.has(number)) {
      throw new KernelError(EADDRINUSE, {
        syscall: 'bind',
        call: `${address} of ${this.subnet}`,
        hint: this.#kept.has(number) ? 'the network keeps it for itself' : 'another endpoint has it',
      });
    }
    this.#taken.add(number);
    return ipOf(number, this.family);
  }

  /**
   * Gives an address back.
   *
   * @param address - that was taken; others are left alone
   */
  release(address: string): void {
    this.#taken.delete(ipNumber(address));
  }

  /** How many are taken. */
  get taken(): number {
    return this.#taken.size;
  }

  /** The address that is looked at first for the next to be taken. */
  get next(): string {
    return ipOf(this.#next, this.family);
  }

  /** Goes on where another pool of this subnet was: these are taken, and that is next. */
  restore(taken: readonly string[], next: string | undefined): void {
    for (const address of taken) this.#taken.add(this.#inside(address));
    const number = next === undefined ? this.#next : this.#inside(next);
    if (number >= this.#from && number <= this.#to) this.#next = number;
  }

  #inside(address: string): bigint {
    const number = ipNumber(address);
    if (parsePrefix(address).family !== this.family || number < this.#first || number > this.#last)
      throw invalid(`${address} is not an address of ${this.subnet}`);
    return number;
  }
}

/**
 * Whether two blocks of addresses have one in common.
 *
 * @param a - a prefix
 * @param b - another
 * @returns false for different versions of IP
 */
export function overlap(a: string, b: string): boolean {
  const [one, other] = [rangeOf(a), rangeOf(b)];
  return one.family === other.family && one.first <= other.last && other.first <= one.last;
}

/** Where subnets are taken from that nobody chose: those of Docker. */
const candidates: readonly string[] = [
  ...Array.from({ length: 15 }, (_, i) => `172.${17 + i}.0.0/16`),
  ...Array.from({ length: 16 }, (_, i) => `192.168.${16 * i}.0/20`),
];

/**
 * A subnet that overlaps none in use.
 *
 * @param used - prefixes that are routed already
 * @returns a private IPv4 subnet
 * @throws KernelError `EADDRNOTAVAIL` where all are in use
 */
export function freeSubnet(used: readonly string[]): string {
  const free = candidates.find((candidate) => !used.some((prefix) => overlap(candidate, prefix)));
  if (free) return free;
  throw new KernelError(EADDRNOTAVAIL, {
    syscall: 'bind',
    call: 'a private subnet',
    hint: 'every one of 172.17-31.0.0/16 and 192.168.0.0/16 is routed here already: name one yourself',
  });
}

/**
 * A unique local subnet of IPv6, RFC 4193: forty bits of it are random, so that no other network has it either.
 *
 * @param used - prefixes that are routed already
 * @returns a /64
 */
export function uniqueLocalSubnet(used: readonly string[]): string {
  for (;;) {
    const bytes = Buffer.alloc(16);
    bytes[0] = 0xfd;
    randomBytes(5).copy(bytes, 1);
    const subnet = `${ipOf(BigInt(`0x${bytes.toString('hex')}`), 6)}/64`;
    if (!used.some((prefix) => overlap(subnet, prefix))) return subnet;
  }
}
