import { Worker } from 'node:worker_threads';

/** Bytes of a slot. */
export const SLOT: number = 256 * 1024;
const SLOTS = 16;
/** Slots after which the other thread is woken: waking it for each takes longer than hashing one. */
const SLOTS_A_WAKE = 4;
/**
 * Indexes of the words that both threads see. `news` changes with whatever the other thread waits for. `filled`, `hashed` and `taken` count slots; `reads` is 1 more than the descriptor that the
 * other thread is to read from, `reading` whether it does so still, `failed` whether that ended it.
 */
const WORD = {
  news: 0,
  filled: 1,
  hashed: 2,
  asked: 3,
  reads: 4,
  reading: 5,
  taken: 6,
  failed: 7,
  lengths: 8,
} as const;

/** The other thread's program: nothing of this package, so that it starts at once. */
const PROGRAM = `
const { createHash } = require('node:crypto');
const { readSync } = require('node:fs');
const { parentPort, workerData: { ring, words, slot, slots, word } } = require('node:worker_threads');
const state = new Int32Array(words);
let next = 0;
let hash = createHash('sha256');
for (let answered = 0; ; ) {
  const news = Atomics.load(state, word.news);
  // Looked at before the slots: what is wanted is wanted of those that were filled before.
  const reads = Atomics.load(state, word.reads);
  const asked = Atomics.load(state, word.asked);
  if (Atomics.load(state, word.filled) !== next) hashSlot();
  // Before the next file: it is of what was given up.
  else if (asked !== answered) {
    answered++;
    parentPort.postMessage(hash.digest('hex'));
    hash = createHash('sha256');
  } else if (reads) read(reads - 1);
  else Atomics.wait(state, word.news, news, 1000);
}
function hashSlot() {
  const i = next++ % slots;
  hash.update(Buffer.from(ring, i * slot, state[word.lengths + i]));
  Atomics.add(state, word.hashed, 1);
  Atomics.notify(state, word.hashed);
}
function read(fd) {
  try {
    for (let length = slot; length > 0 && isFree(); hashSlot()) {
      const i = next % slots;
      length = state[word.lengths + i] = fill(fd, Buffer.from(ring, i * slot, slot));
      Atomics.add(state, word.filled, 1);
      Atomics.notify(state, word.filled);
    }
  } catch (error) {
    Atomics.store(state, word.failed, 1);
    Atomics.add(state, word.filled, 1);
    Atomics.notify(state, word.filled);
    throw error;
  } finally {
    Atomics.store(state, word.reads, 0);
    Atomics.store(state, word.reading, 0);
    Atomics.notify(state, word.reading);
  }
}
function isFree() {
  for (;;) {
    const taken = Atomics.load(state, word.taken);
    if (!Atomics.load(state, word.reads)) return false;
    if (next - taken < slots) return true;
    Atomics.wait(state, word.taken, taken, 1000);
  }
}
function fill(fd, bytes) {
  let have = 0;
  // A pipe gives less than is asked for.
  for (let length = 1; length > 0 && have < bytes.length; have += length) {
    length = readSync(fd, bytes, have, bytes.length - have, null);
  }
  return have;
}
`;

/** A ring of memory, and the thread that hashes from it once there is one: it serves one digest after the other. */
export class Ring {
  readonly memory: SharedArrayBuffer = new SharedArrayBuffer(SLOT * SLOTS);
  readonly bytes: Buffer = Buffer.from(this.memory);
  readonly #words = new SharedArrayBuffer(4 * (WORD.lengths + SLOTS));
  readonly #state = new Int32Array(this.#words);
  readonly #waiting: { resolve(hex: string): void; reject(error: Error): void }[] = [];
  #worker: Worker | undefined;
  #filled = 0;
  #error: Error | undefined;

  /** Whether the other thread has ended by an error. */
  get failed(): boolean {
    return Atomics.load(this.#state, WORD.failed) !== 0;
  }

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
    this.#tell(this.#filled % SLOTS_A_WAKE === 0);
  }

  /** Has the other thread read a file, from where it stands to its end, and hash that. Each slot is good until the next is asked for. */
  async *read(fd: number): AsyncGenerator<Buffer, void, undefined> {
    this.#worker ??= this.#start();
    const state = this.#state;
    Atomics.store(state, WORD.taken, this.#filled);
    Atomics.store(state, WORD.reading, 1);
    Atomics.store(state, WORD.reads, fd + 1);
    this.#tell(true);
    try {
      for (;;) {
        this.#wait(WORD.filled, this.#filled);
        if (this.failed) await this.#answer();
        const i = this.#filled++ % SLOTS;
        const length = state[WORD.lengths + i] as number;
        if (length === 0) return;
        yield this.bytes.subarray(i * SLOT, i * SLOT + length);
        Atomics.store(state, WORD.taken, this.#filled);
        if (this.#filled % SLOTS_A_WAKE === 0) Atomics.notify(state, WORD.taken);
      }
    } finally {
      // The descriptor may be closed next, and another one get its number.
      Atomics.store(state, WORD.reads, 0);
      Atomics.notify(state, WORD.taken);
      this.#wait(WORD.reading, 1);
      this.#filled = Atomics.load(state, WORD.filled);
    }
  }

  /** The digest of what was published since the last one. */
  async ask(): Promise<string> {
    const worker = this.#worker as Worker;
    Atomics.add(this.#state, WORD.asked, 1);
    this.#tell(true);
    worker.ref();
    try {
      return await this.#answer();
    } finally {
      worker.unref();
    }
  }

  #tell(wake: boolean): void {
    Atomics.add(this.#state, WORD.news, 1);
    if (wake) Atomics.notify(this.#state, WORD.news);
  }

  /** Returns once a word is another than it was. */
  #wait(word: number, was: number): void {
    while (Atomics.load(this.#state, word) === was) Atomics.wait(this.#state, word, was, 1000);
  }

  #answer(): Promise<string> {
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  #start(): Worker {
    const workerData = { ring: this.memory, words: this.#words, slot: SLOT, slots: SLOTS, word: WORD };
    const worker = new Worker(PROGRAM, { eval: true, workerData, execArgv: [] });
    worker.unref();
    worker.on('message', (hex: string) => this.#waiting.shift()?.resolve(hex));
    worker.on('error', (error) => {
      this.#error = error;
      // Who gave up waits too, before the one that it is for.
      for (const { reject } of this.#waiting.splice(0)) reject(error);
    });
    return worker;
  }
}
