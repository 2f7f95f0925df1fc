import {
  attempt,
  errnoName,
  type Fd,
  FdWatcher,
  invalid,
  KernelError,
  type LaunchProgram,
  type Part,
  POLL,
  watchFd,
} from '@iso/sys';
import { SeccompError } from './error.js';
import type { Filter } from './filter.js';
import { Handover } from './handover.js';
import { Notification } from './notification.js';
import { type InstallOptions, judge, requireKernel } from './part.js';
import { NOTIF, NOTIFY } from './raw/seccomp.js';

/** What {@link Supervisor.answer} calls for each system call: its answer may come later. */
export type Answerer = (notification: Notification) => void | Promise<void>;

/**
 * Installs a filter whose action `notify` brings system calls here: a part of one launch, and then its calls, one after the
 * other, each to be answered by JavaScript. Nothing blocks but the thread that made the call. Where the supervisor is closed, or
 * this process ends, the calls fail with ENOSYS.
 *
 * Where the filter notifies of execve, the launch itself waits for an answer: begin to answer before it.
 *
 * @example
 * ```ts
 * import { Filter, Supervisor } from '@iso/seccomp';
 * import { run } from '@iso/process';
 * const filter = new Filter({ default: 'allow', rules: [{ calls: ['uname'], action: 'notify' }] });
 * using supervisor = new Supervisor(filter);
 * const answers = supervisor.answer((call) => call.fail('EDOM'));
 * const { stderr } = await run('uname', [], { confine: [supervisor], check: false });
 * await answers;
 * if (!stderr.includes('argument out of domain')) throw new Error(stderr);
 * ```
 */
export class Supervisor implements Part, Disposable {
  readonly #filter: Filter;
  readonly #options: InstallOptions;
  readonly #flags: number;
  #used = false;
  #closed = false;
  #handover: Handover | undefined;
  #waiting: FdWatcher | undefined;
  #listener: Fd | undefined;
  readonly #arrival: Promise<void>;
  #arrived: () => void = () => {};

  /**
   * @param filter - with `notify` among its actions
   * @param options - how it is installed
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a filter that does not notify
   */
  constructor(filter: Filter, options: InstallOptions = {}) {
    this.#flags = judge(filter, options);
    if (!filter.actions.includes('notify'))
      throw invalid('the filter does not notify: no supervisor would hear of anything');
    this.#filter = filter;
    this.#options = options;
    this.#arrival = new Promise((resolve) => {
      this.#arrived = resolve;
    });
  }

  /**
   * Adds its steps to a launch.
   *
   * @param program - the launch in the making
   */
  confine(program: LaunchProgram): void {
    if (this.#used) throw invalid('a supervisor is for one launch');
    requireKernel(this.#filter);
    this.#used = true;
    if (duringLaunch.some((call) => this.#filter.reaches(call, 'notify'))) program.mayBlock();
    const handover = Handover.add(program, this.#filter, this.#flags, this.#options);
    this.#handover = handover;
    program.undo(() => this.close());
    // It has sent its listener before its exec; where that waits for an answer, the launch is not over.
    this.#waiting = new FdWatcher(handover.socket, 'readable', () => this.#take());
    program.started(() => this.#take());
  }

  /**
   * The calls that come, each once; whoever asks for the next one first gets it. Ends when no process has the filter any more.
   *
   * @param options - `signal` ends it
   * @returns an iteration; leaving it does not close the supervisor
   * @throws the signal's reason
   */
  async *notifications(options: { signal?: AbortSignal } = {}): AsyncGenerator<Notification, void, void> {
    const { signal } = options;
    for (;;) {
      signal?.throwIfAborted();
      const next = await this.#next(signal);
      if (!next) return;
      yield next;
    }
  }

  /** The same as {@link Supervisor.notifications}. */
  [Symbol.asyncIterator](): AsyncGenerator<Notification, void, void> {
    return this.notifications();
  }

  /**
   * Answers every call by a function, several at a time where answers take their time. One that throws, or returns without an
   * answer, has failed: the call fails with EPERM.
   *
   * @param answerer - gives the answer
   * @param options - `signal` ends it
   * @returns settles when no process has the filter any more
   * @throws the first error of the function, in the end; the signal's reason
   */
  async answer(answerer: Answerer, options: { signal?: AbortSignal } = {}): Promise<void> {
    const errors: unknown[] = [];
    const pending = new Set<Promise<void>>();
    for await (const notification of this.notifications(options)) {
      const work = serve(answerer, notification).catch((error) => void errors.push(error));
      pending.add(work);
      void work.then(() => pending.delete(work));
    }
    await Promise.all(pending);
    if (errors.length) throw errors[0];
  }

  /**
   * Gives the listener away: its calls are for whoever holds it from then on, in this process or, once it is sent there, in another. The
   * supervisor itself is closed then.
   *
   * @returns the listener, the caller's to close, as soon as the filter is installed: maybe before the launch is over; undefined where
   * the launch failed before, or the supervisor was closed
   */
  async release(): Promise<Fd | undefined> {
    await this.#arrival;
    const listener = this.#listener;
    this.#listener = undefined;
    this.close();
    return listener?.closed ? undefined : listener;
  }

  /** Gives up: calls that wait, and those to come, fail with ENOSYS. Again does nothing. */
  close(): void {
    this.#closed = true;
    this.#waiting?.close();
    this.#waiting = undefined;
    this.#handover?.socket.close();
    this.#watching?.abort();
    this.#listener?.close();
    this.#arrived();
  }

  /** The same as {@link Supervisor.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Ends the wait of {@link Supervisor.notifications} before the descriptor that it waits for is closed. */
  #watching: AbortController | undefined;

  #take(): void {
    if (!this.#waiting) return;
    const listener = this.#handover?.take();
    if (listener === undefined) return;
    this.#waiting.close();
    this.#waiting = undefined;
    this.#handover?.socket.close();
    if (listener) this.#listener = listener;
    this.#arrived();
  }

  async #next(signal: AbortSignal | undefined): Promise<Notification | undefined> {
    await abortable(this.#arrival, signal);
    for (;;) {
      const listener = this.#listener;
      if (!listener || this.#closed) return undefined;
      const events = poll(listener);
      if (events & POLL.IN) {
        const notification = receive(listener);
        if (notification) return notification;
      } else if (events !== 0) return this.close() as undefined;
      else await this.#watch(listener, signal);
    }
  }

  async #watch(listener: Fd, signal: AbortSignal | undefined): Promise<void> {
    const own = (this.#watching ??= new AbortController());
    try {
      await watchFd(listener, { signal: signal ? AbortSignal.any([signal, own.signal]) : own.signal });
    } catch (reason) {
      if (signal?.aborted) throw signal.reason;
      if (!own.signal.aborted) throw reason;
    }
  }
}

/** Calls that a launch makes behind the filter, before its program runs. */
const duringLaunch = ['execve', 'openat2', 'exit'];

async function serve(answerer: Answerer, notification: Notification): Promise<void> {
  try {
    await answerer(notification);
  } catch (error) {
    refuse(notification);
    throw error;
  }
  refuse(notification);
}

function refuse(notification: Notification): void {
  if (notification.answered) return;
  try {
    notification.fail('EPERM');
  } catch (error) {
    if (!(error instanceof SeccompError)) throw error;
  }
}

/** What a descriptor is ready for now. */
function poll(fd: Fd): number {
  const entry = Buffer.alloc(8);
  entry.writeInt32LE(fd.number, 0);
  entry.writeInt16LE(POLL.IN, 4);
  const result = attempt('ppoll', entry, 1, Buffer.alloc(16), null, 0);
  return result < 0 ? 0 : entry.readInt16LE(6);
}

/**
 * Takes a call that {@link poll} has told of: one that is gone by then is none, and as each was counted once for whoever
 * takes it, that does not wait either.
 */
function receive(listener: Fd): Notification | undefined {
  const bytes = Buffer.alloc(NOTIF.size);
  const result = attempt('ioctl', listener, NOTIFY.RECV, bytes);
  if (result >= 0) return new Notification(listener, bytes);
  if (['ENOENT', 'EINTR'].includes(errnoName(result))) return undefined;
  throw new KernelError(result, { syscall: 'ioctl', call: 'ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV)' });
}

async function abortable(promise: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (!signal) return promise;
  signal.throwIfAborted();
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  try {
    await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
