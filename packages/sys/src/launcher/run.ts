import type { KernelError } from '../error.js';
import { Fd } from '../fd.js';
import { invalid } from '../kernel.js';
import { O } from '../raw/flags.js';
import { attempt, syscall } from '../syscall.js';
import { type ExitStatus, reap } from '../wait.js';
import { watchFd } from '../watcher.js';
import { Children, tryReap } from './children.js';
import { Clone } from './clone.js';
import type { Compiled } from './compile.js';
import { keepDumpable } from './dumpable.js';
import { cloneError, deathError, entryError, stepError } from './failure.js';
import type { Launched } from './launch.js';
import type { Ending, LaunchProgram } from './program.js';
import { openedBy } from './rules.js';
import { isExec, type Step } from './step.js';
import { FRAME, STEP, type Table, writeTable } from './table.js';

const SIGKILL = 9;

/** One launch of a program: its table, its children, and what they left. Its maker calls {@link Run.end}. */
export class Run {
  readonly #program: LaunchProgram;
  readonly #compiled: Compiled;
  readonly #table: Table;
  readonly #children: Children;
  readonly #cloning: Clone;
  /** How a trampoline ended that has no child. */
  #childless: ExitStatus | undefined;
  #restoreDumpable: (() => void) | undefined;

  /** Lays the program out; where that fails, the program is finished. */
  constructor(program: LaunchProgram, ending: Ending) {
    this.#program = program;
    try {
      if (program.ending !== ending) throw invalid(`the program ends as ${program.ending}, not as ${ending}`);
      this.#compiled = program.compile();
      if (ending === 'process' && !this.#compiled.steps.some(isExec)) throw invalid('a process needs an execve');
      this.#table = writeTable(this.#compiled);
    } catch (error) {
      throw failed(program, error);
    }
    this.#children = new Children(this.#table.arena);
    this.#cloning = new Clone(this.#compiled, this.#table, this.#children, ending);
  }

  /** The first child's pid. */
  get pid(): number {
    return this.#children.first.pid;
  }

  /** Clones; the child walks the table. Where that fails, the program is finished. */
  clone(extra: number): void {
    this.#clone(extra);
    if (!this.#isStillborn()) return;
    this.#enterAfterBirth();
    this.#clone(extra);
  }

  #clone(extra: number): void {
    this.#attempt(() => this.#children.born(this.#cloning.direct(extra)), this.#compiled.nest !== undefined);
  }

  /**
   * Clones by a trampoline: a child that makes the real clone in this thread's place, and waits in it until the program runs.
   * Waiting that way also keeps the kernel from ending this process, which shares the child's memory, when the child's
   * cgroup runs out of its own.
   *
   * @returns settles when the table has been read; the first child is known then
   * @throws the signal's reason, once no child is left
   */
  async bounce(signal: AbortSignal | undefined): Promise<void> {
    await this.#bounce(signal);
    if (!this.#isStillborn()) return;
    this.#enterAfterBirth();
    await this.#bounce(signal);
  }

  async #bounce(signal: AbortSignal | undefined): Promise<void> {
    this.#attempt(() => {
      const pid = this.#cloning.bounced();
      if (this.#cloning.played) this.#children.born(pid);
      else this.#children.bounced();
    }, true);
    const { trampoline } = this.#children;
    try {
      if (trampoline) await watchFd(trampoline, signal ? { signal } : {});
    } catch (reason) {
      for (const child of this.#children.ending()) if (child instanceof Fd) await watchFd(child);
      throw failed(this.#program, reason);
    }
  }

  /**
   * Whether the kernel ended the child in its birth, without a step. Since kernels count how often a group was killed (Linux 6.14, and
   * the older lines that took it over), fork(2) takes the number of the parent's group, and compares it with that of the group that the
   * child is born in: in one that was ever killed nobody lives.
   */
  #isStillborn(): boolean {
    const { arena, frame } = this.#table;
    const [first] = this.#compiled.steps;
    const { cgroup, played } = this.#cloning;
    if (!cgroup || played || arena.get(frame + FRAME.errno) !== 0 || !first || this.#reached(first)) return false;
    this.#childless = this.#children.adoptFirst();
    if (this.#childless) return false;
    const status = reap(this.#children.first.pidfd, { block: true });
    if (status?.signal !== SIGKILL) throw failed(this.#program, this.#died(status?.signal ?? null));
    this.#children.bury();
    return true;
  }

  /** The next child is born where its parent is, and enters the cgroup before anything else. */
  #enterAfterBirth(): void {
    this.#attempt(() => {
      const procs = Fd.own(syscall('openat', this.#cloning.cgroup as Fd, 'cgroup.procs', O.WRONLY | O.CLOEXEC));
      this.#program.defer(() => procs.close());
      this.#cloning.enterAfterBirth(procs);
    }, false);
  }

  /** Reads what the child left: the process, or the error. Whatever is thrown, no child is left then. */
  settle(): Launched {
    try {
      const childless = this.#childless ?? this.#children.adoptFirst();
      this.#read();
      const errno = this.#table.arena.get(this.#table.frame + FRAME.errno);
      const at = errno ? this.#failedAt() : 0;
      if (at && at === this.#cloning.trampoline) throw cloneError(-errno, this.#compiled);
      // Its rows lie behind those of the program, and the trampoline's behind them.
      if (at && this.#cloning.entry && at >= this.#cloning.entry) throw entryError(-errno);
      if (childless) throw this.#died(childless.signal);
      const step = at ? this.#stepAt(at) : this.#wordsOf();
      if (step) {
        this.#closeResults(step);
        throw stepError(-(step.slot.value ?? 0) || errno, step, this.#compiled);
      }
      const launched = this.#program.ending === 'errand' ? this.#errandDone() : this.#processStarted();
      this.#program.finish('started', launched.pid, launched.pidfd);
      if (this.#program.ending === 'process') this.#children.release();
      return launched;
    } catch (error) {
      this.abandon();
      throw failed(this.#program, error);
    }
  }

  /** Kills and reaps whatever children there are, waiting for their end. */
  abandon(): void {
    for (const child of this.#children.ending()) tryReap(child);
  }

  /** Gives back what the launch held. */
  end(): void {
    this.#restoreDumpable?.();
    this.#children.close();
    this.#table.arena.release();
  }

  #errandDone(): Launched {
    const { first } = this.#children;
    const status = reap(first.pidfd, { block: true });
    // The first of two comes to its end whatever becomes of the second.
    const second = this.#children.reapSecond();
    if (!this.#reached(this.#compiled.exit) || (second && second.code !== 0)) {
      this.#closeResults();
      throw this.#died((second ?? status)?.signal ?? null);
    }
    return first;
  }

  #processStarted(): Launched {
    const { nest, steps } = this.#compiled;
    if (nest) {
      const status = reap(this.#children.first.pidfd, { block: true });
      if (!this.#children.adoptSecond()) throw this.#died(status?.signal ?? null);
    }
    const { first } = this.#children;
    if (!steps.some((step) => isExec(step) && this.#reached(step))) {
      // Somebody may have killed the first of two alone.
      attempt('pidfd_send_signal', first.pidfd, SIGKILL, null, 0);
      throw this.#died(reap(first.pidfd, { block: true })?.signal ?? null);
    }
    return first;
  }

  #died(signal: number | null): KernelError {
    const last = this.#compiled.steps.findLast((step) => step.phase !== 'end' && this.#reached(step));
    return deathError(signal, last, this.#compiled);
  }

  /** Place of the row that failed; 0 for none. */
  #failedAt(): number {
    const { arena, frame } = this.#table;
    const address = arena.get(frame + FRAME.failed);
    return address ? arena.placeOf(address) : 0;
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

  #attempt(action: () => void, clonesTwice: boolean): void {
    try {
      // What children clone has no pidfd here yet: better no child than one that cannot be handed out.
      if (clonesTwice && this.#program.ending === 'process') Fd.own(syscall('pidfd_open', process.pid, 0)).close();
      if (this.#compiled.flipsDumpable) this.#restoreDumpable ??= keepDumpable();
      action();
    } catch (error) {
      throw failed(this.#program, error);
    }
  }

  #read(): void {
    const { arena } = this.#table;
    for (const step of this.#compiled.steps)
      step.slot.value = this.#reached(step) ? arena.get(this.#at(step) + STEP.result) : undefined;
    for (const output of this.#compiled.outputs) output.bytes = arena.read(output.place, output.size);
  }

  #reached(step: Step): boolean {
    return this.#table.arena.get(this.#at(step) + STEP.reached) !== 0;
  }

  #at(step: Step): number {
    return step.slot.place - STEP.result;
  }

  #stepAt(place: number): Step | undefined {
    return this.#compiled.steps[(place - this.#table.steps) / STEP.size];
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
