import { attempt, Fd, O } from '@iso/sys';
import { E } from '../error.js';
import type { CgroupDirectory } from '../raw/directory.js';

const large = Buffer.alloc(262_144);
/** Where the text is that was read last. */
let bytes: Buffer = large;
const NEWLINE = 10;
const SPACE = 32;
const MINUS = 45;
const ZERO = 48;
const LETTER_M = 109;
/** Digits and a newline of a number that is exact. */
const EXACT = 16;

/** Numbers by key, as a control file of `key value` lines has them; keys in camel case. */
export type Counters = Record<string, number | undefined>;

/** Descriptors that are kept open for statistics; beyond half of what the process may open, files are opened each time. */
let kept = 0;
let budget: number | undefined;

/**
 * A control file that is read again and again: its descriptor stays open, the kernel makes the text anew at each read, and the
 * numbers are taken from the bytes.
 */
export class StatFile {
  readonly #directory: CgroupDirectory;
  readonly #name: string;
  readonly #keys: { bytes: Uint8Array; name: string }[] = [];
  readonly #seen: Set<StatFile> | undefined;
  #fd: Fd | undefined;
  #absent = false;
  #length = 0;
  /** Text that was read together with others', until it is asked for. */
  #ready: Buffer | undefined;

  constructor(directory: CgroupDirectory, name: string, seen?: Set<StatFile>) {
    this.#directory = directory;
    this.#name = name;
    this.#seen = seen;
  }

  /** Its descriptor, where it is kept open. */
  get fd(): Fd | undefined {
    return this.#fd;
  }

  /**
   * Opens it to be watched: it is kept open however many are.
   *
   * @throws CgroupError where it cannot be opened
   */
  keep(): Fd {
    if (!this.#fd) {
      this.#fd = this.#directory.openFd(this.#name, O.RDONLY);
      kept++;
    }
    return this.#fd;
  }

  /** Bytes of its text when it was last read. */
  get length(): number {
    return this.#length;
  }

  /**
   * Takes what was read of it: the next reading of it has this text.
   *
   * @param text - has room for one byte more
   * @param result - what the kernel answered
   */
  fill(text: Buffer, result: number): void {
    this.#ready = text;
    this.#length = result;
  }

  /** One number; `'max'` for none. v1's "no limit" is one too. */
  limit(): number | 'max' | undefined {
    if (this.#read() <= 0) return undefined;
    if (bytes[0] === LETTER_M) return 'max';
    const value = numberAt(0);
    return value >= 2 ** 60 ? 'max' : value;
  }

  /** One number. */
  number(): number | undefined {
    return this.#read() <= 0 ? undefined : numberAt(0);
  }

  /** One number of nanoseconds, as whole microseconds: exact beyond 2^53 ns, which 104 days of CPU time reach. */
  microseconds(): number | undefined {
    const length = this.#read();
    if (length <= 0) return undefined;
    return length <= EXACT ? Math.floor(numberAt(0) / 1000) : Number(bytes.toString('latin1', 0, length - 4));
  }

  /** 0 or 1. */
  flag(): boolean | undefined {
    return this.#read() <= 0 ? undefined : bytes[0] === ZERO + 1;
  }

  /** The text without its last newline. */
  text(): string | undefined {
    const length = this.#read();
    if (length <= 0) return length < 0 ? undefined : '';
    return bytes.toString('latin1', 0, length).trimEnd();
  }

  /** Lines of `key value`. The kernel's order of keys is remembered, and compared. */
  counters<T = Counters>(): T | undefined {
    const length = this.#read();
    if (length < 0) return undefined;
    const result: Record<string, number> = {};
    for (let at = 0, line = 0; at < length; line++) {
      let key = this.#keys[line];
      if (!key || !startsWith(key.bytes, at)) {
        const end = bytes.indexOf(SPACE, at);
        if (end < 0 || end >= length) break;
        key = {
          bytes: Uint8Array.from(bytes.subarray(at, end + 1)),
          name: camelCase(bytes.toString('latin1', at, end)),
        };
        this.#keys[line] = key;
      }
      at += key.bytes.length;
      let value = 0;
      for (let byte = bytes[at] as number; byte >= ZERO; byte = bytes[++at] as number)
        value = value * 10 + (byte - ZERO);
      result[key.name] = value;
      while (at < length && bytes[at++] !== NEWLINE);
    }
    return result as T;
  }

  /** Lines of `KEY name=value name=value`, values as numbers where they are. */
  entries(): Record<string, Record<string, number | 'max' | string>> | undefined {
    const text = this.text();
    if (text === undefined) return undefined;
    const result: Record<string, Record<string, number | 'max' | string>> = {};
    for (const line of text.split('\n')) {
      const [key = '', ...words] = line.split(' ').filter((word) => word !== '');
      if (key === '') continue;
      result[key] = Object.fromEntries(
        words.map((word) => {
          const [name = '', value] = word.split('=');
          return value === undefined ? ['value', numeric(name)] : [camelCase(name), numeric(value)];
        }),
      );
    }
    return result;
  }

  /** Drops what was read together with others and never asked for. */
  forget(): void {
    this.#ready = undefined;
  }

  /** Closes what is open. */
  close(): void {
    this.forget();
    if (!this.#fd) return;
    this.#fd.close();
    this.#fd = undefined;
    kept--;
  }

  /** Fills the buffer; -1 where there is no such file or it has nothing to say. */
  #read(): number {
    const ready = this.#ready;
    if (ready) {
      this.#ready = undefined;
      // A text that fills its place may go on.
      if (this.#length < ready.length - 1) return this.#take(ready, this.#length);
    }
    if (this.#absent) return -1;
    const { number, keep } = this.#open();
    if (number < 0) return -1;
    try {
      return this.#take(large, attempt('pread64', number, large, large.length - 1, 0));
    } finally {
      if (keep) this.#seen?.add(this);
      else attempt('close', number);
    }
  }

  #take(text: Buffer, result: number): number {
    this.#length = Math.max(result, 0);
    if (result >= 0) {
      bytes = text;
      bytes[result] = NEWLINE;
      return result;
    }
    if (result === -E.OPNOTSUPP || result === -E.INVAL) return -1;
    throw this.#directory.failure(result, 'read', this.#name);
  }

  #open(): { number: number; keep: boolean } {
    if (this.#fd) return { number: this.#fd.number, keep: true };
    const number = this.#directory.open(this.#name, O.RDONLY);
    if (number < 0) {
      // Files of the owner alone, and those that this kernel or version has not, stay away.
      this.#absent = true;
      return { number: -1, keep: true };
    }
    budget ??= softLimit() / 2;
    const keep = kept < budget;
    if (keep) {
      kept++;
      this.#fd = Fd.own(number);
    }
    return { number, keep };
  }
}

/**
 * The kernel's name in camel case.
 *
 * @param name - `pgsteal_kswapd`
 * @returns `pgstealKswapd`
 */
function camelCase(name: string): string {
  return name.replace(/[_.](\w)/g, (_, letter: string) => letter.toUpperCase());
}

function startsWith(key: Uint8Array, at: number): boolean {
  for (let i = 0; i < key.length; i++) if (bytes[at + i] !== key[i]) return false;
  return true;
}

function numberAt(at: number): number {
  let value = 0;
  const negative = bytes[at] === MINUS;
  if (negative) at++;
  for (let byte = bytes[at] as number; byte >= ZERO && byte < ZERO + 10; byte = bytes[++at] as number) {
    value = value * 10 + (byte - ZERO);
  }
  return negative ? -value : value;
}

function numeric(text: string): number | string {
  return /^\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function softLimit(): number {
  const limits = Buffer.alloc(16);
  const RLIMIT_NOFILE = 7;
  return attempt('prlimit64', 0, RLIMIT_NOFILE, null, limits) < 0 ? 1024 : Number(limits.readBigUInt64LE(0));
}
