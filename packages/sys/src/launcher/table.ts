import { errnoNumber } from '../error.js';
import { Fd } from '../fd.js';
import { invalid } from '../kernel.js';
import { layouts } from '../raw/layouts.js';
import { type SyscallName, syscallNumber } from '../raw/numbers.js';
import { Arena } from './arena.js';
import type { Compiled } from './compile.js';
import { Output, Slot, type Step, type StepArg, StringArray } from './step.js';

/** Sizes and offsets of the structures that the machine code reads; x64.S describes them. */
export const FRAME = { size: 128, args: 8, steps: 48, failed: 56, errno: 64, mask: 72, all: 80 } as const;
/** The same of a step. */
export const STEP = {
  size: 128,
  nr: 0,
  args: 8,
  indirect: 56,
  result: 64,
  onZero: 72,
  onValue: 80,
  ignore: 88,
  onIgnored: 96,
  again: 104,
  tries: 112,
  reached: 120,
} as const;

/** A program in memory, as the machine code reads it. */
export interface Table {
  readonly arena: Arena;
  readonly frame: number;
  /** Address of the first step. */
  readonly steps: number;
}

/** Rows of {@link writeTrampoline}. */
const TRAMPOLINE = 2;

/**
 * Writes a compiled program into memory.
 *
 * @param program - the program
 * @param numberOf - system call numbers, of another architecture where its code is tested here
 */
export function writeTable(program: Compiled, numberOf: (name: SyscallName) => number = syscallNumber): Table {
  const arena = Arena.take(sizeOf(program));
  try {
    return fill(arena, program, numberOf);
  } catch (error) {
    arena.release();
    throw error;
  }
}

function fill(arena: Arena, program: Compiled, numberOf: (name: SyscallName) => number): Table {
  const { steps } = program;
  const frame = arena.allocate(FRAME.size);
  const first = arena.allocate(steps.length * STEP.size);
  arena.set(frame + FRAME.steps, first);
  arena.set(frame + FRAME.all, -1n);
  const addresses = new Map<Step, number>();
  for (const [i, step] of steps.entries()) {
    addresses.set(step, first + i * STEP.size);
    step.slot.address = first + i * STEP.size + STEP.result;
  }
  for (const output of program.outputs) output.address = arena.allocate(output.size);
  const jump = (from: number, to: Step | undefined) => (to ? (addresses.get(to) as number) - from : STEP.size);
  for (const [step, at] of addresses) {
    arena.set(at + STEP.nr, numberOf(step.syscall));
    let indirect = 0;
    for (const [i, arg] of step.args.entries()) {
      if (arg instanceof Slot) indirect |= 1 << i;
      arena.set(at + STEP.args + 8 * i, argument(arena, arg));
    }
    if (indirect) arena.set(at + STEP.indirect, indirect);
    if (step.onZero || step.onValue || step.onIgnored) {
      arena.set(at + STEP.onZero, jump(at, step.onZero));
      arena.set(at + STEP.onValue, jump(at, step.onValue));
      arena.set(at + STEP.onIgnored, jump(at, step.onIgnored));
    } else {
      arena.set(at + STEP.onZero, STEP.size);
      arena.set(at + STEP.onValue, STEP.size);
      arena.set(at + STEP.onIgnored, STEP.size);
    }
    const ignore = step.explained ? ['*'] : step.options.ignore;
    if (ignore) arena.set(at + STEP.ignore, errnoList(ignore));
    if (step.options.retry) {
      arena.set(at + STEP.again, errnoList(step.options.retry.on));
      arena.set(at + STEP.tries, step.options.retry.times);
    }
  }
  return { arena, frame, steps: first };
}

/**
 * Puts a clone before the program: who is started first only makes that clone, whose child goes on with the program, waits
 * until the child has read the table, and exits.
 *
 * @returns address of the clone's row; its arguments are yet to be set
 */
export function writeTrampoline({ arena, frame, steps }: Table): number {
  const clone = arena.allocate(STEP.size);
  const exit = arena.allocate(STEP.size);
  arena.set(clone + STEP.nr, syscallNumber('clone3'));
  arena.set(clone + STEP.onZero, steps - clone);
  arena.set(clone + STEP.onValue, exit - clone);
  arena.set(exit + STEP.nr, syscallNumber('exit'));
  arena.set(frame + FRAME.steps, clone);
  return clone;
}

/** Writes a struct clone_args and returns its address. */
export function writeCloneArgs(
  arena: Arena,
  flags: number,
  signal: number,
  { pidfd = 0, parentTid = 0, cgroup }: { pidfd?: number; parentTid?: number; cgroup?: number | undefined },
): number {
  const { clone_args } = layouts;
  const args = arena.allocate(clone_args.size);
  arena.set(args + clone_args.parent_tid, parentTid);
  arena.set(args + clone_args.flags, flags);
  arena.set(args + clone_args.pidfd, pidfd);
  arena.set(args + clone_args.exit_signal, signal);
  if (cgroup !== undefined) arena.set(args + clone_args.cgroup, cgroup);
  return args;
}

function argument(arena: Arena, arg: StepArg): number | bigint {
  if (typeof arg === 'number' || typeof arg === 'bigint') return arg;
  if (typeof arg === 'string') return arena.string(arg);
  if (arg === null) return 0;
  if (arg instanceof Slot || arg instanceof Output) return arg.address;
  if (arg instanceof Fd) return arg.number;
  if (arg instanceof Uint8Array) return arena.store(arg);
  const list = arena.allocate(8 * (arg.strings.length + 1));
  for (const [i, text] of arg.strings.entries()) arena.set(list + 8 * i, arena.string(text));
  return list;
}

function errnoList(names: readonly string[]): bigint {
  if (names.length > 8) throw invalid('a step ignores eight errors at the most');
  return names.reduceRight((list, name) => (list << 8n) | BigInt(name === '*' ? 255 : errnoNumber(name)), 0n);
}

/** An upper bound: three bytes a UTF-16 unit, everything rounded up to words. */
function sizeOf({ steps, outputs }: Compiled): number {
  const text = (value: string) => value.length * 3 + 16;
  let size = FRAME.size + (steps.length + TRAMPOLINE) * STEP.size + 4 * layouts.clone_args.size + 64;
  for (const output of outputs) size += output.size + 8;
  for (const step of steps) {
    for (const arg of step.args) {
      if (typeof arg === 'string') size += text(arg);
      else if (arg instanceof Uint8Array) size += arg.length + 8;
      else if (arg instanceof StringArray) {
        size += 8 * (arg.strings.length + 1);
        for (const value of arg.strings) size += text(value);
      }
    }
  }
  return size;
}
