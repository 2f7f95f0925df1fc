import { Fd, LaunchProgram, launch, O, reap, StringArray, syscall, watchFd } from '@iso/sys';

/**
 * A process that only waits: systemd removes a scope in which nothing runs. It ends by itself when this process does, however that
 * happens, because nobody holds the other end of its pipe then.
 */
export class Keeper implements AsyncDisposable {
  readonly pid: number;
  readonly #pidfd: Fd;
  readonly #pipe: Fd;

  private constructor(pid: number, pidfd: Fd, pipe: Fd) {
    this.pid = pid;
    this.#pidfd = pidfd;
    this.#pipe = pipe;
  }

  /** Starts one. */
  static start(): Keeper {
    const ends = new Int32Array(2);
    syscall('pipe2', new Uint8Array(ends.buffer), O.CLOEXEC);
    const [read, write] = [Fd.own(ends[0] as number), Fd.own(ends[1] as number)];
    try {
      const program = new LaunchProgram();
      program.step('fds', 'dup3', [read, 0, 0]);
      program.closeFrom(1);
      program.step('exec', 'execve', [
        '/bin/sh',
        new StringArray(['sh', '-c', 'read -r nothing']),
        new StringArray([]),
      ]);
      const { pid, pidfd } = launch(program);
      return new Keeper(pid, pidfd, write);
    } catch (error) {
      write.close();
      throw error;
    } finally {
      read.close();
    }
  }

  /** Lets it end, and waits for that. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#pidfd.closed) return;
    this.#pipe.close();
    await watchFd(this.#pidfd);
    reap(this.#pidfd);
    this.#pidfd.close();
  }
}
