import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { TerminalSize } from '@iso/process';
import { Fd } from '@iso/sys';
import type { Container } from '../container.js';
import type { LogStream } from '../log/container-log.js';
import { FRAME, FrameReader, type Started, send } from './frame.js';
import { socketFile, socketPath } from './link.js';

/** What those who are attached may want of a supervisor besides its container's streams. */
export interface Wishes {
  /** A signal for the container, by name. */
  signal(name: string): void;
  /** It is not to be started again. */
  giveUp(): void;
}

/** How a container uses its input. */
export interface InputUse {
  tty: boolean;
  /** There is one. */
  interactive: boolean;
  /** It ends with what whoever started the container had to say. */
  once: boolean;
}

const END_OF_FILE = '\x04';
/** So much of the input waits for a container that does not run yet. */
const MOST_WAITING = 1 << 20;

/** Who is stopped does not keep a supervisor. */
const PATIENCE_MS = 2000;

/** Those who are attached to a container: they get its output, and it gets their input. */
export class Clients implements Disposable {
  readonly #directory: Fd;
  readonly #path: string;
  readonly #use: InputUse;
  readonly #wishes: Wishes;
  readonly #server: Server;
  /** Each with whether it wants output. */
  readonly #sockets = new Map<Socket, boolean>();
  /** Those whose input is the container's. */
  readonly #givers = new WeakSet<Socket>();
  readonly #waiting: Buffer[] = [];
  #container: Container | undefined;
  #inputEnded = false;
  size: TerminalSize | undefined;

  private constructor(path: string, use: InputUse, wishes: Wishes) {
    this.#path = path;
    this.#directory = Fd.open(path, { directory: true });
    this.#use = use;
    this.#wishes = wishes;
    this.#server = createServer((socket) => this.add(socket, true));
  }

  /**
   * Lets others attach, by a socket in the record of the container.
   *
   * @param path - directory of the record
   * @param use - how the container uses its input
   * @param wishes - what is done for them
   */
  static async listen(path: string, use: InputUse, wishes: Wishes): Promise<Clients> {
    // Of a supervisor that was killed.
    rmSync(socketFile(path), { force: true });
    const clients = new Clients(path, use, wishes);
    clients.#server.listen(socketPath(clients.#directory));
    await once(clients.#server, 'listening');
    return clients;
  }

  /** One more. */
  add(socket: Socket, output: boolean): void {
    this.#sockets.set(socket, output);
    if (this.#container) this.#tellStarted(socket, this.#container);
    const reader = new FrameReader((kind, payload) => this.#take(socket, kind, payload));
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk);
      } catch {
        socket.destroy();
      }
    });
    socket.on('close', () => {
      this.#sockets.delete(socket);
      if (this.#givers.has(socket) && this.#use.once && !this.#use.tty) this.#endInput();
    });
  }

  /** The container runs: its streams are theirs. */
  serve(container: Container, log: (stream: LogStream, chunk: Buffer) => void): void {
    this.#container = container;
    const { stdout, stderr, stdin } = container.child;
    if (stdout) this.#pump(stdout, FRAME.stdout, (chunk) => log('stdout', chunk));
    if (stderr) this.#pump(stderr, FRAME.stderr, (chunk) => log('stderr', chunk));
    // It may have closed its input.
    stdin?.on('error', () => {});
    for (const chunk of this.#waiting.splice(0)) stdin?.write(chunk);
    if (this.#inputEnded) this.#endInput();
    for (const socket of this.#sockets.keys()) socket.resume();
    for (const socket of this.#sockets.keys())
      send(socket, FRAME.started, JSON.stringify({ pid: container.child.pid }));
  }

  #tellStarted(socket: Socket, { child }: Container): void {
    send(socket, FRAME.started, JSON.stringify({ pid: child.pid } satisfies Started));
  }

  #pump(source: Readable, kind: number, log: (chunk: Buffer) => void): void {
    let waiting = 0;
    const go = () => {
      if (--waiting === 0) source.resume();
    };
    source.on('data', (chunk: Buffer) => {
      log(chunk);
      // Others have their turn after each chunk: a program that writes without end keeps no one from ending it.
      waiting += 1;
      source.pause();
      setImmediate(go);
      for (const [socket, output] of this.#sockets) {
        if (!output || send(socket, kind, chunk)) continue;
        // Nothing is dropped, and nothing piles up: the container waits for the slowest, as for a pipe.
        waiting += 1;
        const done = () => {
          socket.off('drain', done).off('close', done);
          go();
        };
        socket.on('drain', done).on('close', done);
      }
    });
  }

  #take(socket: Socket, kind: number, payload: Buffer): void {
    if (kind === FRAME.input || kind === FRAME.endOfInput) this.#givers.add(socket);
    if (kind === FRAME.input) this.#input(socket, payload);
    else if (kind === FRAME.endOfInput && this.#use.tty) this.#input(socket, Buffer.from(END_OF_FILE));
    else if (kind === FRAME.endOfInput && this.#use.once) this.#endInput();
    else if (kind === FRAME.resize) {
      this.size = JSON.parse(payload.toString()) as TerminalSize;
      if (this.#container?.child.terminal) this.#container.child.resize(this.size);
    } else if (kind === FRAME.signal) this.#wishes.signal(payload.toString());
    else if (kind === FRAME.giveUp) this.#wishes.giveUp();
  }

  #input(socket: Socket, payload: Buffer): void {
    if (!this.#use.interactive || payload.length === 0) return;
    const { stdin } = this.#container?.child ?? {};
    if (stdin) {
      if (stdin.destroyed || stdin.write(Buffer.from(payload))) return;
      socket.pause();
      const done = () => {
        stdin.off('drain', done).off('close', done);
        socket.resume();
      };
      stdin.on('drain', done).on('close', done);
      return;
    }
    this.#waiting.push(Buffer.from(payload));
    if (this.#waiting.reduce((sum, { length }) => sum + length, 0) > MOST_WAITING) socket.pause();
  }

  #endInput(): void {
    this.#inputEnded = true;
    this.#container?.child.stdin?.end();
  }

  /** It could not be started. */
  failed(message: string, exitCode: number): void {
    this.#tell(FRAME.failed, { message, exitCode });
  }

  /** It has ended: who is attached is told, and let go. */
  ended(exitCode: number): void {
    this.#container = undefined;
    this.#tell(FRAME.ended, { exitCode });
  }

  #tell(kind: number, what: object): void {
    for (const socket of this.#sockets.keys()) {
      send(socket, kind, JSON.stringify(what));
      socket.destroySoon();
    }
  }

  /** The container has ended: who does not take its last output does not keep it. */
  dropSlow(): void {
    for (const socket of this.#sockets.keys()) if (socket.writableNeedDrain) socket.destroy();
  }

  /** Nobody can attach any more: the place of the socket is the next supervisor's. */
  unlisten(): void {
    if (!this.#server.listening) return;
    this.#server.close();
    rmSync(socketFile(this.#path), { force: true });
  }

  /** Nobody can attach any more; what was sent arrives, unless nobody takes it. */
  [Symbol.dispose](): void {
    this.unlisten();
    this.#directory.close();
    const give = () => {
      for (const socket of this.#sockets.keys()) socket.destroy();
    };
    if (this.#sockets.size > 0) setTimeout(give, PATIENCE_MS);
  }
}
