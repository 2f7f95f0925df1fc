import { closeSync, fstatSync, ftruncateSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

/** How large a file may become, and how many of them are kept. */
export interface Rotation {
  /** From so many bytes on the next line goes to a new file; default none. */
  maxBytes?: number;
  /** The one that is written among them: `FILE.1` is the one before, and so on. */
  files?: number;
}

const LINE_FEED = 10;

/** A file that lines are added to. One that is full becomes `FILE.1`, the oldest goes. One process at a time writes it. */
export class RotatedFile implements Disposable {
  readonly #path: string;
  readonly #maxBytes: number;
  readonly #files: number;
  #fd = -1;
  #size = 0;

  private constructor(path: string, { maxBytes = Number.POSITIVE_INFINITY, files = 1 }: Rotation) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    this.#files = files;
    this.#open();
  }

  /**
   * Opens it, and makes it where it is not there.
   *
   * @param path - of the file
   * @param rotation - default: it grows
   * @returns the file, to be closed
   */
  static open(path: string, rotation: Rotation = {}): RotatedFile {
    return new RotatedFile(path, rotation);
  }

  /**
   * Adds whole lines.
   *
   * @throws what writing does: no part of a line stays then, and the next time may be better
   */
  append(lines: string): void {
    const bytes = Buffer.from(lines);
    for (let at = 0; at < bytes.length; ) {
      if (this.#fd < 0) this.#open();
      if (this.#size >= this.#maxBytes) this.#rotate();
      // As many as fit; the one that fills it is its last.
      const full = at + this.#maxBytes - this.#size - 1;
      const end = full >= bytes.length ? bytes.length : bytes.indexOf(LINE_FEED, full) + 1;
      this.#write(bytes.subarray(at, end));
      at = end;
    }
  }

  #open(): void {
    this.#fd = openSync(this.#path, 'a', 0o600);
    this.#size = fstatSync(this.#fd).size;
  }

  #write(bytes: Buffer): void {
    try {
      for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at);
    } catch (error) {
      // Half a line would spoil the next one, too.
      ftruncateSync(this.#fd, this.#size);
      throw error;
    }
    this.#size += bytes.length;
  }

  #rotate(): void {
    closeSync(this.#fd);
    this.#fd = -1;
    // Also where only one is kept: who reads the old one knows by its absence under this name that there is a new one.
    for (let i = this.#files - 1; i > 0; i--) {
      const from = i === 1 ? this.#path : `${this.#path}.${i - 1}`;
      try {
        renameSync(from, `${this.#path}.${i}`);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    if (this.#files === 1) rmSync(this.#path, { force: true });
    this.#open();
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }
}
