import { createHash } from 'node:crypto';
import { isMainThread, Worker } from 'node:worker_threads';

const SLOT = 256 * 1024;
const SLOTS = 16;
/** Slots after which the other thread is woken: waking it for each takes longer than hashing one. */
const SLOTS_A_WAKE = 4;
/** Indexes of the words that both threads see. */
const WORD = { filled: 0, hashed: 1, asked: 2, lengths: 3 } as const;

/** The other thread's program: nothing of this package, so that it starts at once. */
const PROGRAM = `
const { createHash } = require('node:crypto');
const { parentPort, workerData: { ring, words, slot, slots, word } } = require('node:worker_threads');
const state = new Int32Array(words);
for (let next = 0, hash = createHash('sha256'), answered = 0; ; ) {
  const filled = Atomics.load(state, word.filled);
  if (filled !== next) {
    const i = next++ % slots;
    hash.update(Buffer.from(ring, i * slot, state[word.lengths + i]));
    Atomics.add(state, word.hashed, 1);
    Atomics.notify(state, word.hashed);
  } else if (Atomics.load(state, word.asked) !== answered) {
    if (Atomics.load(state, word.filled) !== next) continue;
    answered++;
    parentPort.postMessage(hash.digest('hex'));
    hash = createHash('sha256');
  } else Atomics.wait(state, word.filled, filled, 1000);
}
`;

/** A ring of memory, and the thread that hashes from it once there is one: it serves one digest after the other. */
class Ring {
  readonly memory = new SharedArrayBuffer(SLOT * SLOTS);
  readonly bytes: Buffer = Buffer.from(this.memory);
  readonly #words = new SharedArrayBuffer(4 * (WORD.lengths + SLOTS));
  readonly #state = new Int32Array(this.#words);
  readonly #waiting: { resolve(hex: string): void; reject(error: Error): void }[] = [];
  #worker: Worker | undefined;
  #filled = 0;

  /** Where the next bytes go: its slot's place in {@link Ring.bytes}, which the other thread has done with. */
  get place(): number {
    for (;;) {
      const hashed = Atomics.load(this.#state, WORD.hashed);
      if (this.#filled - hashed < SLOTS) return (this.#filled % SLOTS) * SLOT;
      Atomics.wait(this.#state, WORD.hashed, hashed, 1000);
    }
  }

  /** Gives the slot at hand to the other thread. */
  publish(length: number): void {
    this.#worker ??= this.#start();
    this.#state[WORD.lengths + (this.#filled % SLOTS)] = length;
    Atomics.store(this.#state, WORD.filled, ++this.#filled);
    if (this.#filled % SLOTS_A_WAKE === 0) Atomics.notify(this.#state, WORD.filled);
  }

  /** The digest of what was published since the last one. */
  async ask(): Promise<string> {
    const worker = this.#worker as Worker;
    const answer = new Promise<string>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    worker.ref();
    Atomics.add(this.#state, WORD.asked, 1);
    // Its word to wait at is the other one.
    Atomics.notify(this.#state, WORD.filled);
    try {
      return await answer;
    } finally {
      worker.unref();
    }
  }

  #start(): Worker {
    const workerData = { ring: this.memory, words: this.#words, slot: SLOT, slots: SLOTS, word: WORD };
    const worker = new Worker(PROGRAM, { eval: true, workerData, execArgv: [] });
    worker.unref();
    worker.on('message', (hex: string) => this.#waiting.shift()?.resolve(hex));
    worker.on('error', (error) => this.#waiting.shift()?.reject(error));
    return worker;
  }
}

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
   * Memory for the next bytes, so that they need not be copied: who has filled it says so by {@link Digest.filled}. What was filled
   * may be read until the next one is asked for.
   *
   * @returns where they go
   */
  slot(): Buffer {
    if (this.#have) this.#pass();
    const { place } = this.#ring;
    return this.#ring.bytes.subarray(place, place + SLOT);
  }

  /** Takes bytes that lie in the last {@link Digest.slot}. */
  filled(length: number): void {
    if (this.#here) this.#here.update(this.#ring.bytes.subarray(this.#ring.place, this.#ring.place + length));
    else {
      this.#have = length;
      this.#pass();
    }
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
    spare ??= this.#ring;
  }

  #pass(): void {
    this.#ring.publish(this.#have);
    this.#passed = true;
    this.#have = 0;
  }
}
