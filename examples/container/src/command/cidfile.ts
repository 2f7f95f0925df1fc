import { closeSync, openSync, rmSync, writeSync } from 'node:fs';
import { UsageError } from '../options.js';

/** Docker's `--cidfile`: a new file that gets the id of a container; gone again where there is none. */
export class CidFile implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  #written = false;

  /**
   * @param path - of the file
   * @throws {@link UsageError} where it is there already
   */
  constructor(path: string) {
    this.#path = path;
    try {
      this.#fd = openSync(path, 'wx', 0o644);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      throw new UsageError(`the file ${path} is there already: its container may run, or it is to be removed`);
    }
  }

  /** Writes the id. */
  write(id: string): void {
    writeSync(this.#fd, id);
    this.#written = true;
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    closeSync(this.#fd);
    if (!this.#written) rmSync(this.#path, { force: true });
  }
}
