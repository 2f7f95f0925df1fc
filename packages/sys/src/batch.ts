import { checkString, cString, invalid, kernel, type SyscallArg } from './kernel.js';
import { ANY_ERROR, END, FRAME, STEP } from './launcher/table.js';
import { native } from './raw/native.js';
import { type SyscallName, syscallNumber } from './raw/numbers.js';
import { checkCall } from './syscall.js';

const WORD = 8;

/** A call of a {@link Batch}. As an argument of a later call it stands for its result. */
export class BatchedCall {
  /** The kernel's name of it. */
  readonly name: SyscallName;
  readonly args: readonly (SyscallArg | BatchedCall)[];
  #words: Int32Array = new Int32Array(2);
  #at = 0;

  /** @internal */
  constructor(name: SyscallName, args: readonly (SyscallArg | BatchedCall)[]) {
    this.name = name;
    this.args = args;
  }

  /** What the kernel answered in the last run: minus the error number where it failed. */
  get result(): number {
    const words = this.#words;
    return (words[this.#at + 1] as number) * 2 ** 32 + ((words[this.#at] as number) >>> 0);
  }

  /** @internal */
  set result(value: number) {
    this.#words[this.#at] = value;
    this.#words[this.#at + 1] = Math.floor(value / 2 ** 32);
  }

  /** @internal */
  answerAt(words: Int32Array, offset: number): void {
    this.#words = words;
    this.#at = offset >> 2;
  }
}

/**
 * System calls that are made together, on the calling thread, again and again: the way from JavaScript to the kernel is gone once for all
 * of them, which of a short call is most of its time. Each is made, also after one that failed.
 *
 * @example
 * ```ts
 * import { AT, Batch, O } from '@iso/sys';
 * const text = new Uint8Array(256);
 * const batch = new Batch();
 * const file = batch.add('openat', AT.FDCWD, '/proc/self/comm', O.RDONLY | O.CLOEXEC, 0);
 * const read = batch.add('read', file, text, text.length);
 * batch.add('close', file);
 * batch.run();
 * if (Buffer.from(text.subarray(0, read.result)).toString().trim() === '') throw new Error('it has no name');
 * ```
 */
export class Batch {
  readonly #calls: BatchedCall[] = [];
  /** What the calls point at. */
  readonly #kept: Uint8Array[] = [];
  #table: Uint8Array | undefined;
  #frame = 0;

  /** How many calls it makes. */
  get size(): number {
    return this.#calls.length;
  }

  /**
   * One more call, after those that are there.
   *
   * @param name - the kernel's name
   * @param args - up to six arguments, as {@link syscall} takes them; or calls of this batch, for their results. A buffer is kept
   * @returns the call, for its result
   * @throws `TypeError` for arguments that cannot be passed unchanged, or a call that is not of this batch
   */
  add(name: SyscallName, ...args: (SyscallArg | BatchedCall)[]): BatchedCall {
    checkCall(
      name,
      args.map((arg) => (arg instanceof BatchedCall ? this.#place(arg) : arg)),
    );
    syscallNumber(name);
    for (const arg of args) if (typeof arg === 'string') checkString(arg);
    const call = new BatchedCall(name, args);
    this.#calls.push(call);
    this.#table = undefined;
    return call;
  }

  /** Makes the calls; what came of each is its `result`. */
  run(): void {
    if (this.#calls.length === 0) return;
    const to = kernel();
    if (to.batch) {
      this.#table ??= this.#write();
      to.batch(this.#frame);
    } else {
      for (const call of this.#calls) {
        const args = call.args.map((arg) => (arg instanceof BatchedCall ? arg.result : arg));
        call.result = Number(to.call(call.name, args));
      }
    }
  }

  #place(call: BatchedCall): number {
    const place = this.#calls.indexOf(call);
    if (place < 0) throw invalid('the result of a call that is not of this batch');
    return place;
  }

  /** Frame and rows, as the machine code reads them. */
  #write(): Uint8Array {
    const memory = new ArrayBuffer(FRAME.size + (this.#calls.length + 1) * STEP.size);
    const bytes = new Uint8Array(memory);
    const words = new BigInt64Array(memory);
    const results = new Int32Array(memory);
    const address = native().address(bytes);
    const rowOf = (place: number) => FRAME.size + place * STEP.size;
    this.#kept.length = 0;
    const set = (offset: number, value: number | bigint) => {
      words[offset / WORD] = BigInt.asIntN(64, BigInt(value));
    };
    const pointer = (data: Uint8Array) => {
      this.#kept.push(data);
      return data.length > 0 ? native().address(data) : 0;
    };
    this.#frame = Number(address);
    set(FRAME.steps, address + BigInt(FRAME.size));
    set(FRAME.here, 1);
    for (const [place, { name, args }] of this.#calls.entries()) {
      const row = rowOf(place);
      set(row + STEP.nr, syscallNumber(name));
      let indirect = 0;
      for (const [i, arg] of args.entries()) {
        let value: number | bigint = 0;
        if (typeof arg === 'number' || typeof arg === 'bigint') value = arg;
        else if (typeof arg === 'string') value = pointer(cString(arg));
        else if (arg instanceof Uint8Array) value = pointer(arg);
        else if (arg instanceof BatchedCall) {
          indirect |= 1 << i;
          value = address + BigInt(rowOf(this.#place(arg)) + STEP.result);
        } else if (arg) value = arg.number;
        set(row + STEP.args + i * WORD, value);
      }
      set(row + STEP.indirect, indirect);
      for (const next of [STEP.onZero, STEP.onValue, STEP.onIgnored]) set(row + next, STEP.size);
      set(row + STEP.ignore, ANY_ERROR);
    }
    set(rowOf(this.#calls.length) + STEP.nr, END);
    for (const [place, call] of this.#calls.entries()) call.answerAt(results, rowOf(place) + STEP.result);
    return bytes;
  }
}
