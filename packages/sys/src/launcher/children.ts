import { KernelError } from '../error.js';
import { Fd } from '../fd.js';
import { attempt, syscall } from '../syscall.js';
import { type ExitStatus, reap } from '../wait.js';
import type { Arena } from './arena.js';

const SIGKILL = 9;

/**
 * The children of one launch, in the order in which they come to be: the trampoline of an asynchronous launch, the first child,
 * and the second, which the first clones. Of those that children clone only the pid is known at first: the kernel writes it
 * into a cell before they run, and it is nobody else's before they are reaped here.
 */
export class Children {
  /** Where the kernel writes the pidfd of the child that this process clones itself. */
  readonly pidfdCell: number;
  /** Where it writes the pids of those that the trampoline and the first child clone. */
  readonly clonedCell: number;
  readonly nestedCell: number;
  readonly #arena: Arena;
  #trampoline: Fd | undefined;
  #first: { pid: number; pidfd: Fd } | undefined;

  constructor(arena: Arena) {
    this.#arena = arena;
    [this.pidfdCell, this.clonedCell, this.nestedCell] = [arena.allocate(8), arena.allocate(8), arena.allocate(8)];
  }

  /** The first child, once it was cloned. */
  get first(): { readonly pid: number; readonly pidfd: Fd } {
    return this.#first as { pid: number; pidfd: Fd };
  }

  /** The trampoline, while it is not reaped. */
  get trampoline(): Fd | undefined {
    return this.#trampoline;
  }

  /** This process has cloned the first child. */
  born(pid: number): void {
    this.#first = { pid, pidfd: Fd.own(this.#arena.int(this.pidfdCell)) };
  }

  /** This process has cloned a trampoline. */
  bounced(): void {
    this.#trampoline = Fd.own(this.#arena.int(this.pidfdCell));
  }

  /** Takes over the first child from a trampoline that has ended; how it ended where it had none. */
  adoptFirst(): ExitStatus | undefined {
    if (!this.#trampoline) return undefined;
    const status = reap(this.#trampoline, { block: true });
    this.#trampoline.close();
    this.#trampoline = undefined;
    return this.#adopt(this.clonedCell) ? undefined : status;
  }

  /** Takes over the second child from the first, which has ended and is reaped; whether there is one. */
  adoptSecond(): boolean {
    this.first.pidfd.close();
    return this.#adopt(this.nestedCell);
  }

  #adopt(cell: number): boolean {
    const pid = this.#arena.int(cell);
    if (pid === 0) return false;
    this.#first = { pid, pidfd: Fd.own(syscall('pidfd_open', pid, 0)) };
    this.#arena.set(cell, 0);
    return true;
  }

  /** Waits for the second child, where there is one. */
  reapSecond(): ExitStatus | undefined {
    const pid = this.#arena.int(this.nestedCell);
    const status = pid ? reap(pid, { block: true }) : undefined;
    this.#arena.set(this.nestedCell, 0);
    return status;
  }

  /** The first child has ended and was reaped: another may take its place. */
  bury(): void {
    this.first.pidfd.close();
    this.#first = undefined;
  }

  /** Gives the first child away. */
  release(): void {
    this.#first = undefined;
  }

  /** Ends them one by one. Each is killed before it is told and reaped after: until it is gone it could clone the next. */
  *ending(): Generator<Fd | number> {
    const held = (fd: Fd | undefined) => () => (fd && !fd.closed ? fd : 0);
    const cell = (place: number) => () => {
      const pid = this.#arena.int(place);
      this.#arena.set(place, 0);
      const pidfd = pid ? attempt('pidfd_open', pid, 0) : -1;
      return pidfd < 0 ? pid : Fd.own(pidfd);
    };
    const all = [held(this.#trampoline), cell(this.clonedCell), held(this.#first?.pidfd), cell(this.nestedCell)];
    for (const find of all) {
      const child = find();
      if (child === 0) continue;
      if (child instanceof Fd) attempt('pidfd_send_signal', child, SIGKILL, null, 0);
      else attempt('kill', child, SIGKILL);
      yield child;
      tryReap(child);
      if (child instanceof Fd) child.close();
    }
  }

  /** Closes what is held of them. */
  close(): void {
    this.#trampoline?.close();
    this.#first?.pidfd.close();
  }
}

/** Waits for a child that may have been reaped. */
export function tryReap(child: Fd | number): void {
  try {
    reap(child, { block: true });
  } catch (error) {
    if (!KernelError.is(error, 'ECHILD')) throw error;
  }
}
