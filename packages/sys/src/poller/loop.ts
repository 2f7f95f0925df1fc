import { KernelError } from '../error.js';
import { Fd } from '../fd.js';
import { Arena } from '../launcher/arena.js';
import { ANY_ERROR, END, FRAME, STEP } from '../launcher/table.js';
import { EPOLL, F, O, POLL } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import { native } from '../raw/native.js';
import { type SyscallName, syscallNumber } from '../raw/numbers.js';
import type { Uv } from '../raw/uv.js';
import { addTo, call, check, interestIn } from './call.js';
import type { Waiter } from './poller.js';

/** Events that are passed on at a turn of the loop, before those of the turn before are read: the pipe never fills. */
const AT_ONCE = 16;

/** A call of the table; where it fails, and where its result is 0, the next is so many bytes from here: 0 for the end. */
interface Row {
  readonly name: SyscallName;
  readonly args: readonly number[];
  readonly otherwise: number;
}

/**
 * libuv waits, in the loop of the main thread, and calls machine code that walks a table of system calls: an event is taken from
 * the epoll and written to the pipe, and so on until there is none. Node reads them in the next turn, which follows at once.
 */
export class LoopWaiter implements Waiter {
  readonly #uv: Uv;
  readonly #far: number;

  /**
   * @param epoll - to wait for
   * @param far - the end of the pipe to write to
   * @returns undefined where libuv's functions cannot be found
   */
  static start(epoll: Fd, far: Fd): LoopWaiter | undefined {
    const { uv } = native();
    if (!uv) return undefined;
    check('fcntl', far, F.SETFL, O.NONBLOCK);
    const { size } = layouts.epoll_event;
    const waiter = new LoopWaiter(uv, far.number);
    waiter.#poll(epoll, new Uint8Array(size), (event) => {
      const take: Row = { name: 'epoll_pwait', args: [epoll.number, event, 1, 0, 0, 0], otherwise: 0 };
      const tell: Row = { name: 'write', args: [far.number, event, size], otherwise: 0 };
      return Array.from({ length: AT_ONCE }, () => [take, tell]).flat();
    });
    return waiter;
  }

  private constructor(uv: Uv, far: number) {
    this.#uv = uv;
    this.#far = far;
  }

  /**
   * Watches for priority events, apart from the others: to look whether a PSI trigger has fired takes it away, and who waits for an
   * epoll in an epoll looks twice. That it is told of is enough here; what the epoll says then is no matter.
   *
   * @param number - the descriptor
   * @param event - what to write to the pipe
   * @returns stops it
   * @throws {@link KernelError} of epoll_ctl
   */
  priority(number: number, event: Uint8Array): () => void {
    const { size } = layouts.epoll_event;
    using epoll = Fd.own(check('epoll_create1', O.CLOEXEC));
    addTo(epoll.number, number, interestIn(POLL.PRI + EPOLL.ET));
    const close = this.#poll(epoll, event, (address, room) => [
      { name: 'epoll_pwait', args: [epoll.number, room, 1, 0, 0, 0], otherwise: STEP.size },
      { name: 'write', args: [this.#far, address, size], otherwise: STEP.size },
    ]);
    const own = epoll.release();
    return () => {
      close();
      call('close', own);
    };
  }

  /** Lets libuv walk a table whenever an epoll is ready. */
  #poll(epoll: Fd, bytes: Uint8Array, rowsOf: (bytes: number, room: number) => readonly Row[]): () => void {
    const { pollSize, poll, close } = this.#uv;
    // Mapped: libuv looks at it until the handle is closed, which may be when nothing of JavaScript is there any more.
    const arena = Arena.take(pollSize + FRAME.size + (2 * AT_ONCE + 1) * STEP.size + 2 * bytes.length + 64);
    const handle = arena.allocate(pollSize);
    const frame = arena.allocate(FRAME.size);
    const rows = rowsOf(arena.store(bytes), arena.allocate(bytes.length));
    const first = arena.allocate((rows.length + 1) * STEP.size);
    const end = first + rows.length * STEP.size;
    for (const [i, { name, args, otherwise }] of rows.entries()) {
      const step = first + i * STEP.size;
      arena.set(step + STEP.nr, syscallNumber(name));
      for (const [place, value] of args.entries()) arena.set(step + STEP.args + 8 * place, value);
      arena.set(step + STEP.onValue, STEP.size);
      for (const way of [STEP.onZero, STEP.onIgnored]) arena.set(step + way, otherwise || end - step);
      arena.setByte(step + STEP.ignore, ANY_ERROR);
    }
    arena.set(end + STEP.nr, END);
    arena.set(frame + FRAME.steps, first);
    arena.set(frame + FRAME.here, 1);
    // uv_handle_t begins with its user's own word.
    arena.set(handle, frame);
    const failed = poll(handle, epoll.number, native().polled);
    if (failed !== 0) {
      arena.release();
      throw new KernelError(failed, { syscall: 'epoll_ctl', hint: 'libuv does not watch it' });
    }
    return () => {
      close(handle);
      // libuv is through with it at the end of this turn of the loop.
      setImmediate(() => setImmediate(() => arena.release()));
    };
  }
}
