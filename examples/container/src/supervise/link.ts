import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { Fd } from '@iso/sys';
import { StartError } from '../exitcode.js';
import type { LogStream } from '../log/container-log.js';
import { type Ended, type Failed, FRAME, FrameReader, send } from './frame.js';

/** Name of the socket of a supervisor, in the record of its container. */
const SOCKET = 'attach';

/** Paths of sockets are short; that of a directory's descriptor always is. */
export function socketPath(directory: Fd): string {
  return `/proc/self/fd/${directory.number}/${SOCKET}`;
}

/** The other end of what a supervisor speaks, see `frame.ts`. */
export class Link implements Disposable {
  readonly #socket: Socket;
  #output: (kind: number, chunk: Buffer) => void = () => {};
  #hasStarted = () => {};
  #hasFailed: (error: Error) => void = () => {};
  #hasEnded: (exitCode: number | undefined) => void = () => {};
  /** Settles when the container runs; rejects with a {@link StartError} where it does not. */
  readonly started: Promise<void>;
  /** Settles with its exit code; with undefined where the connection is lost before. */
  readonly ended: Promise<number | undefined>;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.started = new Promise((resolve, reject) => {
      this.#hasStarted = resolve;
      this.#hasFailed = reject;
    });
    // Who only waits for the end hears of it there.
    this.started.catch(() => {});
    this.ended = new Promise((resolve) => {
      this.#hasEnded = resolve;
    });
    const reader = new FrameReader((kind, payload) => this.#take(kind, payload));
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.#hasFailed(new StartError('the supervisor ended before the container ran', 125));
      this.#hasEnded(undefined);
    });
  }

  /**
   * Connects with the supervisor of a container.
   *
   * @param directory - of its record
   * @returns the connection; undefined where there is no supervisor
   */
  static async connect(directory: string): Promise<Link | undefined> {
    try {
      using there = Fd.open(directory, { directory: true });
      const socket = createConnection(socketPath(there));
      await once(socket, 'connect');
      return new Link(socket);
    } catch {
      return undefined;
    }
  }

  /** Whoever is told of output; what comes before is not lost, as long as this is called at once. */
  onOutput(output: (stream: LogStream, chunk: Buffer) => void): void {
    this.#output = (kind, chunk) => output(kind === FRAME.stdout ? 'stdout' : 'stderr', chunk);
  }

  #take(kind: number, payload: Buffer): void {
    if (kind === FRAME.stdout || kind === FRAME.stderr) this.#output(kind, payload);
    else if (kind === FRAME.started) this.#hasStarted();
    else if (kind === FRAME.failed) {
      const { message, exitCode } = JSON.parse(payload.toString()) as Failed;
      this.#hasFailed(new StartError(message, exitCode));
    } else if (kind === FRAME.ended) this.#hasEnded((JSON.parse(payload.toString()) as Ended).exitCode);
  }

  /**
   * Sends a frame.
   *
   * @returns false where the other side does not keep up
   */
  send(kind: number, payload: Uint8Array | string = ''): boolean {
    return send(this.#socket, kind, payload);
  }

  /** Told when the other side keeps up again. */
  onceDrained(drained: () => void): void {
    this.#socket.once('drain', drained);
  }

  /** No more output for now. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** What was sent arrives. */
  close(): void {
    this.#socket.destroySoon();
  }

  /** The same as {@link Link.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Where the socket of a container's supervisor is. */
export function socketFile(directory: string): string {
  return join(directory, SOCKET);
}
