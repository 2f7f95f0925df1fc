import type { Fd } from '../fd.js';
import { invalid } from '../kernel.js';
import { CLONE } from '../raw/flags.js';
import type { SyscallName } from '../raw/numbers.js';
import { type Compiled, compile, type Draft } from './compile.js';
import { explain } from './explain.js';
import { type Phase, phases } from './phase.js';
import { changesCredentials, refuse } from './rules.js';
import { Label, Output, row, type Slot, type Step, type StepArg, type StepOptions } from './step.js';

/** How a program ends: `process` at execve, `errand` by exiting once its steps are done. */
export type Ending = 'process' | 'errand';

/** A part of a confinement: anything that adds steps, flags or joins to a launch. Implemented by the other packages. */
export interface Part {
  /**
   * Adds what this part needs. May be asynchronous where it has to create something first.
   *
   * @param program - the launch in the making
   */
  confine(program: LaunchProgram): void | Promise<void>;
}

/**
 * A launch before it happens: system calls that a child will make, between a clone and an execve (a process) or an exit
 * (an errand). It is data: nothing runs before {@link launch} or {@link errand}, and {@link LaunchProgram.explain} prints it.
 * The child shares the memory of this process, so what would change that memory, or this process's descriptors, is refused.
 *
 * @example
 * ```ts
 * import { errand, LaunchProgram } from '@iso/sys';
 * const program = new LaunchProgram('errand');
 * const pid = program.step('host', 'getpid', []);
 * errand(program);
 * if (!(Number(pid.value) > 1)) throw new Error('no child');
 * ```
 */
export class LaunchProgram {
  /** How it ends. */
  readonly ending: Ending;
  readonly #draft: Draft;
  readonly #deferred: (() => void)[] = [];
  readonly #undo: (() => void)[] = [];
  readonly #started: ((pid: number, pidfd: Fd) => void)[] = [];
  #mayBlock = false;
  #root = false;

  /**
   * @param ending - `process` or `errand`
   */
  constructor(ending: Ending = 'process') {
    this.ending = ending;
    this.#draft = {
      ending,
      steps: new Map<Phase, (Step | Label)[]>(phases.map((phase) => [phase, []])),
      outputs: [],
      flags: 0,
      cgroup: undefined,
      joins: false,
      joinsPid: false,
      sharesMemory: true,
      sharesFiles: ending === 'errand',
      changesCredentials: false,
      exposed: false,
      closeFrom: undefined,
      kept: [],
      supervisor: undefined,
    };
  }

  /**
   * Adds a step.
   *
   * @param phase - where it belongs
   * @param name - the system call
   * @param args - its arguments; slots and outputs of earlier steps stand for their values
   * @param options - errors to ignore or repeat, a hint for the failure
   * @returns the slot of its result
   * @throws `TypeError` for a call that must not run in a child that shares this process's memory or descriptors
   */
  step(phase: Phase, name: SyscallName, args: readonly StepArg[], options: StepOptions = {}): Slot {
    refuse(name, args, { errand: this.ending === 'errand', sharesFiles: this.sharesFiles });
    if (changesCredentials(name)) this.#draft.changesCredentials = true;
    const step = row(phase, name, args, options);
    this.#of(phase).push(step);
    return step.slot;
  }

  /**
   * Branches on an error: where a step of `test` fails with one of `errors`, the launch goes on with `onError`; where it
   * succeeds, with `onSuccess`. Without either it goes on behind them. Branches nest.
   *
   * @param phase - the phase of all of them
   * @param errors - error names that lead to `onError`
   * @param test - adds the steps that may fail
   * @param branches - add the steps of both ways
   */
  attempt(
    phase: Phase,
    errors: readonly string[],
    test: () => void,
    branches: { onSuccess?: () => void; onError?: () => void },
  ): void {
    const steps = this.#of(phase);
    const from = steps.length;
    test();
    const after = new Label();
    const otherwise = branches.onError ? new Label(after) : after;
    for (const step of steps.slice(from)) {
      if (step instanceof Label || step.onIgnored || step.ignore)
        throw invalid(`${step instanceof Label ? 'a branch' : step.syscall}: what a branch tests has one way to go on`);
      step.ignore = errors;
      step.onIgnored = otherwise;
    }
    branches.onSuccess?.();
    if (branches.onError) {
      steps.push(otherwise);
      branches.onError();
    }
    steps.push(after);
  }

  /**
   * Memory for a step to fill.
   *
   * @param size - bytes
   * @returns it; its `bytes` are there after the launch
   */
  output(size: number): Output {
    if (!Number.isInteger(size) || size < 0 || size > MAX_OUTPUT)
      throw invalid(`an output has 0 to ${MAX_OUTPUT} bytes`);
    const output = new Output(size);
    this.#draft.outputs.push(output);
    return output;
  }

  /**
   * Creates namespaces with the child.
   *
   * @param flags - `CLONE.NEW*` without `NEWUSER`: a user namespace is made beforehand and joined
   */
  unshare(flags: number): void {
    if (flags & CLONE.NEWUSER)
      throw invalid('a launch joins a user namespace that exists, so that its maps are written');
    const allowed =
      CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWPID | CLONE.NEWNET | CLONE.NEWTIME;
    if (flags & ~allowed) throw invalid(`not namespace flags: 0x${(flags & ~allowed).toString(16)}`);
    this.#draft.flags |= flags;
  }

  /** Namespaces that the child gets of its own, as `CLONE.NEW*` flags. */
  get unshared(): number {
    return this.#draft.flags;
  }

  /**
   * Joins a namespace.
   *
   * @param fd - the namespace's descriptor
   * @param type - its `CLONE.NEW*` flag, which the kernel compares; of a pidfd one or more
   * @param options - `exposed`: somebody else may live in it, so this process's memory is made unreadable until exec
   */
  join(fd: Fd, type: number, options: { exposed?: boolean } = {}): void {
    this.step('join', 'setns', [fd, type]);
    const draft = this.#draft;
    draft.joins = true;
    if (type & CLONE.NEWPID) draft.joinsPid = true;
    if (type & CLONE.NEWTIME) draft.sharesMemory = false;
    // Whoever joins a mount namespace is in the root of that.
    if (type & CLONE.NEWNS) this.#root = true;
    if (options.exposed ?? true) draft.exposed = true;
  }

  /**
   * Starts the child in a cgroup v2.
   *
   * @param directory - its directory; held until the launch is over
   */
  cgroup(directory: Fd): void {
    if (this.#draft.cgroup) throw invalid('a process starts in one cgroup v2 only');
    this.#draft.cgroup = directory;
  }

  /** Says that the child may stand still before its exec (a frozen cgroup): the launch then never blocks this thread. */
  mayBlock(): void {
    this.#mayBlock = true;
  }

  /** Whether {@link LaunchProgram.mayBlock} was said: {@link launchAsync} is the way then. */
  get blocking(): boolean {
    return this.#mayBlock;
  }

  /** Says that the child gets a root of its own, so that paths of steps from phase `sysctl` on are inside it. */
  ownRoot(): void {
    this.#root = true;
  }

  /** Whether {@link LaunchProgram.ownRoot} was said. */
  get hasOwnRoot(): boolean {
    return this.#root;
  }

  /** Whether this process is undumpable while the launch runs, so that a plain user cannot open its own files in /proc. */
  get hidesMemory(): boolean {
    return this.#draft.exposed || this.#draft.changesCredentials;
  }

  /** Gives an errand a copy of the descriptors: what it opens is gone with it, and it may close what it likes. */
  ownFiles(): void {
    this.#draft.sharesFiles = false;
  }

  /** Whether what it opens is open in this process. */
  get sharesFiles(): boolean {
    return this.#draft.sharesFiles;
  }

  /**
   * Closes every descriptor from a number on, in the child. Only where the launch is laid out last is it known which.
   *
   * @param from - the first number to close
   */
  closeFrom(from: number): void {
    this.#draft.closeFrom = from;
  }

  /**
   * Keeps a descriptor open, close-on-exec, where {@link LaunchProgram.closeFrom} closes all others: for steps of the phases
   * behind `fds`.
   *
   * @param fd - its number is to be above those of the child's layout
   */
  keep(fd: Fd): void {
    this.#draft.kept.push(fd);
  }

  /**
   * Puts a supervisor over the program: the child executes `image`, once a child of its own has executed the program.
   * It is the first process of a new pid namespace, and has every signal blocked.
   *
   * @param image - an executable memfd, open for writing, with a number that no descriptor of the child's layout has
   * @param pidAt - where in it the program's pid is written, four bytes
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an errand, or when there is one already
   */
  supervise(image: Fd, pidAt: number): void {
    if (this.ending === 'errand' || this.#draft.supervisor)
      throw invalid('one supervisor of a process, not of an errand');
    const pid = this.output(8);
    this.#draft.supervisor = { image, pidAt, pid };
    this.step('supervise', 'setpgid', [0, 0]);
    this.step('supervise', 'ioctl', [0, TIOCSPGRP, pid], {
      ignore: ['ENOTTY', 'EINVAL', 'EBADF', 'EPERM', 'EIO'],
      text: 'ioctl(0, TIOCSPGRP, its pid)',
    });
  }

  /** Runs something when the launch is over, whatever came of it. */
  defer(action: () => void): void {
    this.#deferred.push(action);
  }

  /** Runs something when the launch failed, last added first. */
  undo(action: () => void): void {
    this.#undo.push(action);
  }

  /** Runs something once the child has started. */
  started(action: (pid: number, pidfd: Fd) => void): void {
    this.#started.push(action);
  }

  /**
   * The program as text, one call a line, in the order in which the child makes them.
   *
   * @returns for people and for tests; nothing has run
   */
  explain(): string {
    return explain(this.compile());
  }

  /** @internal */
  compile(): Compiled {
    return compile(this.#draft);
  }

  /**
   * Runs what was deferred. The launch does it; whoever gives a program up before its launch says `failed` here. An action
   * that throws keeps no other from running; a launch whose actions throw has failed, and its child is killed.
   *
   * @param outcome - whether the child runs
   * @param pid - the child's pid
   * @param pidfd - the child's pidfd
   * @throws the first error of the actions
   */
  finish(outcome: 'started' | 'failed', pid?: number, pidfd?: Fd): void {
    if (outcome === 'started') for (const action of this.#started) action(pid as number, pidfd as Fd);
    const actions = outcome === 'failed' ? this.#undo.splice(0).reverse() : [];
    const errors: unknown[] = [];
    for (const action of [...actions, ...this.#deferred.splice(0)]) {
      try {
        action();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length) throw errors[0];
    this.#undo.length = 0;
  }

  #of(phase: Phase): (Step | Label)[] {
    const steps = this.#draft.steps.get(phase);
    if (!steps) throw invalid(`no phase is called ${String(phase)}`);
    return steps;
  }
}

const TIOCSPGRP = 0x5410;
const MAX_OUTPUT = 2 ** 28;
