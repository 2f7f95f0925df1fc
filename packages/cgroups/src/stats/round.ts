import { Batch, type BatchedCall } from '@iso/sys';
import type { StatFile } from './file.js';

/** Room for a text that grows. */
const SPARE = 256;

/** Files that are read together: the way to the kernel is gone once for all of them. */
export class Round {
  readonly #batch = new Batch();
  readonly #places: { file: StatFile; text: Buffer; call: BatchedCall }[] = [];
  #fits = true;

  /** @param files - those that are open */
  constructor(files: Iterable<StatFile>) {
    for (const file of files) {
      if (!file.fd) continue;
      const text = Buffer.alloc(2 * file.length + SPARE);
      const call = this.#batch.add('pread64', file.fd, text, text.length - 1, 0);
      this.#places.push({ file, text, call });
    }
  }

  /**
   * Reads them all, and gives each its text.
   *
   * @returns false where a text outgrew its place the last time: then nothing was read
   */
  read(): boolean {
    if (!this.#fits) return false;
    this.#batch.run();
    for (const { file, text, call } of this.#places) {
      const length = call.result;
      if (length >= text.length - 1) this.#fits = false;
      file.fill(text, length);
    }
    return true;
  }
}
