import { Fd } from '../fd.js';
import { CLONE, POLL } from '../raw/flags.js';
import { syscall } from '../syscall.js';
import { LaunchProgram } from './program.js';
import { failed, Run } from './run.js';

/** A started process. */
export interface Launched {
  /** Its pid, as this process sees it. */
  readonly pid: number;
  /** Its pidfd: the caller owns it, and reaps the child ({@link reap}). */
  readonly pidfd: Fd;
}

/**
 * Starts a process. Returns when the child has reached its execve; this thread waits that long, typically 0.3 to 1.3 ms.
 *
 * @param program - a program that ends in an execve
 * @returns pid and pidfd
 * @throws {@link KernelError} with `step` where a step failed: the child is gone and reaped then
 * @throws {@link UnsupportedError} where the kernel lacks what the clone or a step needs
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
  const { signal } = options;
  if (signal?.aborted) throw failed(program, signal.reason);
  const run = new Run(program, 'process');
  try {
    await run.bounce(signal);
    return run.settle();
  } finally {
    run.end();
  }
}

/**
 * Runs an errand: the steps of a child that shares this process's descriptors and exits when they are done. What it
 * opens is open here. The slots and outputs of the program hold the results afterwards.
 *
 * @param program - a program that was made with the ending `errand`
 * @throws {@link KernelError} with `step` where a step failed; what the steps before it opened is closed
 * @throws {@link UnsupportedError} where the kernel lacks what the clone or a step needs
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

/**
 * The same as {@link errand} without waiting on this thread, for steps on which the kernel may work for milliseconds: making a network
 * namespace, or a socket in one while others end. Until it is done, the descriptors that its steps name must stay open.
 *
 * @param program - a program that was made with the ending `errand`
 * @throws {@link KernelError}, {@link UnsupportedError} as {@link errand}
 *
 * @example
 * ```ts
 * import { errandAsync, LaunchProgram } from '@iso/sys';
 * const program = new LaunchProgram('errand');
 * const parent = program.step('host', 'getppid', []);
 * await errandAsync(program);
 * if (parent.value !== process.pid) throw new Error('somebody else went');
 * ```
 */
export async function errandAsync(program: LaunchProgram): Promise<void> {
  const run = new Run(program, 'errand');
  try {
    await run.bounce(undefined);
    run.settle();
  } finally {
    run.end();
  }
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
  // It waits for the end of this process: it must not outlive one that is killed before it has ended it.
  const self = Fd.own(syscall('pidfd_open', process.pid, 0));
  const event = Buffer.alloc(8);
  event.writeInt32LE(self.number, 0);
  event.writeInt16LE(POLL.IN, 4);
  program.step('host', 'ppoll', [event, 1, null, null, 0], { text: 'ppoll(this process)' });
  const run = new Run(program, 'errand');
  try {
    run.clone(flags);
  } catch (error) {
    self.close();
    run.end();
    throw error;
  }
  const { pid } = run;
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    run.abandon();
    run.end();
    self.close();
  };
  return { pid, end, [Symbol.dispose]: end };
}
