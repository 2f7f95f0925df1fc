import { attempt, type Fd, KernelError, SOCK, socketPair, syscall, watchFd } from '@iso/sys';

/** Holds a process back that is made already, see `gate` of `@iso/process`, until it is let go. */
export class Gate implements Disposable {
  /** The process's end. */
  readonly theirs: Fd;
  readonly #ours: Fd;

  constructor() {
    [this.#ours, this.theirs] = socketPair(SOCK.STREAM);
  }

  /**
   * Lets it go, and waits until it executes its program.
   *
   * @param file - for the error
   * @throws KernelError where that cannot be executed
   */
  async open(file: string): Promise<void> {
    this.theirs.close();
    syscall('write', this.#ours, Buffer.from('\n'), 1);
    await watchFd(this.#ours);
    const errno = Buffer.alloc(4);
    if (attempt('read', this.#ours, errno, errno.length) !== errno.length) return;
    throw new KernelError(-errno.readInt32LE(0), {
      syscall: 'execve',
      call: `execve(${JSON.stringify(file)})`,
      path: file,
      step: { index: 1, of: 1, phase: 'exec' },
    });
  }

  /** Closes both ends. */
  [Symbol.dispose](): void {
    this.theirs.close();
    this.#ours.close();
  }
}
