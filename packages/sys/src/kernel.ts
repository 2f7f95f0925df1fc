import { type Native, native, type Word } from './raw/native.js';
import { type SyscallName, syscallNumber } from './raw/numbers.js';

/** What a system call takes: a number, an address, a string (NUL is added), bytes to read or to fill, or nothing. */
export type SyscallArg = number | bigint | string | Uint8Array | { readonly number: number } | null;

/** Where system calls go: the real kernel, or one that records (`@iso/sys/testing`). */
export interface Kernel {
  /**
   * One system call.
   *
   * @param name - the kernel's name
   * @param args - up to six, already checked
   * @returns the kernel's result, a negative error number where it failed
   */
  call(name: SyscallName, args: readonly SyscallArg[]): number | bigint;
  /**
   * A launch: clone, then the child's steps.
   *
   * @param plan - the steps, for kernels that record; the real one reads memory only
   * @returns the pid, or a negative error number
   */
  launch(plan: LaunchPlan): number;
  /**
   * Calls that are made together. A kernel without it is given each by {@link Kernel.call}.
   *
   * @param frame - address of the frame, whose rows the machine code reads and answers
   */
  batch?(frame: number): void;
}

/** What a kernel is told of a launch. */
export interface LaunchPlan {
  /** Address of the frame. */
  readonly frame: number;
  /** The clone call's flags. */
  readonly flags: number;
  /** The steps in the order in which the child runs them, for a kernel that records. */
  steps(): { syscall: string; phase: string; text: string }[];
  /** For a kernel that only plays: says that step `index` (from 0) failed. */
  fail(index: number, errno: number): void;
  /** For a kernel that only plays: says that step `index` was reached, and its result. */
  reach(index: number, result: number): void;
  /** For a kernel that only plays: the child's pidfd. */
  pidfd(number: number): void;
}

const strings = new TextEncoder();

/**
 * Bytes of a C string.
 *
 * @param value - text; anything but NUL is allowed
 * @returns UTF-8 with a final NUL
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where it holds a NUL (the kernel would read a shorter string) or half a
 * surrogate pair (it would read another one)
 */
export function cString(value: string): Uint8Array {
  checkString(value);
  return strings.encode(`${value}\0`);
}

/**
 * Refuses what is no C string.
 *
 * @param value - text
 * @throws `TypeError` as {@link cString}
 */
export function checkString(value: string): void {
  if (value.includes('\0')) throw invalid(`a string for the kernel holds a NUL byte: ${JSON.stringify(value)}`);
  if (!value.isWellFormed()) throw invalid(`a string for the kernel is no Unicode: ${JSON.stringify(value)}`);
}

/**
 * An argument error in Node's manner.
 *
 * @param message - what is wrong with which argument
 * @returns the error, `code` is `ERR_INVALID_ARG_VALUE`
 */
export function invalid(message: string): TypeError {
  return Object.assign(new TypeError(message), { code: 'ERR_INVALID_ARG_VALUE' });
}

/**
 * A number fit for a register.
 *
 * @param value - number or bigint
 * @returns it, in the range of a signed 64-bit word
 * @throws `TypeError` for what FFI would cut silently: fractions, NaN, more than 64 bits
 */
export function word(value: Word): Word {
  if (typeof value === 'bigint') {
    if (value >= -(2n ** 63n) && value < 2n ** 64n) return BigInt.asIntN(64, value);
  } else if (Number.isSafeInteger(value)) return value;
  // An object may have no text.
  throw invalid(`not a 64-bit integer: ${typeof value === 'object' ? typeof value : String(value)}`);
}

/** The kernel that this process runs on. */
export class LinuxKernel implements Kernel {
  #native: Native | undefined;

  /** {@inheritDoc Kernel.call} */
  call(name: SyscallName, args: readonly SyscallArg[]): number | bigint {
    const to = (this.#native ??= native());
    const keep: Uint8Array[] = [];
    // Word by word: a list of them, taken apart, takes as long as a short call.
    const result = to.call(
      syscallNumber(name),
      wordOf(args[0], to, keep),
      wordOf(args[1], to, keep),
      wordOf(args[2], to, keep),
      wordOf(args[3], to, keep),
      wordOf(args[4], to, keep),
      wordOf(args[5], to, keep),
    );
    keep.length = 0;
    return result;
  }

  /** {@inheritDoc Kernel.launch} */
  launch(plan: LaunchPlan): number {
    return Number(native().launch(plan.frame));
  }

  /** {@inheritDoc Kernel.batch} */
  batch(frame: number): void {
    this.#native ??= native();
    this.#native.walk(frame);
  }
}

/** An argument as a register has it; what it points at that nobody else holds is kept. */
function wordOf(arg: SyscallArg | undefined, { address }: Native, keep: Uint8Array[]): Word {
  if (typeof arg === 'number' || typeof arg === 'bigint') return arg;
  if (typeof arg === 'string') {
    const bytes = cString(arg);
    keep.push(bytes);
    return address(bytes);
  }
  if (arg instanceof Uint8Array) return address(arg);
  return arg ? arg.number : 0;
}

let current: Kernel = new LinuxKernel();

/**
 * The kernel that calls go to now.
 *
 * @returns it
 */
export function kernel(): Kernel {
  return current;
}

/**
 * Sends this thread's system calls elsewhere. For tests: see `@iso/sys/testing`.
 *
 * @param replacement - the other kernel
 * @returns undoes it
 */
export function replaceKernel(replacement: Kernel): () => void {
  const before = current;
  current = replacement;
  return () => {
    current = before;
  };
}

/**
 * A call with its arguments as strace would print them.
 *
 * @param name - the call
 * @param args - its arguments
 * @returns for example `openat(-100, "/etc", 65536)`
 */
export function callText(name: string, args: readonly unknown[]): string {
  const parts = args.map((arg) => {
    if (typeof arg === 'string') return JSON.stringify(arg.length > 80 ? `${arg.slice(0, 77)}...` : arg);
    if (arg instanceof Uint8Array) return `<${arg.length} bytes>`;
    if (arg === null || arg === undefined) return 'NULL';
    if (typeof arg === 'object' && 'number' in arg) return String(arg.number);
    return String(arg);
  });
  return `${name}(${parts.join(', ')})`;
}
