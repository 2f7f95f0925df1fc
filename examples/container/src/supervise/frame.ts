import type { Socket } from 'node:net';

/** What passes between a supervisor and those who are attached: the kind, the length, the bytes. */
export const FRAME = {
  // To the supervisor.
  /** Input of the container; of whoever gives it, an empty one comes first. */
  input: 1,
  /** It has ended. */
  endOfInput: 2,
  /** JSON of a terminal's size. */
  resize: 3,
  /** A signal's name. */
  signal: 4,
  /** It is not to be started again. */
  giveUp: 5,
  // To those who are attached.
  stdout: 16,
  stderr: 17,
  /** JSON of a {@link Started}. */
  started: 18,
  /** JSON of a {@link Failed}. */
  failed: 19,
  /** JSON of an {@link Ended}. */
  ended: 20,
} as const;

/** It runs. */
export interface Started {
  pid: number;
}

/** It could not be started. */
export interface Failed {
  message: string;
  /** 125, 126, 127. */
  exitCode: number;
}

/** It has ended, and is not started again. */
export interface Ended {
  exitCode: number;
}

const HEAD = 5;
/** Longer ones are nobody's that speaks this. */
const LONGEST = 1 << 20;

/**
 * Sends a frame.
 *
 * @param socket - to whom
 * @param kind - of {@link FRAME}
 * @param payload - its bytes
 * @returns false where the other side does not keep up
 */
export function send(socket: Socket, kind: number, payload: Uint8Array | string = ''): boolean {
  if (socket.destroyed || !socket.writable) return true;
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const head = Buffer.alloc(HEAD);
  head.writeUInt8(kind, 0);
  head.writeUInt32LE(bytes.length, 1);
  socket.cork();
  socket.write(head);
  const keepsUp = socket.write(bytes);
  socket.uncork();
  return keepsUp;
}

/** Bytes to frames. */
export class FrameReader {
  readonly #take: (kind: number, payload: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  /** @param take - told of each frame */
  constructor(take: (kind: number, payload: Buffer) => void) {
    this.#take = take;
  }

  /**
   * Bytes as they come.
   *
   * @throws RangeError for what is no frame
   */
  push(chunk: Buffer): void {
    let bytes = this.#rest.length ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (bytes.length >= HEAD) {
      const length = bytes.readUInt32LE(1);
      if (length > LONGEST) throw new RangeError(`a frame of ${length} bytes`);
      if (bytes.length < HEAD + length) break;
      const kind = bytes.readUInt8(0);
      const payload = bytes.subarray(HEAD, HEAD + length);
      bytes = bytes.subarray(HEAD + length);
      this.#take(kind, payload);
    }
    this.#rest = bytes;
  }
}
