import type { Fd } from '../fd.js';
import type { SyscallName } from '../raw/numbers.js';
import type { Phase } from './phase.js';

/** The result of a step, to be an argument of later steps and to be read once the child is done. */
export class Slot {
  /** @internal Place of the step's result in the table, set when the table is written. */
  place = 0;
  /** @internal The layout in which a step has made it. */
  layout = 0;
  /** The result after the launch; undefined where the step was not reached. */
  value: number | undefined;
  /** Name shown by `explain()`. */
  readonly label: string;

  /** @internal */
  constructor(label: string) {
    this.label = label;
  }
}

const nothing = Buffer.alloc(0);

/** Memory that a step fills, to be read once the child is done, or to be an argument of later steps by address. */
export class Output {
  /** @internal Place in the arena. */
  place = 0;
  /** @internal The layout that it belongs to. */
  layout = 0;
  /** What stands there after the launch. */
  bytes: Buffer = nothing;
  /** Its length. */
  readonly size: number;

  /** @internal */
  constructor(size: number) {
    this.size = size;
  }
}

/** A NULL-terminated array of C strings, as execve takes them. */
export class StringArray {
  readonly strings: readonly string[];

  /**
   * @param strings - its members
   */
  constructor(strings: readonly string[]) {
    this.strings = [...strings];
  }
}

/** What a step takes beside what a system call takes: results of earlier steps, memory to fill, string arrays. */
export type StepArg = number | bigint | string | Uint8Array | Fd | Slot | Output | StringArray | null;

/** How a step behaves. */
export interface StepOptions {
  /** Errors that count as "go on". */
  ignore?: readonly string[];
  /** Errors that repeat the step, and how often. */
  retry?: { on: readonly string[]; times: number };
  /** Its result is a new descriptor, which its name does not tell (an ioctl, bpf): an errand that fails closes it again. */
  opens?: boolean;
  /** What to say when it fails: always, by error name, or what finds out then. */
  hint?: string | Readonly<Partial<Record<string, string>>> | (() => string);
  /** How `explain()` and errors show the call, where its arguments are packed bytes; a function is asked when it is shown. */
  text?: string | (() => string);
  /** File system context whose own words explain a failure: they are read in the child before it ends. */
  context?: Slot;
}

/** One row of the table. */
export interface Step {
  readonly phase: Phase;
  readonly syscall: SyscallName;
  readonly args: readonly StepArg[];
  readonly slot: Slot;
  readonly options: StepOptions;
  /** Errors that count as "go on": those of its options, or those that lead to a branch. */
  ignore: readonly string[] | undefined;
  /** Where to go after a result of 0, after another success, after an ignored error, instead of `next`. */
  onZero: Step | undefined;
  onValue: Step | undefined;
  onIgnored: Step | Label | undefined;
  /** Where to go else; set when the program is laid out. */
  next: Step | undefined;
}

/** A place between rows that branches lead to. It is none itself: laid out, it stands for the row behind it. */
export class Label {
  /** The row; set when the program is laid out. */
  row: Step | undefined;
  /** Who comes here from above goes on there. */
  readonly onward: Label | undefined;

  /** @internal */
  constructor(onward?: Label) {
    this.onward = onward;
  }
}

/**
 * A step that goes on with the next row, whatever its result.
 *
 * @internal
 */
export function row(phase: Phase, syscall: SyscallName, args: readonly StepArg[], options: StepOptions = {}): Step {
  return {
    phase,
    syscall,
    args: [...args],
    slot: new Slot(syscall),
    options,
    ignore: options.ignore,
    onZero: undefined,
    onValue: undefined,
    onIgnored: undefined,
    next: undefined,
  };
}

/** @internal */
export function isExec(step: Step): boolean {
  return step.syscall === 'execve' || step.syscall === 'execveat';
}
