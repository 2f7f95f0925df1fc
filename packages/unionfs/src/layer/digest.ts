import { createHash } from 'node:crypto';
import { isMainThread } from 'node:worker_threads';
import { Ring, SLOT } from './ring.js';

/** The ring that no digest uses just now: its thread is kept, and ends with this one. */
let spare: Ring | undefined;

/**
 * SHA-256 of much, beside what else is done with it: a second thread hashes from a ring of memory that both see. What fits into one slot
 * is hashed here, for asking the other thread takes longer.
 */
export class Digest implements Disposable {
  readonly #ring: Ring;
  /** The main thread does it itself: a thread beside it would end with the program only. */
  readonly #here = isMainThread ? createHash('sha256') : undefined;
  /** Bytes in the slot at hand. */
  #have = 0;
  #passed = false;
  #answer: Promise<string> | undefined;

  constructor() {
    this.#ring = spare ?? new Ring();
    spare = undefined;
  }

  /**
   * Takes the next bytes.
   *
   * @param bytes - copied
   */
  update(bytes: Uint8Array): void {
    if (this.#here) return void this.#here.update(bytes);
    for (let at = 0; at < bytes.length; ) {
      if (this.#have === SLOT) this.#pass();
      const length = Math.min(SLOT - this.#have, bytes.length - at);
      this.#ring.bytes.set(bytes.subarray(at, at + length), this.#ring.place + this.#have);
      this.#have += length;
      at += length;
    }
  }

  /**
   * Takes the rest of a file, which the other thread reads: it has the bytes at hand then, and this one has less to do.
   *
   * @param fd - open for reading; it is read from where it stands
   * @returns its bytes; each is good until the next one is asked for
   */
  async *read(fd: number): AsyncGenerator<Buffer, void, undefined> {
    if (this.#have) this.#pass();
    this.#passed = true;
    yield* this.#ring.read(fd);
  }

  /** Whether bytes are what {@link Digest.read} gave: they are taken already. */
  holds(bytes: Uint8Array): boolean {
    return bytes.buffer === this.#ring.memory;
  }

  /** @returns `sha256:…` of all */
  async digest(): Promise<string> {
    if (this.#here) return `sha256:${this.#here.digest('hex')}`;
    if (!this.#passed) {
      const place = this.#ring.place;
      const all = this.#ring.bytes.subarray(place, place + this.#have);
      return `sha256:${createHash('sha256').update(all).digest('hex')}`;
    }
    this.#pass();
    this.#answer = this.#ring.ask();
    return `sha256:${await this.#answer}`;
  }

  /** Leaves the ring to the next one. */
  [Symbol.dispose](): void {
    // What was given up is asked for all the same: the other thread begins anew behind it.
    if (this.#passed && !this.#answer) this.#ring.ask().catch(() => {});
    if (!this.#ring.failed) spare ??= this.#ring;
  }

  #pass(): void {
    this.#ring.publish(this.#have);
    this.#passed = true;
    this.#have = 0;
  }
}
