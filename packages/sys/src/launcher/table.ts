import { errnoNumber } from '../error.js';
import { Fd } from '../fd.js';
import { invalid } from '../kernel.js';
import { layouts } from '../raw/layouts.js';
import { type SyscallName, syscallNumber } from '../raw/numbers.js';
import { Arena } from './arena.js';
import { type Compiled, isExplained } from './compile.js';
import { Label, Output, Slot, type Step, type StepArg, StringArray } from './step.js';

/** Sizes and offsets of the structures that the machine code reads; x64.S describes them. */
export const FRAME = { size: 128, args: 8, steps: 48, failed: 56, errno: 64, mask: 72, all: 80, here: 88 } as const;
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

/** Among the errors that a step ignores: any. */
export const ANY_ERROR = 255;
/** The number of a step where a walk on the calling thread ends: no system call has it. */
export const END = -1;

/** A program in memory, as the machine code reads it. */
export interface Table {
  readonly arena: Arena;
  /** Places of the frame and of the first step. */
  readonly frame: number;
  readonly steps: number;
}

/** Rows of {@link writeTrampoline} and {@link writeEntry}, of which a second try has some more. */
const SPARE_ROWS = 6;
/** Those of a first and of a second try. */
const CLONES = 8;

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
  const { steps, readers } = program;
  const frame = arena.allocate(FRAME.size);
  const first = arena.allocate(steps.length * STEP.size);
  arena.point(frame + FRAME.steps, first);
  arena.set(frame + FRAME.all, -1);
  let at = first;
  for (const step of steps) {
    step.slot.place = at + STEP.result;
    at += STEP.size;
  }
  for (const output of program.outputs) output.place = arena.allocate(output.size);
  at = first;
  for (const step of steps) {
    const { args, options, onZero, onValue } = step;
    const reader = isExplained(step) ? readers.get(step.options.context) : undefined;
    arena.set(at + STEP.nr, numberOf(step.syscall));
    let indirect = 0;
    for (let i = 0; i < args.length; i++) {
      const arg = args[i] as StepArg;
      if (arg instanceof Slot) indirect |= 1 << i;
      writeArgument(arena, at + STEP.args + 8 * i, arg);
    }
    if (indirect) arena.set(at + STEP.indirect, indirect);
    arena.set(at + STEP.onZero, jump(step, onZero));
    arena.set(at + STEP.onValue, jump(step, onValue));
    arena.set(at + STEP.onIgnored, jump(step, reader ?? step.onIgnored));
    if (reader) setErrnos(arena, at + STEP.ignore, ['*']);
    else if (step.ignore) setErrnos(arena, at + STEP.ignore, step.ignore);
    if (options.retry) {
      setErrnos(arena, at + STEP.again, options.retry.on);
      arena.set(at + STEP.tries, options.retry.times);
    }
    at += STEP.size;
  }
  return { arena, frame, steps: first };
}

/** Bytes from a step to another; without one, to what comes after it. */
function jump(from: Step, to: Step | Label | undefined): number {
  const row = (to instanceof Label ? to.row : to) ?? from.next;
  return row ? row.slot.place - from.slot.place : STEP.size;
}

/**
 * Puts a clone before the program: who is started first only makes that clone, whose child goes on with the program, waits
 * until the child has read the table, and exits.
 *
 * @param to - place of the row that the child goes on with
 * @returns place of the clone's row; its arguments are yet to be set
 */
export function writeTrampoline({ arena, frame }: Table, to: number): number {
  const clone = arena.allocate(STEP.size);
  const exit = arena.allocate(STEP.size);
  arena.set(clone + STEP.nr, syscallNumber('clone3'));
  arena.set(clone + STEP.onZero, to - clone);
  arena.set(clone + STEP.onValue, exit - clone);
  arena.set(exit + STEP.nr, syscallNumber('exit'));
  arena.point(frame + FRAME.steps, clone);
  return clone;
}

/**
 * Puts before the program that its child enters a cgroup v2 itself, and then what it would have got there at its birth.
 *
 * @param procs - `cgroup.procs` of the group, open for writing
 * @param namespaces - `CLONE.NEW*` flags that are for who is in the group
 * @returns place of the first row
 */
export function writeEntry({ arena, frame, steps }: Table, procs: number, namespaces: number): number {
  const write = arena.allocate(STEP.size);
  const unshare = namespaces ? arena.allocate(STEP.size) : 0;
  const row = (at: number, name: SyscallName, next: number) => {
    arena.set(at + STEP.nr, syscallNumber(name));
    for (const way of [STEP.onZero, STEP.onValue, STEP.onIgnored]) arena.set(at + way, next - at);
  };
  row(write, 'write', unshare || steps);
  arena.set(write + STEP.args, procs);
  arena.point(write + STEP.args + 8, arena.string('0'));
  arena.set(write + STEP.args + 16, 1);
  if (unshare) {
    row(unshare, 'unshare', steps);
    arena.set(unshare + STEP.args, namespaces);
  }
  arena.point(frame + FRAME.steps, write);
  return write;
}

/** Writes a struct clone_args, with places of cells where there are some, and returns its place. */
export function writeCloneArgs(
  arena: Arena,
  flags: number,
  signal: number,
  { pidfd, parentTid, cgroup }: { pidfd?: number; parentTid?: number; cgroup?: number | undefined },
): number {
  const { clone_args } = layouts;
  const args = arena.allocate(clone_args.size);
  if (parentTid !== undefined) arena.point(args + clone_args.parent_tid, parentTid);
  arena.set(args + clone_args.flags, flags);
  if (pidfd !== undefined) arena.point(args + clone_args.pidfd, pidfd);
  arena.set(args + clone_args.exit_signal, signal);
  if (cgroup !== undefined) arena.set(args + clone_args.cgroup, cgroup);
  return args;
}

function writeArgument(arena: Arena, at: number, arg: StepArg): void {
  if (typeof arg === 'number' || typeof arg === 'bigint') arena.set(at, arg);
  else if (arg === null) arena.set(at, 0);
  else if (arg instanceof Fd) arena.set(at, arg.number);
  else arena.point(at, placeOf(arena, arg));
}

/** Where an argument stands that is passed by address. */
function placeOf(arena: Arena, arg: string | Slot | Output | Uint8Array | StringArray): number {
  if (typeof arg === 'string') return arena.string(arg);
  if (arg instanceof Slot || arg instanceof Output) return arg.place;
  if (arg instanceof Uint8Array) return arena.store(arg);
  const list = arena.allocate(8 * (arg.strings.length + 1));
  for (const [i, text] of arg.strings.entries()) arena.point(list + 8 * i, arena.string(text));
  return list;
}

/** A list of errors in one word, a byte each. */
function setErrnos(arena: Arena, at: number, names: readonly string[]): void {
  if (names.length > 8) throw invalid('a step ignores eight errors at the most');
  for (let i = 0; i < names.length; i++) {
    const name = names[i] as string;
    arena.setByte(at + i, name === '*' ? ANY_ERROR : errnoNumber(name));
  }
}

/** An upper bound: three bytes a UTF-16 unit, everything rounded up to words. */
function sizeOf({ steps, outputs }: Compiled): number {
  const text = (value: string) => value.length * 3 + 16;
  let size = FRAME.size + (steps.length + SPARE_ROWS) * STEP.size + CLONES * layouts.clone_args.size + 64;
  for (const output of outputs) size += output.size + 8;
  for (const step of steps) {
    for (let i = 0; i < step.args.length; i++) {
      const arg = step.args[i] as StepArg;
      if (typeof arg === 'string') size += text(arg);
      else if (typeof arg !== 'object') continue;
      else if (arg instanceof Uint8Array) size += arg.length + 8;
      else if (arg instanceof StringArray) {
        size += 8 * (arg.strings.length + 1);
        for (const value of arg.strings) size += text(value);
      }
    }
  }
  return size;
}
