import { fstatSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import type { Fd } from '../fd.js';
import { callText, cString, invalid, word } from '../kernel.js';
import { AT, CLONE, F, PR } from '../raw/flags.js';
import type { SyscallName } from '../raw/numbers.js';
import { attempt } from '../syscall.js';
import { type Phase, phases } from './phase.js';
import { Output, Slot, type Step, type StepArg, type StepOptions, StringArray } from './step.js';

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
  readonly #steps = new Map<Phase, Step[]>(phases.map((phase) => [phase, []]));
  readonly #deferred: (() => void)[] = [];
  readonly #undo: (() => void)[] = [];
  readonly #started: ((pid: number, pidfd: Fd) => void)[] = [];
  #flags = 0;
  #cgroup: Fd | undefined;
  #joinsPid = false;
  #joins = false;
  #shareMemory = true;
  #exposed = false;
  #mayBlock = false;
  readonly #outputs: Output[] = [];
  #root = false;
  #ownFiles = false;
  #closeFrom: number | undefined;
  readonly #kept: number[] = [];
  #supervisor: { image: Fd; pidAt: number; pid: Output } | undefined;

  /**
   * @param ending - `process` or `errand`
   */
  constructor(ending: Ending = 'process') {
    this.ending = ending;
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
    if (args.length > 6) throw invalid(`${name}: a system call takes six arguments at the most`);
    for (const arg of args) check(name, arg);
    this.#refuseUnsafe(name, args);
    const slot = new Slot(name);
    const step: Step = {
      phase,
      syscall: name,
      args,
      slot,
      options,
      onZero: undefined,
      onValue: undefined,
      onIgnored: undefined,
    };
    this.#of(phase).push(step);
    return slot;
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
    const tested = steps.slice(from);
    branches.onSuccess?.();
    // Rows to jump to, so that a branch may be empty or end in one of its own.
    const landing = () => {
      this.step(phase, 'getpid', [], { text: 'getpid() = end of a branch' });
      return steps.at(-1) as Step;
    };
    const joint = branches.onError && landing();
    const middle = steps.length;
    branches.onError?.();
    const after = landing();
    for (const step of tested) {
      if (step.onIgnored || step.options.ignore)
        throw invalid(`${step.syscall}: what a branch tests has one way to go on`);
      step.options = { ...step.options, ignore: errors };
      step.onIgnored = steps[middle];
    }
    if (joint) joint.onValue = after;
  }

  /**
   * Memory for a step to fill.
   *
   * @param size - bytes
   * @returns it; its `bytes` are there after the launch
   */
  output(size: number): Output {
    const output = new Output(size);
    this.#outputs.push(output);
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
    this.#flags |= flags;
  }

  /** Namespaces that the child gets of its own, as `CLONE.NEW*` flags. */
  get unshared(): number {
    return this.#flags;
  }

  /**
   * Joins a namespace.
   *
   * @param fd - the namespace's descriptor
   * @param type - its `CLONE.NEW*` flag, which the kernel compares
   * @param options - `exposed`: somebody else may live in it, so this process's memory is made unreadable until exec
   */
  join(fd: Fd, type: number, options: { exposed?: boolean } = {}): void {
    this.#joins = true;
    if (type === CLONE.NEWPID) this.#joinsPid = true;
    if (type === CLONE.NEWTIME) this.#shareMemory = false;
    if (options.exposed ?? true) this.#exposed = true;
    this.step('join', 'setns', [fd, type]);
  }

  /**
   * Starts the child in a cgroup v2.
   *
   * @param directory - its directory; held until the launch is over
   */
  cgroup(directory: Fd): void {
    if (this.#cgroup) throw invalid('a process starts in one cgroup v2 only');
    this.#cgroup = directory;
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

  /** Gives an errand a copy of the descriptors: what it opens is gone with it, and it may close what it likes. */
  ownFiles(): void {
    this.#ownFiles = true;
  }

  /** Whether what it opens is open in this process. */
  get sharesFiles(): boolean {
    return this.ending === 'errand' && !this.#ownFiles;
  }

  /**
   * Closes every descriptor from a number on, in the child. Only where the launch is laid out last is it known which.
   *
   * @param from - the first number to close
   */
  closeFrom(from: number): void {
    this.#closeFrom = from;
  }

  /** @internal A descriptor that stays open until exec. */
  keepOpen(fd: Fd): void {
    this.#kept.push(fd.number);
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
    if (this.ending === 'errand' || this.#supervisor) throw invalid('one supervisor of a process, not of an errand');
    const pid = this.output(8);
    this.#supervisor = { image, pidAt, pid };
    this.keepOpen(image);
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
    const { steps, clone } = this.compile();
    const lines = steps.map(
      (step, i) =>
        `${String(i + 1).padStart(3)}  ${step.phase.padEnd(11)} ${stepText(step, steps)}${notes(step, steps)}`,
    );
    return [`     clone       ${clone}`, ...lines, ''].join('\n');
  }

  /** @internal The table in order, and what the launch must know. */
  compile(): Compiled {
    const joining = this.#joins;
    // The clocks of a time namespace can be set until somebody enters it, and before Linux 6.3 only a fork does that: the
    // first of two children makes it and sets them, the second enters it, with a memory of its own.
    const time = this.#flags & CLONE.NEWTIME;
    const nested = time !== 0 || (joining && (this.#joinsPid || (this.#flags & CLONE.NEWPID) !== 0));
    const flags = this.#flags & ~CLONE.NEWTIME;
    const lists = new Map(this.#steps);
    const credentials = phases.some((phase) => this.#of(phase).some((step) => credentialCalls.has(step.syscall)));
    // Being dumpable is the process's: it can be switched off and on again by one thread, not by several at once. A launch
    // that needs it from a worker thread gets a copy of the memory instead.
    const apart = !isMainThread && (this.#exposed || credentials);
    const memory = this.#shareMemory && !apart ? CLONE.VM : 0;
    if (apart) lists.set('birth', [row('birth', 'prctl', [PR.SET_DUMPABLE, 0, 0, 0, 0]), ...this.#of('birth')]);
    const errand = this.ending === 'errand';
    let first = memory | CLONE.PIDFD | (this.sharesFiles ? CLONE.FILES : 0);
    let nest: Step | undefined;
    if (nested) {
      nest = row('nest', 'clone3', [], { text: `clone3(${flagText(flags | CLONE.PARENT)})` });
      lists.set('nest', [nest]);
    } else if (!joining) first |= flags;
    else if (flags) lists.set('nest', [row('nest', 'unshare', [flags], { text: `unshare(${flagText(flags)})` })]);
    if (time)
      lists.set('user', [row('user', 'unshare', [time], { text: 'unshare(CLONE_NEWTIME)' }), ...this.#of('user')]);
    lists.set('fds', [...this.#of('fds'), ...this.#closing()]);
    lists.set('join', joinOrder(this.#of('join')));
    const exit = row('end', 'exit', [0]);
    const failed = row('end', 'exit', [127], { text: 'exit(127)' });
    const steps = copies(phases.flatMap((phase) => lists.get(phase) as Step[]));
    if (nest) nest = steps.find((step) => step.slot === nest?.slot) as Step;
    // A step that has a context leads, when it fails, to a read of the kernel's words and the end.
    const readers = new Map<Slot, Step>();
    const words: Output[] = [];
    const tail: Step[] = [exit];
    for (const step of steps) {
      const context = step.options.context;
      if (!context || step.onIgnored || step.options.ignore) continue;
      let reader = readers.get(context);
      if (!reader) {
        const output = new Output(512);
        words.push(output);
        reader = row('end', 'read', [context, output, 511], { ignore: ['*'] });
        readers.set(context, reader);
        Object.assign(reader, { onZero: failed, onValue: failed, onIgnored: failed });
        tail.push(reader);
      }
      Object.assign(step, { onIgnored: reader, explained: true });
    }
    if (words.length) tail.push(failed);
    if (nest) nest.onValue = exit;
    const supervisor = this.#supervisor;
    let fork: Step | undefined;
    if (supervisor) {
      const { image, pidAt, pid } = supervisor;
      if (!(flags & CLONE.NEWPID)) throw invalid('a supervisor needs a new pid namespace, whose first process it is');
      fork = row('supervise', 'clone3', [], { text: 'clone3(CLONE_VM|CLONE_VFORK|CLONE_PARENT_SETTID)' });
      steps.splice(
        steps.findIndex((step) => step.phase === 'supervise'),
        0,
        fork,
      );
      const first = row('end', 'pwrite64', [image, pid, 4, pidAt]);
      fork.onValue = first;
      const argv = new StringArray(['init']);
      tail.push(
        first,
        row('end', 'fcntl', [image, F_ADD_SEALS, ALL_SEALS]),
        row('end', 'execveat', [image, '', argv, new StringArray([]), AT.EMPTY_PATH], { text: 'execveat(init)' }),
      );
    }
    if (errand || nest || words.length || fork) steps.push(...tail);
    return {
      steps,
      nest,
      fork: fork && { step: fork, pid: (supervisor as { pid: Output }).pid },
      exit,
      failed,
      readers,
      clone: `clone3(${flagText((first | CLONE.VFORK) + CLONE.CLEAR_SIGHAND + (this.#cgroup ? CLONE.INTO_CGROUP : 0))})`,
      flags: first + CLONE.CLEAR_SIGHAND,
      nestFlags:
        ((time ? 0 : memory) |
          (this.sharesFiles ? CLONE.FILES : 0) |
          CLONE.PARENT |
          CLONE.PARENT_SETTID |
          CLONE.VFORK |
          flags) +
        CLONE.CLEAR_SIGHAND,
      cgroup: this.#cgroup,
      outputs: [...this.#outputs, ...words],
      exposed: this.#exposed && !apart,
      changesCredentials: credentials && !apart,
    };
  }

  /**
   * Runs what was deferred. The launch does it; whoever gives a program up before its launch says `failed` here.
   *
   * @param outcome - whether the child runs
   * @param pid - the child's pid
   * @param pidfd - the child's pidfd
   */
  finish(outcome: 'started' | 'failed', pid?: number, pidfd?: Fd): void {
    if (outcome === 'failed') for (const action of this.#undo.reverse()) action();
    else for (const action of this.#started) action(pid as number, pidfd as Fd);
    for (const action of this.#deferred.splice(0)) action();
    this.#undo.length = 0;
  }

  #closing(): Step[] {
    const from = this.#closeFrom;
    if (from === undefined) return [];
    const bounds = [from - 1, ...this.#kept.filter((number) => number >= from).sort((a, b) => a - b), LAST_FD + 1];
    const ranges = bounds.slice(1).map((bound, i) => [(bounds[i] as number) + 1, bound - 1]);
    return ranges
      .filter(([first, last]) => (first as number) <= (last as number))
      .map(([first, last]) => row('fds', 'close_range', [first as number, last as number, 0]));
  }

  #of(phase: Phase): Step[] {
    const steps = this.#steps.get(phase);
    if (!steps) throw invalid(`no phase is called ${String(phase)}`);
    return steps;
  }

  #refuseUnsafe(name: SyscallName, args: readonly StepArg[]): void {
    const number = (i: number) => (typeof args[i] === 'bigint' ? Number(args[i]) : args[i]);
    if (memoryWide.has(name) || (name === 'prctl' && memoryWidePrctl.has(number(0) as number))) {
      throw invalid(`${callText(name, args)} would change the memory of this process too`);
    }
    if (name === 'clone' || name === 'clone3' || name === 'fork' || name === 'vfork')
      throw invalid(`${name} is the launcher's own business`);
    if (this.ending === 'errand') {
      const setsFlags = name === 'fcntl' && number(1) === F.SETFD;
      if (this.sharesFiles && (ownDescriptors.has(name) || setsFlags))
        throw invalid(`${name} in an errand would act on this process's descriptors`);
      if (name === 'execve' || name === 'execveat') throw invalid('an errand ends by itself; use a process to execute');
    }
  }
}

/** @internal What {@link LaunchProgram.compile} returns. */
export interface Compiled {
  steps: Step[];
  nest: Step | undefined;
  /** The clone that leaves a supervisor behind, and where it writes the program's pid. */
  fork: { step: Step; pid: Output } | undefined;
  exit: Step;
  failed: Step;
  readers: Map<Slot, Step>;
  clone: string;
  flags: number;
  nestFlags: number;
  cgroup: Fd | undefined;
  outputs: Output[];
  exposed: boolean;
  changesCredentials: boolean;
}

const memoryWide: ReadonlySet<SyscallName> = new Set([
  'mmap',
  'munmap',
  'mremap',
  'mprotect',
  'pkey_mprotect',
  'brk',
  'madvise',
  'process_madvise',
  'mlock',
  'mlock2',
  'mlockall',
  'munlock',
  'munlockall',
  'membarrier',
  'remap_file_pages',
  'shmat',
  'shmdt',
  'io_setup',
  'io_destroy',
  'userfaultfd',
  'set_robust_list',
  'rseq',
  'set_tid_address',
  'map_shadow_stack',
  'mseal',
  'modify_ldt',
  'pkey_alloc',
  'pkey_free',
  'mbind',
  'migrate_pages',
  'move_pages',
  'set_mempolicy_home_node',
  'arch_prctl',
  'uselib',
]);
const memoryWidePrctl: ReadonlySet<number> = new Set([
  PR.SET_MM,
  PR.SET_MDWE,
  PR.SET_MEMORY_MERGE,
  PR.SET_DUMPABLE,
  PR.SET_THP_DISABLE,
]);
const ownDescriptors: ReadonlySet<SyscallName> = new Set(['close', 'close_range', 'dup2', 'dup3']);
const credentialCalls: ReadonlySet<SyscallName> = new Set([
  'setuid',
  'setgid',
  'setresuid',
  'setresgid',
  'setreuid',
  'setregid',
  'setfsuid',
  'setfsgid',
]);

/** Steps of their own for one launch, leading to one another as before: compiling changes them. */
function copies(steps: readonly Step[]): Step[] {
  const fresh = new Map(steps.map((step) => [step, { ...step }]));
  const other = (step: Step | undefined) => step && fresh.get(step);
  for (const step of fresh.values()) {
    Object.assign(step, {
      onZero: other(step.onZero),
      onValue: other(step.onValue),
      onIgnored: other(step.onIgnored),
    });
  }
  return [...fresh.values()];
}

/** A namespace that the joined user namespace owns can be joined after it only, any other before it only. */
function joinOrder(steps: readonly Step[]): Step[] {
  const user = steps.find((step) => step.args[1] === CLONE.NEWUSER);
  if (!user || steps.length === 1) return [...steps];
  const home = fstatSync((user.args[0] as Fd).number).ino;
  const inside = steps.filter((step) => step !== user && owner(step.args[0] as Fd) === home);
  return [...steps.filter((step) => step !== user && !inside.includes(step)), user, ...inside];
}

/** Inode of the user namespace that owns a namespace; undefined where it is above our own. */
function owner(namespace: Fd): number | undefined {
  const fd = attempt('ioctl', namespace, NS_GET_USERNS);
  if (fd < 0) return undefined;
  try {
    return fstatSync(fd).ino;
  } finally {
    attempt('close', fd);
  }
}

const TIOCSPGRP = 0x5410;
const F_ADD_SEALS = 1033;
const ALL_SEALS = 15;
const LAST_FD = 0xffffffff;
const NS_GET_USERNS = 0xb701;

function row(phase: Phase, syscall: SyscallName, args: readonly StepArg[], options: StepOptions = {}): Step {
  return {
    phase,
    syscall,
    args,
    slot: new Slot(syscall),
    options,
    onZero: undefined,
    onValue: undefined,
    onIgnored: undefined,
  };
}

function check(name: string, arg: StepArg): void {
  if (typeof arg === 'number' || typeof arg === 'bigint') word(arg);
  else if (typeof arg === 'string') cString(arg);
  else if (arg instanceof StringArray) for (const text of arg.strings) cString(text);
  else if (arg === undefined || (arg !== null && typeof arg !== 'object')) {
    throw invalid(`${name}: ${String(arg)} is no argument of a system call`);
  }
}

const flagNames = Object.entries(CLONE).map(([name, value]) => [name, value] as const);

function flagText(flags: number): string {
  const names = flagNames.filter(([, value]) => Math.floor(flags / value) % 2 === 1).map(([name]) => `CLONE_${name}`);
  return names.join('|') || '0';
}

/** @internal A step as strace would print it. */
export function stepText(step: Step, steps: readonly Step[]): string {
  if (step.options.text) return step.options.text;
  const args = step.args.map((arg) => {
    if (arg instanceof Slot) return { number: `<${steps.findIndex((other) => other.slot === arg) + 1}>` };
    if (arg instanceof Output) return { number: `<${arg.size} bytes>` };
    if (arg instanceof StringArray) {
      const shown = arg.strings.slice(0, 6).map((text) => JSON.stringify(text));
      return { number: `[${shown.join(', ')}${arg.strings.length > 6 ? `, ... ${arg.strings.length}` : ''}]` };
    }
    return arg === AT.FDCWD ? { number: 'AT_FDCWD' } : arg;
  });
  return callText(step.syscall, args);
}

function notes(step: Step, steps: readonly Step[]): string {
  const place = (other: Step) => steps.indexOf(other) + 1;
  const parts: string[] = [];
  if (step.options.ignore?.length) {
    const go = step.onIgnored ? `to ${place(step.onIgnored)}` : 'go on';
    parts.push(`${step.options.ignore.join(' ')}: ${go}`);
  }
  return parts.length ? `   # ${parts.join('; ')}` : '';
}
