import { errnoNumber, type KernelError } from '../error.js';
import { Fd } from '../fd.js';
import { invalid, kernel } from '../kernel.js';
import { CLONE, O } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { syscallNumber } from '../raw/numbers.js';
import { attempt, syscall } from '../syscall.js';
import { type ExitStatus, reap } from '../wait.js';
import { watchFd } from '../watcher.js';
import { Children, tryReap } from './children.js';
import type { Compiled } from './compile.js';
import { keepDumpable } from './dumpable.js';
import { stepText } from './explain.js';
import { cloneError, deathError, entryError, stepError } from './failure.js';
import type { Launched } from './launch.js';
import type { Ending, LaunchProgram } from './program.js';
import { openedBy } from './rules.js';
import { isExec, type Step } from './step.js';
import { FRAME, STEP, type Table, writeCloneArgs, writeEntry, writeTable, writeTrampoline } from './table.js';

const SIGCHLD = 17;
const SIGKILL = 9;

/** One launch of a program: its table, its children, and what they left. Its maker calls {@link Run.end}. */
export class Run {
  readonly #program: LaunchProgram;
  readonly #compiled: Compiled;
  readonly #table: Table;
  readonly #children: Children;
  /** What the first child is cloned with. */
  #flags: number;
  #cgroup: Fd | undefined;
  /** Places of the trampoline's row, and of those by which a child enters its cgroup; 0, which is the frame's, without one. */
  #trampoline = 0;
  #entry = 0;
  /** How a trampoline ended that has no child. */
  #childless: ExitStatus | undefined;
  #restoreDumpable: (() => void) | undefined;
  /** A kernel that only plays has started the program itself, and is not to be waited for. */
  #played = false;

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
    this.#flags = this.#compiled.flags;
    this.#cgroup = this.#compiled.cgroup;
    const { nest, nestFlags, fork } = this.#compiled;
    if (nest) this.#setClone(this.#at(nest) + STEP.args, nestFlags, 0, { parentTid: this.#children.nestedCell });
    if (fork) {
      const flags = CLONE.VM + CLONE.VFORK + CLONE.PARENT_SETTID + CLONE.CLEAR_SIGHAND;
      this.#setClone(this.#at(fork.step) + STEP.args, flags, SIGCHLD, { parentTid: fork.pid.place });
    }
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
    this.#attempt(() => {
      const signal = this.#program.ending === 'errand' ? 0 : SIGCHLD;
      // Sums, not ors: two of the flags are above 32 bits.
      const all = this.#flags + extra + (this.#cgroup ? CLONE.INTO_CGROUP : 0);
      this.#children.born(this.#launch(all, signal, this.#cgroup));
    }, this.#compiled.nest !== undefined);
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
      this.#trampoline = writeTrampoline(this.#table, this.#entry || this.#table.steps);
      const flags = bounced(this.#flags) + (this.#cgroup ? CLONE.INTO_CGROUP : 0);
      this.#setClone(this.#trampoline + STEP.args, flags, 0, {
        parentTid: this.#children.clonedCell,
        cgroup: this.#cgroup?.number,
      });
      // What an errand opens is open in whoever shares its descriptors: so must be the one who clones it.
      const shared = this.#flags & CLONE.FILES;
      const pid = this.#launch(CLONE.VM + CLONE.PIDFD + shared + CLONE.CLEAR_SIGHAND, SIGCHLD);
      if (this.#played) this.#children.born(pid);
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
    if (!this.#cgroup || this.#played || arena.get(frame + FRAME.errno) !== 0 || !first || this.#reached(first))
      return false;
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
      const procs = Fd.own(syscall('openat', this.#cgroup as Fd, 'cgroup.procs', O.WRONLY | O.CLOEXEC));
      this.#program.defer(() => procs.close());
      const late = this.#flags & CLONE.NEWCGROUP;
      this.#entry = writeEntry(this.#table, procs.number, late);
      this.#flags -= late;
      this.#cgroup = undefined;
    }, false);
  }

  /** Reads what the child left: the process, or the error. Whatever is thrown, no child is left then. */
  settle(): Launched {
    try {
      const childless = this.#childless ?? this.#children.adoptFirst();
      this.#read();
      const errno = this.#table.arena.get(this.#table.frame + FRAME.errno);
      const at = errno ? this.#failedAt() : 0;
      if (at && at === this.#trampoline) throw cloneError(-errno, this.#compiled);
      // Its rows lie behind those of the program, and the trampoline's behind them.
      if (at && this.#entry && at >= this.#entry) throw entryError(-errno);
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

  /** Clones by clone3, or where that is lacking by clone; returns the pid. */
  #launch(flags: number, signal: number, cgroup?: Fd): number {
    const { arena, frame } = this.#table;
    arena.set(frame, syscallNumber('clone3'));
    this.#setClone(frame + FRAME.args, flags, signal, { pidfd: this.#children.pidfdCell, cgroup: cgroup?.number });
    let result = this.#play(flags);
    if (result === -errnoNumber('ENOSYS') || result === -errnoNumber('EINVAL'))
      result = this.#oldClone(flags, signal, result);
    if (result < 0) throw cloneError(result, this.#compiled);
    return result;
  }

  #play(flags: number): number {
    const { arena, frame, steps: first } = this.#table;
    const { steps } = this.#compiled;
    return kernel().launch({
      frame: arena.addressOf(frame),
      flags,
      steps: () => steps.map((step) => ({ syscall: step.syscall, phase: step.phase, text: stepText(step, steps) })),
      fail: (index, errno) => {
        arena.point(frame + FRAME.failed, first + index * STEP.size);
        arena.set(frame + FRAME.errno, errno);
      },
      reach: (index, result) => {
        arena.set(first + index * STEP.size + STEP.reached, 1);
        arena.set(first + index * STEP.size + STEP.result, result);
      },
      pidfd: (number) => {
        arena.set(this.#children.pidfdCell, number);
        this.#played = true;
      },
    });
  }

  /**
   * clone(2), for kernels and filters without clone3. It can be asked for no cgroup, and leaves the child this process's handlers
   * of signals: a child that does not hold up this thread gets a memory of its own, or they would run on the stack that it uses. An
   * errand runs with every signal blocked, and its results are of use in this memory only.
   */
  #oldClone(flags: number, signal: number, refusal: number): number {
    const { nest, fork } = this.#compiled;
    const cgroup = this.#cgroup;
    const real = this.#trampoline ? bounced(this.#flags) : flags;
    if (cgroup || nest || fork || real % (CLONE.NEWTIME * 2) >= CLONE.NEWTIME) return refusal;
    const { arena, frame } = this.#table;
    const setClone = (at: number, plain: number, parentTid: number) => {
      arena.set(at, syscallNumber('clone'));
      const args = [plain | signal, 0, arena.addressOf(parentTid), 0, 0];
      for (const [i, value] of args.entries()) arena.set(at + STEP.args + 8 * i, value);
    };
    const known = flags % CLONE.CLEAR_SIGHAND;
    // A trampoline has every signal blocked to its end.
    const plain = this.#trampoline || known & CLONE.VFORK ? known : known & ~CLONE.VM;
    setClone(frame, plain, this.#children.pidfdCell);
    const away = this.#program.ending === 'errand' ? 0 : CLONE.VM;
    if (this.#trampoline) setClone(this.#trampoline, (real % CLONE.CLEAR_SIGHAND) & ~away, this.#children.clonedCell);
    return this.#play(plain);
  }

  #setClone(at: number, flags: number, signal: number, more: Parameters<typeof writeCloneArgs>[3]): void {
    const { arena } = this.#table;
    arena.point(at, writeCloneArgs(arena, flags, signal, more));
    arena.set(at + 8, layouts.clone_args.size);
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

/** What a trampoline's clone asks for where this process's own would ask for `flags`: this process is the parent all the same. */
function bounced(flags: number): number {
  return flags + CLONE.VFORK + CLONE.PARENT + CLONE.PARENT_SETTID - CLONE.PIDFD;
}
