import { errnoNumber } from '../error.js';
import { type Kernel, type LaunchPlan, LinuxKernel, replaceKernel, type SyscallArg } from '../kernel.js';
import { O } from '../raw/flags.js';
import type { SyscallName } from '../raw/numbers.js';

/** A call that was recorded. */
export interface RecordedCall {
  name: string;
  args: readonly unknown[];
  result: number;
}

/** A launch that was recorded: nothing was started. */
export interface RecordedLaunch {
  flags: number;
  steps: readonly { syscall: string; phase: string; text: string }[];
}

type Answer = number | ((args: readonly SyscallArg[]) => number);

/**
 * A kernel that only plays: it records calls and answers as it was told, 0 where it was told nothing. With it a wrapper is
 * tested without root, and each of its failures is one line.
 *
 * @example
 * ```ts
 * import { syscall } from '@iso/sys';
 * import { RecordingKernel } from '@iso/sys/testing';
 * const kernel = new RecordingKernel().fail('umount2', 'EBUSY');
 * const codes = kernel.run(() => {
 *   try {
 *     syscall('umount2', '/mnt', 0);
 *   } catch (error) {
 *     return (error as { code: string }).code;
 *   }
 * });
 * if (codes !== 'EBUSY' || kernel.calls[0]?.args[0] !== '/mnt') throw new Error('not recorded');
 * ```
 */
export class RecordingKernel implements Kernel {
  /** Every call so far, but those for memory and the end of played children. */
  readonly calls: RecordedCall[] = [];
  /** Every launch so far. */
  readonly launches: RecordedLaunch[] = [];
  readonly #answers = new Map<string, Answer>();
  readonly #real = new LinuxKernel();
  /** Descriptors that are real. */
  readonly #opened = new Set<number>();
  #failNth: { nth: number; errno: number } | undefined;
  #failStep: { index: number; errno: number } | undefined;

  /**
   * Answers a call.
   *
   * @param name - the call
   * @param answer - its result, or a function of the arguments
   * @returns this
   */
  answer(name: SyscallName, answer: Answer): this {
    this.#answers.set(name, answer);
    return this;
  }

  /**
   * Refuses a call.
   *
   * @param name - the call
   * @param code - error name
   * @returns this
   */
  fail(name: SyscallName, code: string): this {
    return this.answer(name, -errnoNumber(code));
  }

  /**
   * Refuses one call by its place.
   *
   * @param nth - from 1
   * @param code - error name
   * @returns this
   */
  failNth(nth: number, code: string): this {
    this.#failNth = { nth, errno: errnoNumber(code) };
    return this;
  }

  /**
   * Lets launches fail in a step.
   *
   * @param index - from 1, as errors count
   * @param code - error name
   * @returns this
   */
  failStep(index: number, code: string): this {
    this.#failStep = { index: index - 1, errno: errnoNumber(code) };
    return this;
  }

  /**
   * Runs a function whose system calls come here.
   *
   * @param action - synchronous, or a promise: then until it settles
   * @returns what it returned
   */
  run<T>(action: () => T): T {
    const restore = replaceKernel(this);
    let result: T;
    try {
      result = action();
    } catch (error) {
      restore();
      throw error;
    }
    if (result instanceof Promise) return result.finally(restore) as T;
    restore();
    return result;
  }

  /** Records a call and answers it. */
  call(name: SyscallName, args: readonly SyscallArg[]): number | bigint {
    if (name === 'mmap' || name === 'munmap') return this.#real.call(name, args);
    if (name === 'waitid' && !this.#answers.has(name)) {
      // A played child has exited with 0: si_signo, si_code = CLD_EXITED.
      const info = args[2] as Uint8Array;
      info[0] = 17;
      info[8] = 1;
      return 0;
    }
    const told = this.#answers.get(name);
    let result = typeof told === 'function' ? told(args) : (told ?? this.#answer(name, args));
    if (this.#failNth?.nth === this.calls.length + 1) result = -this.#failNth.errno;
    this.calls.push({
      name,
      args: args.map((arg) => (arg instanceof Uint8Array ? Uint8Array.from(arg) : arg)),
      result,
    });
    return result;
  }

  /** Records a launch; its steps succeed unless told otherwise. */
  launch(plan: LaunchPlan): number {
    const steps = plan.steps();
    this.launches.push({ flags: plan.flags, steps });
    // Readable, as the pidfd of a child that has ended.
    plan.pidfd(this.#open('eventfd2', [1, O.NONBLOCK | O.CLOEXEC]));
    for (const [index] of steps.entries()) {
      plan.reach(index, 0);
      if (this.#failStep?.index === index) {
        plan.reach(index, -this.#failStep.errno);
        plan.fail(index, this.#failStep.errno);
        break;
      }
    }
    return 0x3ffffffe;
  }

  /** What a program waits for is real also here: libuv ends a process that watches what is no descriptor. */
  #answer(name: SyscallName, args: readonly SyscallArg[]): number {
    if (made.has(name)) return this.#open(name, args);
    const [first] = args;
    const number = typeof first === 'object' && first && 'number' in first ? first.number : first;
    if (!used.has(name) || !this.#opened.has(number as number)) return 0;
    if (name === 'close') this.#opened.delete(number as number);
    return Number(this.#real.call(name, args));
  }

  #open(name: SyscallName, args: readonly SyscallArg[]): number {
    const result = Number(this.#real.call(name, args));
    const [first] = args;
    if (!(first instanceof Uint8Array)) this.#opened.add(result);
    else for (const number of new Int32Array(Uint8Array.from(first).buffer)) this.#opened.add(number);
    return result;
  }
}

/** Calls that make the descriptors that a program waits for, and those that act on them. */
const made: ReadonlySet<SyscallName> = new Set<SyscallName>(['pipe2', 'eventfd2', 'epoll_create1']);
const used: ReadonlySet<SyscallName> = new Set<SyscallName>([
  'close',
  'fcntl',
  'read',
  'write',
  'epoll_ctl',
  'epoll_pwait',
]);
