import { createSocket } from 'node:dgram';
import { KernelError, UnsupportedError } from '../error.js';
import { Fd } from '../fd.js';
import { LinuxKernel, type SyscallArg } from '../kernel.js';
import { AF, EPOLL, O, SOCK } from '../raw/flags.js';
import { layouts } from '../raw/layouts.js';
import type { SyscallName } from '../raw/numbers.js';

/** What is used of Node's handle of a UDP socket, which a `dgram.Socket` keeps in its state. */
interface DatagramHandle {
  /** Takes a socket; minus the error number where it cannot. */
  open(fd: number): number;
  recvStart(): number;
  onmessage: () => void;
  ref(): void;
  unref(): void;
  close(): void;
}

/** Events that are taken at a time; of the others the epoll tells in the next turn. */
const AT_ONCE = 16;

/** What this process runs on, whatever a test puts in its place: this is a part of the event loop. */
const linux: LinuxKernel = new LinuxKernel();

/**
 * An epoll in Node's own event loop. Node takes it for a socket of datagrams, and is told to receive: it can be read when one of its
 * descriptors is ready, what is read is an error, and that Node tells, in its own turn, with everything that belongs to one: promises go
 * on, and a worker that is terminated closes it like all that it has open. No thread waits, nothing calls JavaScript from outside, and
 * the loop is asked once for all: an event that goes when somebody looks is not taken by a look of its own.
 */
export class LoopEpoll {
  /** The epoll's descriptor. */
  readonly number: number;
  readonly #handle: DatagramHandle;
  readonly #events: Buffer = Buffer.alloc(AT_ONCE * layouts.epoll_event.size);

  /**
   * It does not keep the process alive, see {@link LoopEpoll.keepAlive}.
   *
   * @param ready - told once in a turn of the loop, for as long as a descriptor is ready
   * @throws {@link UnsupportedError} where this Node has no such handle
   */
  constructor(ready: () => void) {
    using epoll = Fd.own(check('epoll_create1', O.CLOEXEC));
    // Only a socket is taken. libuv's own epoll takes the number on when this turn is over: then it is the epoll's.
    using place = Fd.own(check('socket', AF.UNIX, SOCK.DGRAM | O.CLOEXEC, 0));
    this.#handle = newHandle();
    this.#handle.onmessage = ready;
    succeed('open', this.#handle.open(place.number));
    // From here on it is Node's to close.
    this.number = place.release();
    try {
      check('dup3', epoll, this.number, O.CLOEXEC);
      succeed('recvStart', this.#handle.recvStart());
    } catch (error) {
      this.close();
      throw error;
    }
    this.#handle.unref();
  }

  /**
   * Watches a descriptor.
   *
   * @param number - the descriptor
   * @param events - which, as poll(2) has them; told of again and again for as long as it is so
   * @param id - comes with them
   * @throws {@link KernelError} `EPERM` for what cannot be polled, `EBADF`, `EEXIST` for what it watches
   */
  add(number: number, events: number, id = 0): void {
    const { size, ...at } = layouts.epoll_event;
    const interest = Buffer.alloc(size);
    interest.writeUInt32LE(events, at.events);
    interest.writeUInt32LE(id, at.data);
    const added = call('epoll_ctl', this.number, EPOLL.CTL_ADD, number, interest);
    if (added < 0) throw new KernelError(added, { syscall: 'epoll_ctl', call: `epoll_ctl(ADD, ${number})` });
  }

  /**
   * Stops watching a descriptor.
   *
   * @param number - the descriptor; nothing happens where it was closed before
   */
  remove(number: number): void {
    call('epoll_ctl', this.number, EPOLL.CTL_DEL, number, null);
  }

  /** The ids of descriptors that are ready, some of them if they are many. */
  ready(): number[] {
    const { size, data } = layouts.epoll_event;
    const count = call('epoll_pwait', this.number, this.#events, AT_ONCE, 0, null, 0);
    const ids: number[] = [];
    for (let i = 0; i < count; i++) ids.push(this.#events.readUInt32LE(i * size + data));
    return ids;
  }

  /**
   * Whether the process waits for it.
   *
   * @param alive - false after construction
   */
  keepAlive(alive: boolean): void {
    if (alive) this.#handle.ref();
    else this.#handle.unref();
  }

  /** Stops, and closes the epoll; again does nothing. */
  close(): void {
    this.#handle.close();
  }
}

let DatagramClass: (new () => DatagramHandle) | undefined;

/** A handle of the class that Node has for them, which a socket shows. */
function newHandle(): DatagramHandle {
  if (!DatagramClass) {
    const socket = createSocket('udp4') as unknown as Record<symbol, { handle?: DatagramHandle } | undefined>;
    const states = Object.getOwnPropertySymbols(socket).map((name) => socket[name]);
    const handle = states.find((state) => state?.handle)?.handle;
    if (!handle) throw new UnsupportedError('@iso/sys', 'this Node does not show the handles of its sockets');
    DatagramClass = handle.constructor as new () => DatagramHandle;
    handle.close();
  }
  return new DatagramClass();
}

function succeed(method: string, failed: number): void {
  if (failed !== 0)
    throw new UnsupportedError('@iso/sys', `this Node waits for no socket of ours: ${method}, ${failed}`);
}

function call(name: SyscallName, ...args: SyscallArg[]): number {
  return Number(linux.call(name, args));
}

function check(name: SyscallName, ...args: SyscallArg[]): number {
  const result = call(name, ...args);
  if (result < 0) throw new KernelError(result, { syscall: name });
  return result;
}
