import { attempt, errnoName, type Fd, KernelError, SOCK, socketPair, syscall, watchFd } from '@iso/sys';

/** A gate that lets its process through at once, and tells what came of it. */
export class OpenGate implements Disposable {
  /** The child's end. */
  readonly theirs: Fd;
  readonly #ours: Fd;

  constructor() {
    [this.#ours, this.theirs] = socketPair(SOCK.STREAM);
    try {
      syscall('write', this.#ours, '\n', 1);
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Waits until the program is executed, when the kernel closes the child's end, or cannot be.
   *
   * @param file - for the error
   * @param hints - for it too, by its name
   * @param limits - when not to wait any longer: whoever lives where it runs may have stopped it
   * @throws KernelError of the phase `exec`; the signal's reason; a `TimeoutError`
   */
  async passed(
    file: string,
    hints: Readonly<Record<string, string>>,
    { signal, timeout }: { signal?: AbortSignal; timeout?: number },
  ): Promise<void> {
    this.theirs.close();
    const limits = [...(signal ? [signal] : []), ...(timeout ? [AbortSignal.timeout(timeout)] : [])];
    await watchFd(this.#ours, limits.length ? { signal: AbortSignal.any(limits) } : {});
    const errno = Buffer.alloc(4);
    if (attempt('read', this.#ours, errno, errno.length) !== errno.length) return;
    const error = -errno.readInt32LE(0);
    const hint = hints[errnoName(error)];
    throw new KernelError(error, {
      syscall: 'execve',
      call: `execve(${JSON.stringify(file)})`,
      path: file,
      step: { index: 1, of: 1, phase: 'exec' },
      ...(hint === undefined ? {} : { hint }),
    });
  }

  /** Closes what is open. */
  [Symbol.dispose](): void {
    this.theirs.close();
    this.#ours.close();
  }
}
