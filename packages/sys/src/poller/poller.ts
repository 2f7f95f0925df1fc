import { Socket } from 'node:net';
import { KernelError } from './error.js';
import { Fd } from './fd.js';
import { kernel } from './kernel.js';
import type { Compiled } from './launcher/compile.js';
import { LaunchProgram } from './launcher/program.js';
import type { Step } from './launcher/step.js';
import { FRAME, type Table, writeTable } from './launcher/table.js';
import { CLONE, EPOLL, O, POLL } from './raw/flags.js';
import { layouts } from './raw/layouts.js';
import type { PollHandle } from './raw/native.js';
import { syscallNumber } from './raw/numbers.js';
import { attempt, syscall } from './syscall.js';

/**
 * Readiness of descriptors in a worker thread. Whoever ends a worker gives it no time to take its own handles off libuv's
 * loop, and Node ends the whole process over one that is left there. So here libuv watches a socket of Node's own, which
 * Node does take off, and a thread that only walks a table of system calls waits for an epoll: it writes a byte to the
 * socket, and waits for one. When the socket closes, with the worker or before, it closes its own ends and is gone.
 */
export class Poller {
  static #running: Poller | undefined;
  readonly #epoll: number;
  readonly #watches = new Map<number, { callback: () => void; refs: boolean }>();
  readonly #socket: Socket;
  readonly #near: number;
  readonly #table: Table;
  /** The thread's id, which the kernel clears when it has gone. */
  readonly #thread: number;

  /**
   * Watches a descriptor, level-triggered.
   *
   * @param number - that this worker does not watch yet
   * @param event - what for
   * @param callback - told in a turn of Node's own
   */
  static watch(number: number, event: 'readable' | 'writable', callback: () => void): PollHandle {
    const poller = (Poller.#running ??= new Poller());
    const control = (operation: number) => {
      const { size, events, data } = layouts.epoll_event;
      const interest = Buffer.alloc(size);
      interest.writeUInt32LE(event === 'writable' ? POLL.OUT : POLL.IN, events);
      interest.writeInt32LE(number, data);
      return attempt('epoll_ctl', poller.#epoll, operation, number, interest);
    };
    const watch = { callback, refs: true };
    const added = control(EPOLL.CTL_ADD);
    if (added < 0) throw new KernelError(added, { syscall: 'epoll_ctl' });
    poller.#watches.set(number, watch);
    const change = (refs: boolean) => {
      watch.refs = refs;
      poller.#keepAlive();
    };
    change(true);
    return {
      close: () => {
        if (!poller.#watches.delete(number)) return;
        control(EPOLL.CTL_DEL);
        poller.#keepAlive();
        // What closes one watcher often opens the next.
        setImmediate(() => poller.#endIfIdle());
      },
      ref: () => change(true),
      unref: () => change(false),
    };
  }

  private constructor() {
    const ends = Buffer.alloc(8);
    syscall('socketpair', AF_UNIX, SOCK_STREAM | O.CLOEXEC, 0, ends);
    this.#near = ends.readInt32LE(0);
    const far = Fd.own(ends.readInt32LE(4));
    this.#socket = new Socket({ fd: this.#near, readable: true, writable: false });
    try {
      using epoll = Fd.own(syscall('epoll_create1', O.CLOEXEC));
      this.#table = writeTable(loop(epoll, far));
      this.#thread = this.#table.arena.allocate(8);
      this.#start();
      this.#epoll = epoll.release();
      far.release();
    } catch (error) {
      far.close();
      this.#socket.destroy();
      throw error;
    }
    this.#socket.on('data', () => this.#tell());
  }

  #start(): void {
    const { arena, frame } = this.#table;
    const flags =
      CLONE.VM | CLONE.FS | CLONE.FILES | CLONE.SIGHAND | CLONE.THREAD | CLONE.SYSVSEM | CLONE.CHILD_CLEARTID;
    arena.set(frame, syscallNumber('clone'));
    // The last two, the thread's id and its storage, change places between architectures.
    const last = process.arch === 'x64' ? [this.#thread, 0] : [0, this.#thread];
    for (const [i, value] of [flags, 0, 0, ...last].entries()) arena.set(frame + FRAME.args + 8 * i, value);
    arena.set(this.#thread, 1);
    const ignore = () => {};
    const result = kernel().launch({ frame, flags, steps: [], fail: ignore, reach: ignore, pidfd: ignore });
    if (result < 0) throw new KernelError(result, { syscall: 'clone', hint: 'a limit on threads was reached' });
  }

  #tell(): void {
    const { size, data } = layouts.epoll_event;
    const ready = Buffer.alloc(64 * size);
    const count = attempt('epoll_pwait', this.#epoll, ready, 64, 0, null, 0);
    try {
      for (let i = 0; i < count; i++) this.#watches.get(ready.readInt32LE(i * size + data))?.callback();
    } finally {
      if (Poller.#running === this) attempt('write', this.#near, 'x', 1);
    }
  }

  #keepAlive(): void {
    if ([...this.#watches.values()].some(({ refs }) => refs)) this.#socket.ref();
    else this.#socket.unref();
  }

  #endIfIdle(): void {
    if (this.#watches.size > 0 || Poller.#running !== this) return;
    Poller.#running = undefined;
    this.#socket.destroy();
    this.#release();
  }

  #release(): void {
    if (this.#table.arena.int(this.#thread) === 0) this.#table.arena.release();
    else setTimeout(() => this.#release(), 1).unref();
  }
}

/** What the thread does until the socket closes. */
function loop(epoll: Fd, far: Fd): Compiled {
  const { size, fd, events } = layouts.pollfd;
  const waits = Buffer.alloc(2 * size);
  for (const [i, { number }] of [epoll, far].entries()) {
    waits.writeInt32LE(number, i * size + fd);
    waits.writeInt16LE(POLL.IN, i * size + events);
  }
  const program = new LaunchProgram('errand');
  // It shares the table all the same, and closes in it what is its own.
  program.ownFiles();
  program.step('host', 'ppoll', [waits, 2, null, null, 0]);
  program.step('host', 'write', [far, 'x', 1], { ignore: ['*'] });
  program.step('host', 'read', [far, program.output(1), 1], { ignore: ['*'] });
  program.step('host', 'close', [epoll]);
  program.step('host', 'close', [far]);
  const compiled = program.compile();
  const [wait, write, read, close] = compiled.steps as [Step, Step, Step, Step];
  write.onIgnored = close;
  Object.assign(read, { onZero: close, onIgnored: close, onValue: wait });
  return compiled;
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
