import { isMainThread } from 'node:worker_threads';
import type { Fd } from '../fd.js';
import { invalid } from '../kernel.js';
import { AT, CLONE, F, PR } from '../raw/flags.js';
import { flagText } from './explain.js';
import { joinOrder } from './join.js';
import { type Phase, phases } from './phase.js';
import type { Ending } from './program.js';
import { Label, Output, row, Slot, type Step, StringArray } from './step.js';

/** What a program has been told so far. */
export interface Draft {
  readonly ending: Ending;
  readonly steps: ReadonlyMap<Phase, (Step | Label)[]>;
  readonly outputs: Output[];
  /** `CLONE.NEW*` */
  flags: number;
  cgroup: Fd | undefined;
  joins: boolean;
  joinsPid: boolean;
  /** False for joins of a time namespace, which the kernel refuses to whoever shares memory. */
  sharesMemory: boolean;
  sharesFiles: boolean;
  /** Has a step that does. */
  changesCredentials: boolean;
  /** Joins namespaces where others live, who could read this process through the child. */
  exposed: boolean;
  closeFrom: number | undefined;
  /** What stays open all the same, to the exec. */
  readonly kept: Fd[];
  supervisor: { image: Fd; pidAt: number; pid: Output } | undefined;
}

/** A program as a table, and what its launch must know. */
export interface Compiled {
  readonly steps: readonly Step[];
  /** The second clone, of a launch that joins before it makes namespaces. */
  readonly nest: Step | undefined;
  readonly nestFlags: number;
  /** The clone that leaves a supervisor behind, and where it writes the program's pid. */
  readonly fork: { step: Step; pid: Output } | undefined;
  /** How an errand ends, and how it ends once the kernel's words were read. */
  readonly exit: Step;
  readonly failed: Step;
  /** Steps that read what a file system context says of a failure. */
  readonly readers: ReadonlyMap<Slot, Step>;
  /** The call that makes the first child, as text. */
  readonly clone: () => string;
  readonly flags: number;
  readonly cgroup: Fd | undefined;
  readonly outputs: readonly Output[];
  /** Whether the child makes this process undumpable. */
  readonly flipsDumpable: boolean;
}

/** Lays a program out: phases in their order, clones, closings, and what comes after the end. */
export function compile(draft: Draft): Compiled {
  const { flags: own, exposed, supervisor, cgroup } = draft;
  const of = (phase: Phase) => draft.steps.get(phase) as (Step | Label)[];
  // Being dumpable is the process's: it can be switched off and on again by one thread, not by several at once. A launch
  // that needs it from a worker thread gets a copy of the memory instead.
  const flips = exposed || draft.changesCredentials;
  const memory = draft.sharesMemory && !(flips && !isMainThread) ? CLONE.VM : 0;
  const files = draft.sharesFiles ? CLONE.FILES : 0;
  // The clocks of a time namespace can be set until somebody enters it, and before Linux 6.3 only a fork does that: the
  // first of two children makes it and sets them, the second enters it, with a memory of its own.
  const time = own & CLONE.NEWTIME;
  const nested = time !== 0 || (draft.joins && (draft.joinsPid || (own & CLONE.NEWPID) !== 0));
  const flags = own & ~CLONE.NEWTIME;
  const lists = new Map(draft.steps);
  // After what it writes about itself in /proc, which is root's while it is undumpable.
  if (exposed) lists.set('birth', [...of('birth'), row('birth', 'prctl', [PR.SET_DUMPABLE, 0, 0, 0, 0])]);
  lists.set('join', joinOrder(of('join') as Step[]));
  if (time) lists.set('user', [row('user', 'unshare', [time], { text: 'unshare(CLONE_NEWTIME)' }), ...of('user')]);
  lists.set('fds', [...of('fds'), ...closing(draft)]);
  const exit = row('end', 'exit', [0]);
  const failed = row('end', 'exit', [127], { text: 'exit(127)' });
  let nest: Step | undefined;
  if (nested) {
    nest = row('nest', 'clone3', [], { text: () => `clone3(${flagText(flags | CLONE.PARENT)})` });
    nest.onValue = exit;
    lists.set('nest', [nest]);
  } else if (draft.joins && flags)
    lists.set('nest', [row('nest', 'unshare', [flags], { text: () => `unshare(${flagText(flags)})` })]);
  const rows = phases.flatMap((phase) => lists.get(phase) as (Step | Label)[]);
  const words = new Output(512);
  const readers = explanations(rows, words, failed);
  const tail = [exit, ...readers.values(), ...(readers.size ? [failed] : [])];
  let fork: Compiled['fork'];
  if (supervisor) {
    if (!(flags & CLONE.NEWPID)) throw invalid('a supervisor needs a new pid namespace, whose first process it is');
    fork = supervise(rows, tail, supervisor);
  }
  if (draft.ending === 'errand' || nest || readers.size || fork) rows.push(...tail);
  const steps = place(rows);
  const outputs = readers.size ? [...draft.outputs, words] : draft.outputs;
  judgeOrder(steps, outputs);
  const first = memory | CLONE.PIDFD | files | (nested || draft.joins ? 0 : flags);
  const shown = (first | CLONE.VFORK) + CLONE.CLEAR_SIGHAND + (cgroup ? CLONE.INTO_CGROUP : 0);
  return {
    steps,
    nest,
    nestFlags:
      ((time ? 0 : memory) | files | CLONE.PARENT | CLONE.PARENT_SETTID | CLONE.VFORK | flags) + CLONE.CLEAR_SIGHAND,
    fork,
    exit,
    failed,
    readers,
    // No getter: a literal with one is an object of its own kind, which V8 keeps until it collects everything.
    clone: () => `clone3(${flagText(shown)})`,
    flags: first + CLONE.CLEAR_SIGHAND,
    cgroup,
    outputs,
    flipsDumpable: flips && memory !== 0,
  };
}

/** Takes the labels out: whoever is led to one goes to the row behind it, or where that one leads on. */
function place(rows: readonly (Step | Label)[]): Step[] {
  const steps: Step[] = [];
  let next: Step | undefined;
  for (let i = rows.length - 1; i >= 0; i--) {
    const row = rows[i] as Step | Label;
    if (row instanceof Label) {
      row.row = next;
      // Branches lead forward, so the other label has its row by now.
      if (row.onward) next = row.onward.row;
    } else {
      row.next = next;
      next = row;
      steps.push(row);
    }
  }
  return steps.reverse();
}

/** The steps that read what file system contexts say, by context; each fills `words` and leads to the end. */
function explanations(rows: readonly (Step | Label)[], words: Output, failed: Step): Map<Slot, Step> {
  const readers = new Map<Slot, Step>();
  for (const step of rows) {
    if (step instanceof Label || !isExplained(step)) continue;
    const { context } = step.options;
    if (readers.has(context)) continue;
    const reader = row('end', 'read', [context, words, 511], { ignore: ['*'] });
    reader.onZero = reader.onValue = reader.onIgnored = failed;
    readers.set(context, reader);
  }
  return readers;
}

/** Whether any failure of a step leads to a read of the kernel's words. */
export function isExplained(step: Step): step is Step & { options: { context: Slot } } {
  return step.options.context !== undefined && !step.ignore;
}

/** Forks where the phase `supervise` begins: the child of that goes on as the program, the parent becomes the supervisor. */
function supervise(
  rows: (Step | Label)[],
  tail: Step[],
  { image, pidAt, pid }: NonNullable<Draft['supervisor']>,
): Compiled['fork'] {
  const step = row('supervise', 'clone3', [], { text: 'clone3(CLONE_VM|CLONE_VFORK|CLONE_PARENT_SETTID)' });
  const at = rows.findIndex((other) => !(other instanceof Label) && other.phase === 'supervise');
  rows.splice(at, 0, step);
  step.onValue = row('end', 'pwrite64', [image, pid, 4, pidAt]);
  const [argv, env] = [new StringArray(['init']), new StringArray([])];
  tail.push(
    step.onValue,
    row('end', 'fcntl', [image, F.ADD_SEALS, ALL_SEALS]),
    // It has no part in what the program was given beyond its streams: who waits for the end of one would wait for both.
    row('end', 'close_range', [3, LAST_FD, CLOSE_RANGE_CLOEXEC], { ignore: ['EINVAL'] }),
    row('end', 'execveat', [image, '', argv, env, AT.EMPTY_PATH], { text: 'execveat(init)' }),
  );
  return { step, pid };
}

/** Everything from a number on, but what is kept and the image of a supervisor. */
function closing({ closeFrom: from, kept, supervisor }: Draft): Step[] {
  if (from === undefined) return [];
  const numbers = kept.map(({ number }) => number);
  const low = numbers.find((number) => number < from);
  if (low !== undefined) throw invalid(`descriptor ${low} is to be kept, and is one that the child is given`);
  if (supervisor && supervisor.image.number >= from) numbers.push(supervisor.image.number);
  const steps: Step[] = [];
  let first = from;
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) {
    if (first < number) steps.push(row('fds', 'close_range', [first, number - 1, 0]));
    first = number + 1;
  }
  steps.push(row('fds', 'close_range', [first, LAST_FD, 0]));
  return steps;
}

/** An argument that a later step, or another program, has yet to make would be 0 when the child reads it. */
function judgeOrder(steps: readonly Step[], outputs: readonly Output[]): void {
  layouts++;
  for (const output of outputs) output.layout = layouts;
  for (const step of steps) {
    for (let i = 0; i < step.args.length; i++) {
      const arg = step.args[i];
      if (typeof arg === 'object' && (arg instanceof Slot || arg instanceof Output) && arg.layout !== layouts)
        throw invalid(`${step.syscall}: an argument is the result of no earlier step of this program`);
    }
    step.slot.layout = layouts;
  }
}

/** How many programs were laid out. */
let layouts = 0;
const ALL_SEALS = 15;
const LAST_FD = 0xffffffff;
/** Linux 5.11. */
const CLOSE_RANGE_CLOEXEC = 4;
