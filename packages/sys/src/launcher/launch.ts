import { errnoName, KernelError, type KernelErrorFields, UnsupportedError } from '../error.js';
import { Fd } from '../fd.js';
import { invalid, kernel } from '../kernel.js';
import { CLONE, F, PR } from '../raw/flags.js';
import { syscallNumber } from '../raw/numbers.js';
import { attempt, syscall } from '../syscall.js';
import { reap } from '../wait.js';
import { watchFd } from '../watcher.js';
import type { Arena } from './arena.js';
import { type Compiled, type Ending, LaunchProgram, stepText } from './program.js';
import { Output, type Step, type StepArg } from './step.js';
import { FRAME, STEP, type Table, writeCloneArgs, writeTable } from './table.js';

/** A started process. */
export interface Launched {
  /** Its pid, as this process sees it. */
  readonly pid: number;
  /** Its pidfd: the caller owns it, and reaps the child ({@link reap}). */
  readonly pidfd: Fd;
}

const SIGCHLD = 17;
const ENOENT = 2;
const EACCES = 13;

/**
 * Starts a process. Returns when the child has reached its execve; this thread waits that long, typically 0.3 to 1.3 ms.
 *
 * @param program - a program that ends in an execve
 * @returns pid and pidfd
 * @throws {@link KernelError} with `step` where a step failed: the child is gone and reaped then
 * @throws {@link UnsupportedError} where the kernel lacks what the clone needs
 */
export function launch(program: LaunchProgram): Launched {
  const run = new Run(program, 'process');
  try {
    run.clone(CLONE.VFORK);
    return run.settle();
  } finally {
    run.end();
  }
}

/**
 * The same as {@link launch} without waiting on this thread, for children that may stand still before their exec: one
 * that starts in a frozen cgroup, or whose program lies on a file system that does not answer.
 *
 * @param program - a program that ends in an execve
 * @param options - `signal` gives up: the child is killed
 * @returns pid and pidfd
 * @throws {@link KernelError} as {@link launch}; the signal's reason where it was aborted
 */
export async function launchAsync(program: LaunchProgram, options: { signal?: AbortSignal } = {}): Promise<Launched> {
  options.signal?.throwIfAborted();
  const { reader, writer } = pipe();
  // The write end lives in the child until exec or death: its end of file says that the table has been read.
  program.keepOpen(writer);
  let run: Run | undefined;
  try {
    run = new Run(program, 'process');
    run.clone(0);
    writer.close();
    try {
      await watchFd(reader, options.signal ? { signal: options.signal } : {});
    } catch (reason) {
      run.abandon();
      await watchFd(reader);
      run.settleKilled();
      throw reason;
    }
    return run.settle();
  } finally {
    reader.close();
    writer.close();
    run?.end();
  }
}

/**
 * Runs an errand: the steps of a child that shares this process's descriptors and exits when they are done. What it
 * opens is open here. The slots and outputs of the program hold the results afterwards.
 *
 * @param program - a program that was made with the ending `errand`
 * @throws {@link KernelError} with `step` where a step failed; what the steps before it opened is closed
 */
export function errand(program: LaunchProgram): void {
  const run = new Run(program, 'errand');
  try {
    run.clone(CLONE.VFORK);
    run.settle();
  } finally {
    run.end();
  }
}

function pipe(): { reader: Fd; writer: Fd } {
  const ends = Buffer.alloc(8);
  syscall('pipe2', ends, 0x80000);
  const reader = Fd.own(ends.readInt32LE(0));
  const low = Fd.own(ends.readInt32LE(4));
  // High up, where no descriptor of the child's own layout will overwrite it.
  const high = attempt('fcntl', low, F.DUPFD_CLOEXEC, 512);
  if (high < 0) return { reader, writer: low };
  low.close();
  return { reader, writer: Fd.own(high) };
}

/** A child that stands still in namespaces of its own, so that somebody can write the maps of its user namespace. */
export interface Parked extends Disposable {
  /** Its pid. */
  readonly pid: number;
  /** Ends it (SIGKILL) and reaps it; again does nothing. */
  end(): void;
}

/**
 * Parks a child: it is cloned into new namespaces and waits there for its end. It shares this process's memory, so park
 * it where nobody else lives, and not for long.
 *
 * @param flags - `CLONE.NEW*`, `NEWUSER` among them or not
 * @returns the child
 * @throws {@link KernelError} of the clone: `EPERM`, `ENOSPC`, `EUSERS`
 */
export function park(flags: number): Parked {
  const program = new LaunchProgram('errand');
  program.step('host', 'ppoll', [null, 0, null, null, 0]);
  const run = new Run(program, 'errand');
  try {
    run.clone(flags);
  } catch (error) {
    run.end();
    throw error;
  }
  const { pid } = run;
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    run.abandon();
    run.settleKilled();
    run.end();
  };
  return { pid, end, [Symbol.dispose]: end };
}

/** Depth of launches that made this process's memory unreadable, and what it was before. */
let hidden = 0;
let dumpableBefore = 1;

class Run {
  readonly #program: LaunchProgram;
  readonly #compiled: Compiled;
  readonly #table: Table;
  readonly #arena: Arena;
  readonly #pidfdCell: number;
  /** Where the kernel writes the pid of a nested clone, before that runs. */
  readonly #nestedCell: number;
  #pid = 0;
  #pidfd: Fd | undefined;
  #hides = false;
  #restores = false;

  constructor(program: LaunchProgram, ending: Ending) {
    this.#program = program;
    try {
      if (program.ending !== ending) throw invalid(`the program ends as ${program.ending}, not as ${ending}`);
      this.#compiled = program.compile();
      if (ending === 'process' && !this.#compiled.steps.some(isExec)) throw invalid('a process needs an execve');
      this.#table = writeTable(this.#compiled, (step) => syscallNumber(step.syscall));
    } catch (error) {
      program.finish('failed');
      throw error;
    }
    this.#arena = this.#table.arena;
    this.#pidfdCell = this.#arena.allocate(8);
    this.#nestedCell = this.#arena.allocate(8);
    const nest = this.#compiled.nest;
    if (nest) {
      const args = writeCloneArgs(this.#arena, this.#compiled.nestFlags, 0, { parentTid: this.#nestedCell });
      this.#setArgs(this.#addressOf(nest) + STEP.args, [args, 88]);
    }
    const fork = this.#compiled.fork;
    if (fork) {
      const flags = CLONE.VM + CLONE.VFORK + CLONE.PARENT_SETTID + CLONE.CLEAR_SIGHAND;
      const args = writeCloneArgs(this.#arena, flags, SIGCHLD, { parentTid: fork.pid.address });
      this.#setArgs(this.#addressOf(fork.step) + STEP.args, [args, 88]);
    }
  }

  /** Clones; the child walks the table. */
  clone(extra: number): void {
    const { flags, cgroup, exposed, changesCredentials } = this.#compiled;
    const signal = this.#program.ending === 'errand' ? 0 : SIGCHLD;
    // Sums, not ors: two of the flags are above 32 bits.
    const all = flags + extra + (cgroup ? CLONE.INTO_CGROUP : 0);
    const { frame } = this.#table;
    if (exposed) this.#hide();
    else if (changesCredentials) this.#remember();
    this.#arena.set(frame, syscallNumber('clone3'));
    const args = writeCloneArgs(this.#arena, all, signal, { pidfd: this.#pidfdCell, cgroup: cgroup?.number });
    this.#setArgs(frame + FRAME.args, [args, 88]);
    let result = this.#launch(all);
    if (result === -38 || result === -22) result = this.#oldClone(all, signal, result);
    if (result < 0) throw this.#cloneError(result, all);
    this.#pid = result;
    this.#pidfd = Fd.own(this.#arena.int(this.#pidfdCell));
  }

  /** Reads what the child left: the process, or the error. */
  settle(): Launched {
    this.#read();
    const errno = this.#arena.get(this.#table.frame + FRAME.errno);
    const errorStep = errno ? this.#stepAt(this.#arena.get(this.#table.frame + FRAME.failed)) : this.#contextFailure();
    if (errorStep) this.#fail(errorStep);
    const pidfd = this.#pidfd as Fd;
    if (this.#program.ending === 'errand') {
      const status = reap(pidfd, { block: true });
      if (!this.#reached(this.#compiled.exit)) this.#died(status?.signal ?? null);
      // The first of two comes to its end whatever becomes of the second.
      const nested = this.#nested && reap(this.#nested, { block: true });
      if (nested && nested.code !== 0) this.#died(nested.signal);
      this.#program.finish('started', this.#pid, pidfd);
      return { pid: this.#pid, pidfd };
    }
    const exec = this.#compiled.steps.findLast((step) => step.syscall === 'execve' || step.syscall === 'execveat');
    const { nest } = this.#compiled;
    if (nest) {
      const pid = nest.slot.value ?? 0;
      const status = reap(pidfd, { block: true });
      pidfd.close();
      if (!(pid > 0)) this.#died(status?.signal ?? null);
      this.#pid = pid;
      this.#pidfd = Fd.own(syscall('pidfd_open', pid, 0));
    }
    if (exec && !this.#compiled.steps.some((step) => isExec(step) && this.#reached(step))) {
      const status = reap(this.#pidfd as Fd, { block: true });
      this.#died(status?.signal ?? null);
    }
    const launched = { pid: this.#pid, pidfd: this.#pidfd as Fd };
    this.#pidfd = undefined;
    this.#program.finish('started', launched.pid, launched.pidfd);
    return launched;
  }

  /** The child's pid. */
  get pid(): number {
    return this.#pid;
  }

  /** The pid of the second of two clones, once it is there. */
  get #nested(): number {
    return this.#compiled.nest ? this.#arena.int(this.#nestedCell) : 0;
  }

  /** Kills a child that stands still. */
  abandon(): void {
    this.#read();
    if (this.#pidfd) attempt('pidfd_send_signal', this.#pidfd, 9, null, 0);
    if (this.#nested) attempt('kill', this.#nested, 9);
  }

  /** Reaps after {@link Run.abandon}. */
  settleKilled(): void {
    this.#reapAll();
    this.#program.finish('failed');
  }

  /** Gives back what the launch held. */
  end(): void {
    this.#restore();
    if (this.#program.ending === 'errand' || this.#pidfd) this.#pidfd?.close();
    this.#arena.release();
  }

  #launch(flags: number): number {
    const { steps } = this.#compiled;
    return kernel().launch({
      frame: this.#table.frame,
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
        this.#arena.set(this.#table.frame + FRAME.failed, this.#table.steps + index * STEP.size);
        this.#arena.set(this.#table.frame + FRAME.errno, errno);
      },
      reach: (index, result) => {
        const at = this.#table.steps + index * STEP.size;
        this.#arena.set(at + STEP.reached, 1);
        this.#arena.set(at + STEP.result, result);
      },
      pidfd: (number) => this.#arena.set(this.#pidfdCell, number),
    });
  }

  /** clone(2), for kernels and filters without clone3: handlers are reset by steps, a cgroup cannot be asked for. */
  #oldClone(flags: number, signal: number, refusal: number): number {
    const { cgroup, nest, fork } = this.#compiled;
    if (cgroup || nest || fork || flags % (CLONE.NEWTIME * 2) >= CLONE.NEWTIME) return refusal;
    const plain = flags % CLONE.CLEAR_SIGHAND;
    this.#arena.set(this.#table.frame, syscallNumber('clone'));
    this.#setArgs(this.#table.frame + FRAME.args, [plain | signal, 0, this.#pidfdCell, 0, 0]);
    return this.#launch(plain);
  }

  #cloneError(result: number, flags: number): Error {
    this.#program.finish('failed');
    const code = errnoName(result);
    if (code === 'ENOSYS')
      return new UnsupportedError('clone3', 'the kernel or a seccomp filter answered ENOSYS', { since: '5.3' });
    const fields: KernelErrorFields = { syscall: 'clone3', call: this.#compiled.clone };
    if (code === 'EPERM') fields.hint = 'creating namespaces needs CAP_SYS_ADMIN, or a user namespace joined first';
    if (code === 'EAGAIN') fields.hint = 'a limit on processes was reached: RLIMIT_NPROC, or pids.max of the cgroup';
    if (code === 'EBUSY' && this.#compiled.cgroup)
      fields.hint = 'the cgroup has domain controllers enabled for its children: start in a leaf';
    if (code === 'EACCES' && this.#compiled.cgroup)
      fields.hint = 'moving into this cgroup needs write access to its cgroup.procs and to that of the common ancestor';
    if (code === 'ENOSPC')
      fields.hint = 'the limit on namespaces was reached: /proc/sys/user/max_*_namespaces, or a depth of 32';
    if (code === 'EINVAL') fields.hint = `the kernel refused a flag of 0x${flags.toString(16)}`;
    return new KernelError(result, fields);
  }

  #fail(step: Step): never {
    let errno = -(step.slot.value ?? 0) || this.#arena.get(this.#table.frame + FRAME.errno);
    // A search in PATH ends with ENOENT; a candidate that was there but not executable says more.
    if (
      errno === ENOENT &&
      isExec(step) &&
      this.#compiled.steps.some((other) => isExec(other) && other.slot.value === -EACCES)
    )
      errno = EACCES;
    this.#closeResults(step);
    this.#reapAll();
    this.#program.finish('failed');
    const { steps } = this.#compiled;
    const fields: KernelErrorFields = {
      syscall: step.syscall,
      call: stepText(step, steps),
      step: { index: steps.indexOf(step) + 1, of: steps.length, phase: step.phase },
    };
    const path = step.args.find((arg) => typeof arg === 'string' && arg !== '');
    if (typeof path === 'string') fields.path = path;
    if (step.options.hint) fields.hint = step.options.hint;
    const reader = step.options.context && this.#compiled.readers.get(step.options.context);
    const words = reader?.args[1];
    const said = words instanceof Output ? words.bytes.toString('utf8').replace(/\0.*$/s, '').trim() : '';
    if (said) fields.kernelMessage = said.replace(/^[ewi] /, '');
    throw new KernelError(errno, fields);
  }

  #died(signal: number | null): never {
    this.#closeResults();
    this.#program.finish('failed');
    const { steps } = this.#compiled;
    const last = steps.findLast((step) => step.phase !== 'end' && this.#reached(step));
    throw new KernelError(signal === null ? 3 : 4, {
      syscall: last?.syscall ?? 'clone3',
      call: last ? stepText(last, steps) : this.#compiled.clone,
      hint:
        signal === null
          ? 'the child ended before it reached its end'
          : `signal ${signal} ended the child before its exec`,
      ...(last ? { step: { index: steps.indexOf(last) + 1, of: steps.length, phase: last.phase } } : {}),
      info: { signal },
    });
  }

  /** The step whose file system context has words on its failure. */
  #contextFailure(): Step | undefined {
    if (!this.#reached(this.#compiled.failed)) return undefined;
    return this.#compiled.steps.findLast(
      (step) => step.options.context && this.#reached(step) && (step.slot.value ?? 0) < 0,
    );
  }

  /** An errand that failed has left its results open in this process: slots that hold descriptors. */
  #closeResults(until?: Step): void {
    if (!this.#program.sharesFiles) return;
    for (const step of this.#compiled.steps) {
      if (step === until) break;
      const { value } = step.slot;
      if (value === undefined || value < 0) continue;
      const { args } = step;
      if (opens.has(step.syscall) || step.options.opens || (step.syscall === 'fcntl' && duplicates(args[1])))
        attempt('close', value);
      const pair = step.syscall === 'pipe2' ? args[0] : step.syscall === 'socketpair' ? args[3] : undefined;
      if (pair instanceof Output) for (const at of [0, 4]) attempt('close', pair.bytes.readInt32LE(at));
    }
  }

  #reapAll(): void {
    if (this.#nested) tryReap(this.#nested);
    if (this.#pidfd && !this.#pidfd.closed) {
      tryReap(this.#pidfd);
      this.#pidfd.close();
    }
  }

  #read(): void {
    for (const step of this.#compiled.steps) {
      const at = this.#addressOf(step);
      step.slot.value = this.#arena.get(at + STEP.reached) ? this.#arena.get(at + STEP.result) : undefined;
    }
    for (const output of this.#compiled.outputs) output.bytes = this.#arena.read(output.address, output.size);
  }

  #reached(step: Step): boolean {
    return this.#arena.get(this.#addressOf(step) + STEP.reached) !== 0;
  }

  #addressOf(step: Step): number {
    return step.slot.address - STEP.result;
  }

  #stepAt(address: number): Step | undefined {
    return this.#compiled.steps[(address - this.#table.steps) / STEP.size];
  }

  #setArgs(address: number, values: readonly number[]): void {
    for (const [i, value] of values.entries()) this.#arena.set(address + 8 * i, value);
  }

  /** A joined namespace's root user could read this process through the child: not while it is undumpable. */
  #hide(): void {
    this.#hides = true;
    if (hidden++ === 0) dumpableBefore = attempt('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0);
    attempt('prctl', PR.SET_DUMPABLE, 0, 0, 0, 0);
  }

  /** Credentials of a child that shares memory make this process undumpable: put it back afterwards. */
  #remember(): void {
    this.#restores = true;
    if (hidden++ === 0) dumpableBefore = attempt('prctl', PR.GET_DUMPABLE, 0, 0, 0, 0);
  }

  #restore(): void {
    if (!this.#hides && !this.#restores) return;
    this.#hides = this.#restores = false;
    if (--hidden === 0) attempt('prctl', PR.SET_DUMPABLE, dumpableBefore === 1 ? 1 : 0, 0, 0, 0);
  }
}

function tryReap(child: Fd | number): void {
  try {
    reap(child, { block: true });
  } catch (error) {
    if (!KernelError.is(error, 'ECHILD')) throw error;
  }
}

function duplicates(command: StepArg | undefined): boolean {
  return Number(command) === F.DUPFD || Number(command) === F.DUPFD_CLOEXEC;
}

function isExec(step: Step): boolean {
  return step.syscall === 'execve' || step.syscall === 'execveat';
}

/** Calls whose result is a new descriptor. */
const opens: ReadonlySet<string> = new Set([
  'open',
  'openat',
  'openat2',
  'fsopen',
  'fsmount',
  'fspick',
  'open_tree',
  'open_tree_attr',
  'socket',
  'pidfd_open',
  'memfd_create',
  'eventfd2',
  'timerfd_create',
  'signalfd4',
  'epoll_create1',
  'inotify_init1',
  'landlock_create_ruleset',
  'bpf',
  'dup',
  'open_by_handle_at',
  'userfaultfd',
  'accept',
  'accept4',
  'creat',
  'fanotify_init',
  'perf_event_open',
  'io_uring_setup',
  'memfd_secret',
  'pidfd_getfd',
  'mq_open',
]);
