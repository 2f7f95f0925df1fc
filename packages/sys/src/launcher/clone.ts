import { errnoNumber } from '../error.js';
import type { Fd } from '../fd.js';
import { kernel } from '../kernel.js';
import { CLONE } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { syscallNumber } from '../raw/numbers.js';
import type { Children } from './children.js';
import type { Compiled } from './compile.js';
import { stepText } from './explain.js';
import { cloneError } from './failure.js';
import type { Ending } from './program.js';
import { FRAME, STEP, type Table, writeCloneArgs, writeEntry, writeTrampoline } from './table.js';

const SIGCHLD = 17;

/** How the first child is asked of the kernel: by this process itself, or by a trampoline. */
export class Clone {
  readonly #compiled: Compiled;
  readonly #table: Table;
  readonly #children: Children;
  readonly #ending: Ending;
  #flags: number;
  #cgroup: Fd | undefined;
  #trampoline = 0;
  #entry = 0;
  #played = false;

  constructor(compiled: Compiled, table: Table, children: Children, ending: Ending) {
    this.#compiled = compiled;
    this.#table = table;
    this.#children = children;
    this.#ending = ending;
    this.#flags = compiled.flags;
    this.#cgroup = compiled.cgroup;
    const { nest, nestFlags, fork } = compiled;
    const argsOf = (step: NonNullable<typeof nest>) => step.slot.place - STEP.result + STEP.args;
    if (nest) this.#setClone(argsOf(nest), nestFlags, 0, { parentTid: children.nestedCell });
    if (fork) {
      const flags = CLONE.VM + CLONE.VFORK + CLONE.PARENT_SETTID + CLONE.CLEAR_SIGHAND;
      this.#setClone(argsOf(fork.step), flags, SIGCHLD, { parentTid: fork.pid.place });
    }
  }

  /** Place of the trampoline's row; 0, which is the frame's, without one. */
  get trampoline(): number {
    return this.#trampoline;
  }

  /** Place of the first row by which the child enters its cgroup; 0 where it is born there. */
  get entry(): number {
    return this.#entry;
  }

  /** The cgroup that the child is born in. */
  get cgroup(): Fd | undefined {
    return this.#cgroup;
  }

  /** A kernel that only plays has started the program itself, and is not to be waited for. */
  get played(): boolean {
    return this.#played;
  }

  /** This process clones the first child; returns its pid. */
  direct(extra: number): number {
    const signal = this.#ending === 'errand' ? 0 : SIGCHLD;
    // Sums, not ors: two of the flags are above 32 bits.
    const all = this.#flags + extra + (this.#cgroup ? CLONE.INTO_CGROUP : 0);
    return this.#launch(all, signal, this.#cgroup);
  }

  /** This process clones a trampoline, which clones the first child; returns the trampoline's pid. */
  bounced(): number {
    this.#trampoline = writeTrampoline(this.#table, this.#entry || this.#table.steps);
    const flags = bounced(this.#flags) + (this.#cgroup ? CLONE.INTO_CGROUP : 0);
    this.#setClone(this.#trampoline + STEP.args, flags, 0, {
      parentTid: this.#children.clonedCell,
      cgroup: this.#cgroup?.number,
    });
    // What an errand opens is open in whoever shares its descriptors: so must be the one who clones it.
    const shared = this.#flags & CLONE.FILES;
    return this.#launch(CLONE.VM + CLONE.PIDFD + shared + CLONE.CLEAR_SIGHAND, SIGCHLD);
  }

  /**
   * The next child is born where its parent is, and enters the cgroup before anything else.
   *
   * @param procs - `cgroup.procs` of it, open for writing
   */
  enterAfterBirth(procs: Fd): void {
    const late = this.#flags & CLONE.NEWCGROUP;
    this.#entry = writeEntry(this.#table, procs.number, late);
    this.#flags -= late;
    this.#cgroup = undefined;
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
    const real = this.#trampoline ? bounced(this.#flags) : flags;
    if (this.#cgroup || nest || fork || real % (CLONE.NEWTIME * 2) >= CLONE.NEWTIME) return refusal;
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
    const away = this.#ending === 'errand' ? 0 : CLONE.VM;
    if (this.#trampoline) setClone(this.#trampoline, (real % CLONE.CLEAR_SIGHAND) & ~away, this.#children.clonedCell);
    return this.#play(plain);
  }

  #setClone(at: number, flags: number, signal: number, more: Parameters<typeof writeCloneArgs>[3]): void {
    const { arena } = this.#table;
    arena.point(at, writeCloneArgs(arena, flags, signal, more));
    arena.set(at + 8, layouts.clone_args.size);
  }
}

/** What a trampoline's clone asks for where this process's own would ask for `flags`: this process is the parent all the same. */
function bounced(flags: number): number {
  return flags + CLONE.VFORK + CLONE.PARENT + CLONE.PARENT_SETTID - CLONE.PIDFD;
}
