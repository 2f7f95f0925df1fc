import { errnoNumber, KernelError } from '../error.js';
import { Fd } from '../fd.js';
import { invalid, kernel } from '../kernel.js';
import { CLONE } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { syscallNumber } from '../raw/numbers.js';
import { attempt, syscall } from '../syscall.js';
import { reap } from '../wait.js';
import type { Compiled } from './compile.js';
import { keepDumpable } from './dumpable.js';
import { stepText } from './explain.js';
import { cloneError, deathError, stepError } from './failure.js';
import type { Launched } from './launch.js';
import type { Ending, LaunchProgram } from './program.js';
import { openedBy } from './rules.js';
import { isExec, type Step } from './step.js';
import { FRAME, STEP, type Table, writeCloneArgs, writeTable } from './table.js';

const SIGCHLD = 17;
const SIGKILL = 9;

/** One launch of a program: its table, its children, and what they left. Its maker calls {@link Run.end}. */
export class Run {
  readonly #program: LaunchProgram;
  readonly #compiled: Compiled;
  readonly #table: Table;
  readonly #pidfdCell: number;
  /** Where the kernel writes the pid of a nested clone, before that runs. */
  readonly #nestedCell: number;
  #pid = 0;
  #pidfd: Fd | undefined;
  #restoreDumpable: (() => void) | undefined;

  /** Lays the program out; where that fails, the program is finished. */
  constructor(program: LaunchProgram, ending: Ending, keep: readonly Fd[] = []) {
    this.#program = program;
    try {
      if (program.ending !== ending) throw invalid(`the program ends as ${program.ending}, not as ${ending}`);
      this.#compiled = program.compile(keep);
      if (ending === 'process' && !this.#compiled.steps.some(isExec)) throw invalid('a process needs an execve');
      this.#table = writeTable(this.#compiled, (step) => syscallNumber(step.syscall));
    } catch (error) {
      throw failed(program, error);
    }
    const { arena } = this.#table;
    this.#pidfdCell = arena.allocate(8);
    this.#nestedCell = arena.allocate(8);
    const { nest, nestFlags, fork } = this.#compiled;
    if (nest) this.#setClone(this.#at(nest) + STEP.args, nestFlags, 0, { parentTid: this.#nestedCell });
    if (fork) {
      const flags = CLONE.VM + CLONE.VFORK + CLONE.PARENT_SETTID + CLONE.CLEAR_SIGHAND;
      this.#setClone(this.#at(fork.step) + STEP.args, flags, SIGCHLD, { parentTid: fork.pid.address });
    }
  }

  /** The first child's pid. */
  get pid(): number {
    return this.#pid;
  }

  /** The first child's pidfd, while this owns it. */
  get pidfd(): Fd {
    return this.#pidfd as Fd;
  }

  /** Clones; the child walks the table. Where that fails, the program is finished. */
  clone(extra: number): void {
    const { flags, cgroup, flipsDumpable } = this.#compiled;
    const signal = this.#program.ending === 'errand' ? 0 : SIGCHLD;
    // Sums, not ors: two of the flags are above 32 bits.
    const all = flags + extra + (cgroup ? CLONE.INTO_CGROUP : 0);
    const { arena, frame } = this.#table;
    try {
      // The second of two children has no pidfd here yet: better no child than one that cannot be handed out.
      if (this.#compiled.nest && this.#program.ending === 'process')
        Fd.own(syscall('pidfd_open', process.pid, 0)).close();
      if (flipsDumpable) this.#restoreDumpable = keepDumpable();
      arena.set(frame, syscallNumber('clone3'));
      this.#setClone(frame + FRAME.args, all, signal, { pidfd: this.#pidfdCell, cgroup: cgroup?.number });
      let result = this.#launch(all);
      if (result === -errnoNumber('ENOSYS') || result === -errnoNumber('EINVAL'))
        result = this.#oldClone(all, signal, result);
      if (result < 0) throw cloneError(result, this.#compiled);
      this.#pid = result;
      this.#pidfd = Fd.own(arena.int(this.#pidfdCell));
    } catch (error) {
      throw failed(this.#program, error);
    }
  }

  /** Reads what the child left: the process, or the error. Whatever is thrown, no child is left then. */
  settle(): Launched {
    try {
      this.#read();
      const errno = this.#table.arena.get(this.#table.frame + FRAME.errno);
      const step = errno ? this.#stepAt(this.#table.arena.get(this.#table.frame + FRAME.failed)) : this.#wordsOf();
      if (step) {
        this.#closeResults(step);
        throw stepError(-(step.slot.value ?? 0) || errno, step, this.#compiled);
      }
      const launched = this.#program.ending === 'errand' ? this.#errandDone() : this.#processStarted();
      this.#program.finish('started', launched.pid, launched.pidfd);
      if (this.#program.ending === 'process') this.#pidfd = undefined;
      return launched;
    } catch (error) {
      this.abandon();
      throw failed(this.#program, error);
    }
  }

  /** Kills what there is of the two children, without waiting: the first can clone the second until it is gone. */
  kill(): void {
    if (this.#pidfd && !this.#pidfd.closed) attempt('pidfd_send_signal', this.#pidfd, SIGKILL, null, 0);
    // Its number is nobody else's before it is reaped here.
    if (this.#nested) attempt('kill', this.#nested, SIGKILL);
  }

  /** Kills and reaps whatever children there are, waiting for their end. */
  abandon(): void {
    this.kill();
    if (this.#pidfd && !this.#pidfd.closed) {
      tryReap(this.#pidfd);
      this.#pidfd.close();
    }
    this.kill();
    if (this.#nested) tryReap(this.#nested);
  }

  /** Gives back what the launch held. */
  end(): void {
    this.#restoreDumpable?.();
    this.#pidfd?.close();
    this.#table.arena.release();
  }

  #errandDone(): Launched {
    const { pid, pidfd } = this;
    const status = reap(pidfd, { block: true });
    // The first of two comes to its end whatever becomes of the second.
    const second = this.#nested ? reap(this.#nested, { block: true }) : undefined;
    this.#table.arena.set(this.#nestedCell, 0);
    if (!this.#reached(this.#compiled.exit) || (second && second.code !== 0)) {
      this.#closeResults();
      throw this.#died((second ?? status)?.signal ?? null);
    }
    return { pid, pidfd };
  }

  #processStarted(): Launched {
    const { nest, steps } = this.#compiled;
    if (nest) {
      const status = reap(this.pidfd, { block: true });
      this.pidfd.close();
      if (!this.#nested) throw this.#died(status?.signal ?? null);
      this.#pid = this.#nested;
      this.#pidfd = Fd.own(syscall('pidfd_open', this.#nested, 0));
      this.#table.arena.set(this.#nestedCell, 0);
    }
    if (!steps.some((step) => isExec(step) && this.#reached(step)))
      throw this.#died(reap(this.pidfd, { block: true })?.signal ?? null);
    return { pid: this.#pid, pidfd: this.pidfd };
  }

  #died(signal: number | null): KernelError {
    const last = this.#compiled.steps.findLast((step) => step.phase !== 'end' && this.#reached(step));
    return deathError(signal, last, this.#compiled);
  }

  /** The pid of the second of two children, from before it runs until it is reaped or handed out. */
  get #nested(): number {
    return this.#compiled.nest ? this.#table.arena.int(this.#nestedCell) : 0;
  }

  /** The step whose file system context has words on its failure. */
  #wordsOf(): Step | undefined {
    if (!this.#reached(this.#compiled.failed)) return undefined;
    return this.#compiled.steps.findLast(
      (step) => step.options.context && this.#reached(step) && (step.slot.value ?? 0) < 0,
    );
  }

  /** An errand that failed has left its results open in this process: those of the steps before `until`. */
  #closeResults(until?: Step): void {
    if (!this.#program.sharesFiles) return;
    for (const step of this.#compiled.steps) {
      if (step === until) break;
      for (const number of openedBy(step)) attempt('close', number);
    }
  }

  #launch(flags: number): number {
    const { arena, frame, steps: first } = this.#table;
    const { steps } = this.#compiled;
    return kernel().launch({
      frame,
      flags,
      // Only a recording kernel looks at them.
      get steps() {
        return steps.map((step) => ({
          syscall: step.syscall,
          phase: step.phase,
          get text() {
            return stepText(step, steps);
          },
        }));
      },
      fail: (index, errno) => {
        arena.set(frame + FRAME.failed, first + index * STEP.size);
        arena.set(frame + FRAME.errno, errno);
      },
      reach: (index, result) => {
        arena.set(first + index * STEP.size + STEP.reached, 1);
        arena.set(first + index * STEP.size + STEP.result, result);
      },
      pidfd: (number) => arena.set(this.#pidfdCell, number),
    });
  }

  /** clone(2), for kernels and filters without clone3: handlers are reset by steps, a cgroup cannot be asked for. */
  #oldClone(flags: number, signal: number, refusal: number): number {
    const { cgroup, nest, fork } = this.#compiled;
    if (cgroup || nest || fork || flags % (CLONE.NEWTIME * 2) >= CLONE.NEWTIME) return refusal;
    const plain = flags % CLONE.CLEAR_SIGHAND;
    const { arena, frame } = this.#table;
    arena.set(frame, syscallNumber('clone'));
    for (const [i, value] of [plain | signal, 0, this.#pidfdCell, 0, 0].entries())
      arena.set(frame + FRAME.args + 8 * i, value);
    return this.#launch(plain);
  }

  #setClone(address: number, flags: number, signal: number, more: Parameters<typeof writeCloneArgs>[3]): void {
    const { arena } = this.#table;
    arena.set(address, writeCloneArgs(arena, flags, signal, more));
    arena.set(address + 8, layouts.clone_args.size);
  }

  #read(): void {
    const { arena } = this.#table;
    for (const step of this.#compiled.steps)
      step.slot.value = this.#reached(step) ? arena.get(this.#at(step) + STEP.result) : undefined;
    for (const output of this.#compiled.outputs) output.bytes = arena.read(output.address, output.size);
  }

  #reached(step: Step): boolean {
    return this.#table.arena.get(this.#at(step) + STEP.reached) !== 0;
  }

  #at(step: Step): number {
    return step.slot.address - STEP.result;
  }

  #stepAt(address: number): Step | undefined {
    return this.#compiled.steps[(address - this.#table.steps) / STEP.size];
  }
}

/** Undoes what the program's parts did; an error of theirs is the cause of the error that is told. */
export function failed(program: LaunchProgram, error: unknown): unknown {
  try {
    program.finish('failed');
  } catch (cause) {
    if (error instanceof Error && error.cause === undefined) error.cause = cause;
  }
  return error;
}

function tryReap(child: Fd | number): void {
  try {
    reap(child, { block: true });
  } catch (error) {
    if (!KernelError.is(error, 'ECHILD')) throw error;
  }
}
