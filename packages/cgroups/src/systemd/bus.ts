import { connect, type Socket } from 'node:net';
import { CgroupError, E } from '../error.js';
import type { WaitOptions } from '../wait.js';
import type { Address } from './address.js';
import { authenticate } from './sasl.js';
import { BusError } from './trouble.js';
import { decode, encode, lengthOf, type Message } from './wire/message.js';
import type { Value } from './wire/value.js';

/** A call to an object. */
export interface Call {
  destination: string;
  path: string;
  interface: string;
  member: string;
  signature?: string;
  body?: readonly Value[];
}

const CONNRESET = 104;

/** A connection to a bus, or to systemd itself. Whoever opens it closes it. */
export class Bus implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #direct: boolean;
  readonly #pending = new Map<number, { resolve: (message: Message) => void; reject: (error: unknown) => void }>();
  readonly #listeners = new Set<(signal: Message) => void>();
  #received: Buffer[] = [];
  #length = 0;
  #wanted = 0;
  #serial = 0;
  #broken: unknown;

  private constructor(socket: Socket, direct: boolean, first: Buffer) {
    this.#socket = socket;
    this.#direct = direct;
    socket.on('data', (bytes: Buffer) => this.#take(bytes));
    socket.on('error', (error: NodeJS.ErrnoException) => this.#break(lost(error.errno ?? CONNRESET, error)));
    socket.on('close', () => this.#break(lost(CONNRESET)));
    this.#take(first);
    socket.resume();
  }

  /**
   * Connects and says who this is: the kernel tells the other side.
   *
   * @param address - of the socket
   * @param options - `signal`, `timeoutMs`
   * @throws KernelError of the socket; CgroupError `notDelegated` where the other side does not let this user in
   */
  static async open({ path, direct }: Address, options: WaitOptions): Promise<Bus> {
    const socket = connect({ path });
    socket.on('error', () => undefined);
    try {
      const first = await within(authenticate(socket), options, `connecting to ${path.replace('\0', '@')}`);
      const bus = new Bus(socket, direct, first);
      if (!direct) await bus.call({ ...busItself, member: 'Hello' }, options);
      return bus;
    } catch (error) {
      await destroyed(socket);
      throw error;
    }
  }

  /** Whether systemd itself is at the other end: it sends its signals without being asked. */
  get direct(): boolean {
    return this.#direct;
  }

  /**
   * Calls a method and waits for its answer.
   *
   * @param call - object and method
   * @param options - `signal`, `timeoutMs`
   * @returns the answer
   * @throws CgroupError with what the other side says; `busy` after the time
   */
  async call(call: Call, options: WaitOptions): Promise<Message> {
    if (this.#broken) throw this.#broken;
    const serial = ++this.#serial;
    const { destination, ...rest } = call;
    // Encoded first: what cannot be is an error of the caller's.
    const bytes = encode({ kind: 'call', serial, body: [], ...rest, ...(this.#direct ? {} : { destination }) });
    const answer = new Promise<Message>((resolve, reject) => this.#pending.set(serial, { resolve, reject }));
    this.#socket.write(bytes);
    try {
      const message = await within(answer, options, `calling ${call.member}`);
      if (message.kind === 'error') throw new BusError(message, call.member);
      return message;
    } finally {
      this.#pending.delete(serial);
    }
  }

  /**
   * Listens to signals.
   *
   * @param rule - what the bus is to pass on
   * @param listener - gets every signal
   * @returns what ends it
   */
  async listen(rule: string, listener: (signal: Message) => void, options: WaitOptions): Promise<() => void> {
    this.#listeners.add(listener);
    try {
      if (!this.#direct) await this.call({ ...busItself, member: 'AddMatch', signature: 's', body: [rule] }, options);
      return () => this.#listeners.delete(listener);
    } catch (error) {
      this.#listeners.delete(listener);
      throw error;
    }
  }

  /** Waits for something that a listener will tell, as long as the connection is there. */
  async until<T>(told: Promise<T>, options: WaitOptions, what: string): Promise<T> {
    if (this.#broken) throw this.#broken;
    const key = -++this.#serial;
    const lost = new Promise<never>((_, reject) => this.#pending.set(key, { resolve: () => undefined, reject }));
    try {
      return await within(Promise.race([told, lost]), options, what);
    } finally {
      this.#pending.delete(key);
    }
  }

  /** Closes the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await destroyed(this.#socket);
  }

  #take(bytes: Buffer): void {
    if (bytes.length === 0) return;
    this.#received.push(bytes);
    this.#length += bytes.length;
    if (this.#length < this.#wanted) return;
    try {
      let all = Buffer.concat(this.#received);
      let length: number | undefined;
      while ((length = lengthOf(all)) !== undefined && length <= all.length) {
        this.#got(decode(all.subarray(0, length)));
        all = all.subarray(length);
      }
      this.#received = [all];
      this.#length = all.length;
      this.#wanted = length ?? 0;
    } catch (error) {
      this.#break(error);
    }
  }

  #got(message: Message): void {
    if (message.kind === 'signal') for (const listener of this.#listeners) listener(message);
    else if (message.kind === 'return' || message.kind === 'error') {
      this.#pending.get(message.replySerial ?? 0)?.resolve(message);
    }
  }

  #break(error: unknown): void {
    this.#broken ??= error;
    this.#socket.destroy();
    for (const { reject } of this.#pending.values()) reject(this.#broken);
  }
}

const busItself = {
  destination: 'org.freedesktop.DBus',
  path: '/org/freedesktop/DBus',
  interface: 'org.freedesktop.DBus',
} as const;

function lost(errno: number, cause?: unknown): CgroupError {
  return new CgroupError(errno, {
    syscall: 'read',
    call: 'talking to systemd',
    reason: 'other',
    hint: 'the connection is gone',
    ...(cause ? { cause } : {}),
  });
}

async function destroyed(socket: Socket): Promise<void> {
  if (socket.closed) return;
  await new Promise<void>((resolve) => {
    socket.once('close', () => resolve());
    socket.destroy();
  });
}

/** Waits as long as the options allow. */
async function within<T>(work: Promise<T>, { signal, timeoutMs = 10_000 }: WaitOptions, what: string): Promise<T> {
  signal?.throwIfAborted();
  let timer: NodeJS.Timeout | undefined;
  let abort: (() => void) | undefined;
  // Where nobody waits any more, its failure is nobody's.
  work.catch(() => undefined);
  try {
    return await new Promise<T>((resolve, reject) => {
      work.then(resolve, reject);
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      const late = () =>
        reject(
          new CgroupError(E.TIMEDOUT, {
            syscall: 'read',
            call: what,
            reason: 'busy',
            hint: `no answer within ${timeoutMs} ms`,
          }),
        );
      timer = setTimeout(late, timeoutMs);
    });
  } finally {
    clearTimeout(timer);
    if (abort) signal?.removeEventListener('abort', abort);
  }
}
