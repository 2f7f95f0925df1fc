import { Duplex } from 'node:stream';
import { attempt, F, Fd, FdWatcher, invalid, O, syscall } from '@iso/sys';
import { attributesOf, endOfInput, raw, setAttributes, TTY } from './raw/termios.js';

/** Size of a terminal in characters. */
export interface TerminalSize {
  columns: number;
  rows: number;
}

/**
 * A pseudo-terminal's two ends: the master as a stream, the other end as the descriptor that a child gets.
 *
 * @example
 * ```ts
 * import { Pty } from '@iso/process';
 * const pty = Pty.open({ columns: 80, rows: 24 });
 * pty.resize({ columns: 100, rows: 30 });
 * pty.close();
 * ```
 */
export class Pty implements Disposable {
  /** What the child writes, and where its input goes. */
  readonly stream: PtyStream;
  /** The child's end; close it once the child has started, or the end of the stream never comes. */
  readonly peer: Fd;
  #cooked: Buffer | undefined;

  private constructor(master: Fd, peer: Fd) {
    this.stream = new PtyStream(master);
    this.peer = peer;
  }

  /**
   * Opens a pseudo-terminal, see pts(4). The peer comes by descriptor (TIOCGPTPEER), never by a path that somebody could
   * have replaced.
   *
   * @param size - of the terminal, default 80 by 24
   * @returns both ends
   * @throws KernelError `ENOSPC` where the system has no pty left, `ENOENT` without /dev/ptmx
   */
  static open(size: TerminalSize = { columns: 80, rows: 24 }): Pty {
    checkSize(size);
    const master = Fd.open('/dev/ptmx', { flags: O.RDWR | O.NOCTTY | O.NONBLOCK });
    try {
      syscall('ioctl', master, TTY.UNLOCK_PTY, Buffer.alloc(4));
      setSize(master, size);
      const peer = Fd.own(syscall('ioctl', master, TTY.OPEN_PEER, O.RDWR | O.NOCTTY | O.CLOEXEC));
      return new Pty(master, peer);
    } catch (error) {
      master.close();
      throw error;
    }
  }

  /**
   * Takes over a terminal by its master, see ptmx(4).
   *
   * @param master - owned from now on
   * @returns both ends
   * @throws KernelError where that is no master of a terminal
   */
  static own(master: Fd): Pty {
    try {
      syscall('fcntl', master, F.SETFL, O.RDWR | O.NONBLOCK);
      return new Pty(master, Fd.own(syscall('ioctl', master, TTY.OPEN_PEER, O.RDWR | O.NOCTTY | O.CLOEXEC)));
    } catch (error) {
      master.close();
      throw error;
    }
  }

  /**
   * Changes the size; the foreground process group gets SIGWINCH.
   *
   * @param size - in characters
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for sizes out of range
   */
  resize(size: TerminalSize): void {
    setSize(this.stream.master, size);
  }

  /**
   * Passes every byte as it is: no echo, no line editing, no signals by Ctrl-C, no changed line ends. That is what the terminal's
   * other end sees; for the terminal that a user sits at there is `process.stdin.setRawMode`.
   *
   * @param mode - whether; false puts back what there was
   */
  setRawMode(mode: boolean): void {
    const { master } = this.stream;
    if (mode) {
      const cooked = attributesOf(master);
      if (!cooked || this.#cooked) return;
      setAttributes(master, raw(cooked));
      this.#cooked = cooked;
    } else if (this.#cooked) {
      setAttributes(master, this.#cooked);
      this.#cooked = undefined;
    }
  }

  /** Closes both ends: the session on the terminal is hung up, its processes get SIGHUP. */
  close(): void {
    this.peer.close();
    this.stream.destroy();
  }

  /** The same as {@link Pty.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function checkSize({ columns, rows }: TerminalSize): void {
  for (const value of [columns, rows]) {
    if (!Number.isInteger(value) || value < 0 || value > 0xffff)
      throw invalid(`not a terminal size: ${columns} x ${rows}`);
  }
}

function setSize(master: Fd, size: TerminalSize): void {
  syscall('ioctl', master, TTY.SET_SIZE, sizeBytes(size));
}

/**
 * struct winsize.
 *
 * @param size - in characters
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for sizes out of range
 */
export function sizeBytes(size: TerminalSize): Buffer {
  checkSize(size);
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(size.rows, 0);
  bytes.writeUInt16LE(size.columns, 2);
  return bytes;
}

/**
 * The master end of a pseudo-terminal as a stream. Its end comes when the last process has closed the other end. Ending it
 * types the end-of-file character (Ctrl-D), where the terminal has one.
 */
export class PtyStream extends Duplex {
  /** The descriptor. */
  readonly master: Fd;
  #reader: FdWatcher | undefined;
  #writer: FdWatcher | undefined;
  #inLine = false;

  /** @internal */
  constructor(master: Fd) {
    super({ allowHalfOpen: true, readableHighWaterMark: 65536 });
    this.master = master;
  }

  /** @internal */
  override _read(): void {
    if (this.master.closed) return;
    this.#reader ??= new FdWatcher(this.master, 'readable', () => this.#fill());
  }

  #fill(): void {
    const chunk = Buffer.allocUnsafe(65536);
    const length = attempt('read', this.master, chunk, chunk.length);
    if (length === -11 || length === -4) return;
    // EIO: no process holds the other end any more.
    const more = this.push(length > 0 ? chunk.subarray(0, length) : null);
    if (!more) {
      this.#reader?.close();
      this.#reader = undefined;
    }
  }

  /** @internal */
  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    const length = this.master.closed ? -5 : attempt('write', this.master, chunk, chunk.length);
    if (length > 0) this.#inLine = chunk[length - 1] !== LINE_FEED && chunk[length - 1] !== RETURN;
    if (length === chunk.length) return done();
    if (length < 0 && length !== -11 && length !== -4) {
      // Nobody is there to read: what a terminal does with it too.
      return done();
    }
    const rest = length > 0 ? chunk.subarray(length) : chunk;
    this.#writer = new FdWatcher(this.master, 'writable', () => {
      this.#writer?.close();
      this.#writer = undefined;
      this._write(rest, 'buffer' as BufferEncoding, done);
    });
  }

  /** @internal */
  override _final(done: (error?: Error | null) => void): void {
    const attributes = this.master.closed ? undefined : attributesOf(this.master);
    const end = attributes && endOfInput(attributes);
    // Within a line the first one only hands the line over.
    if (end) this._write(Buffer.alloc(this.#inLine ? 2 : 1, end), 'buffer' as BufferEncoding, done);
    else done();
  }

  /** @internal */
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#reader?.close();
    this.#writer?.close();
    this.master.close();
    done(error);
  }
}

const LINE_FEED = 10;
const RETURN = 13;
