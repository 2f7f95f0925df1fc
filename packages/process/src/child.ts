import { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { attempt, type Fd, FdWatcher, KernelError, type Launched, type ResourceUsage, reap } from '@iso/sys';
import type { Pty, TerminalSize } from './pty.js';
import { signalName, signalNumber } from './signal.js';
import type { OpenStdio } from './stdio.js';

/** How a child ended. */
export interface Exit {
  /** Its exit code; null where a signal ended it. */
  code: number | null;
  /** The signal that ended it; null where it exited. */
  signal: NodeJS.Signals | null;
  /** CPU time, memory and faults, from the kernel. */
  usage: ResourceUsage;
  /** Whether the option `timeout` ended it. */
  timedOut: boolean;
  /** Milliseconds from launch to exit. */
  durationMs: number;
}

/** Events of a {@link Child}, as those of Node's ChildProcess. */
export interface ChildEvents {
  spawn: [];
  exit: [code: number | null, signal: NodeJS.Signals | null];
  close: [code: number | null, signal: NodeJS.Signals | null];
  error: [error: Error];
}

/**
 * A running process: the habits of Node's ChildProcess, held by a pidfd, so that a signal never reaches a stranger who
 * got its pid. No thread waits for it.
 */
export class Child extends EventEmitter<ChildEvents> implements AsyncDisposable {
  /** Its pid, as this process sees it: for display. */
  readonly pid: number;
  /** Its pidfd, open until the exit. */
  readonly pidfd: Fd;
  /** What it reads, where that is a pipe or a terminal. */
  readonly stdin: Writable | null;
  /** What it writes, where that is a pipe or a terminal. */
  readonly stdout: Readable | null;
  /** Its error output, where that is a pipe. */
  readonly stderr: Readable | null;
  /** All streams by the child's descriptor number. */
  readonly stdio: readonly (Readable | Writable | null)[];
  /** Its terminal, where `stdio` asked for a `pty`. */
  readonly terminal: Pty | null;
  /** The file and arguments it was started with. */
  readonly spawnargs: readonly string[];
  /** Settles when it has ended; never rejects. */
  readonly exited: Promise<Exit>;
  /** Its exit code once it exited. */
  exitCode: number | null = null;
  /** The signal that ended it. */
  signalCode: NodeJS.Signals | null = null;
  /** Whether {@link Child.kill} sent it a signal. */
  killed = false;

  readonly #io: OpenStdio;
  readonly #watcher: FdWatcher;
  /** Streams whose end is still to come. */
  readonly #open: Set<Readable | Writable>;
  #exit: Exit | undefined;
  #closed = false;
  #timedOut = false;

  /** @internal */
  constructor(launched: Launched, io: OpenStdio, spawnargs: readonly string[], startedAt: number) {
    super();
    this.pid = launched.pid;
    this.pidfd = launched.pidfd;
    this.spawnargs = spawnargs;
    this.#io = io;
    this.stdio = io.streams;
    this.stdin = (io.streams[0] as Writable | undefined) ?? null;
    this.stdout = (io.streams[1] as Readable | undefined) ?? null;
    this.stderr = (io.streams[2] as Readable | undefined) ?? null;
    const pty = io.pty();
    this.terminal = pty ?? null;
    this.#open = new Set([...io.streams, pty?.stream].filter((stream) => stream != null));
    for (const stream of this.#open) {
      stream.once('close', () => {
        this.#open.delete(stream);
        this.#closeWhenDrained();
      });
    }
    let settle: (exit: Exit) => void;
    this.exited = new Promise((resolve) => {
      settle = resolve;
    });
    this.#watcher = new FdWatcher(this.pidfd, 'readable', () => {
      const status = reap(this.pidfd);
      if (!status) return;
      this.#watcher.close();
      this.pidfd.close();
      this.exitCode = status.code;
      this.signalCode = status.signal === null ? null : signalName(status.signal);
      const exit: Exit = {
        code: this.exitCode,
        signal: this.signalCode,
        usage: status.usage,
        timedOut: this.#timedOut,
        durationMs: performance.now() - startedAt,
      };
      this.#exit = exit;
      settle(exit);
      this.#drain();
      this.emit('exit', exit.code, exit.signal);
    });
    process.nextTick(() => this.emit('spawn'));
  }

  /**
   * Sends a signal, see pidfd_send_signal(2).
   *
   * @param signal - name or number, default SIGTERM; 0 only asks whether it is there
   * @returns whether it was still there
   * @throws KernelError `EPERM` where it changed its credentials beyond the caller's reach
   */
  kill(signal: NodeJS.Signals | number = 'SIGTERM'): boolean {
    const number = signalNumber(signal);
    if (this.pidfd.closed) return false;
    const result = attempt('pidfd_send_signal', this.pidfd, number, null, 0);
    if (result === -3) return false;
    if (result < 0)
      throw new KernelError(result, {
        syscall: 'pidfd_send_signal',
        call: `pidfd_send_signal(${this.pid}, ${signal})`,
      });
    if (number !== 0) this.killed = true;
    return true;
  }

  /**
   * Asks it to end, and ends it when it does not.
   *
   * @param options - `signal` to ask with (default SIGTERM), `graceMs` until SIGKILL (default 5000)
   * @returns how it ended
   */
  async stop(options: { signal?: NodeJS.Signals; graceMs?: number } = {}): Promise<Exit> {
    this.kill(options.signal ?? 'SIGTERM');
    const timer = setTimeout(() => this.end('SIGKILL'), options.graceMs ?? 5000);
    try {
      return await this.exited;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Resizes its terminal.
   *
   * @param size - in characters
   * @throws `Error` (`ERR_INVALID_STATE`) where it has none
   */
  resize(size: TerminalSize): void {
    if (!this.terminal)
      throw Object.assign(new Error('the child has no terminal of ours'), { code: 'ERR_INVALID_STATE' });
    this.terminal.resize(size);
  }

  /** Lets Node end although the child runs. */
  unref(): this {
    this.#watcher.unref();
    return this;
  }

  /** Keeps Node alive while the child runs (the default). */
  ref(): this {
    this.#watcher.ref();
    return this;
  }

  /** @internal Its time is over. */
  expire(signal: NodeJS.Signals | number): void {
    this.#timedOut = true;
    this.end(signal);
  }

  /** @internal Kills it where nobody catches what that throws: listeners of 'error' hear of it, as those of child_process. */
  end(signal: NodeJS.Signals | number): void {
    try {
      this.kill(signal);
    } catch (error) {
      if (this.listenerCount('error')) this.emit('error', error as Error);
    }
  }

  /** Kills it (SIGKILL) where it still runs, and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL');
    await this.exited;
    this.#io.destroy();
  }

  #drain(): void {
    const { stdin, terminal } = this;
    // A terminal is its output too, of which the last is still to come.
    if (terminal?.stream.readableEnded) terminal.close();
    else terminal?.stream.once('end', () => terminal.close());
    if (stdin !== terminal?.stream) stdin?.destroy();
    // As child_process: what nobody has begun to read until now, nobody will, and it would keep `close` back for ever.
    setImmediate(() => {
      for (const stream of this.#open) {
        if ('readableFlowing' in stream && stream.readableFlowing === null) stream.resume();
      }
      this.#closeWhenDrained();
    });
  }

  #closeWhenDrained(): void {
    if (!this.#exit || this.#closed || this.#open.size > 0) return;
    this.#closed = true;
    this.emit('close', this.#exit.code, this.#exit.signal);
  }
}
