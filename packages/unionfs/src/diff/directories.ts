import { Fd } from '@iso/sys';
import { procPath } from '../file/call.js';

/** Directories that are open for as long as something is looked at in them. */
export class Directories implements Disposable {
  readonly #opened: Fd[] = [];

  /**
   * Opens one.
   *
   * @param from - path; or a descriptor, of which it is another: reading a directory moves its position
   * @returns its number, good until this is disposed
   */
  readonly open = (from: string | Fd): number => {
    const fd = Fd.open(typeof from === 'string' ? from : procPath(from.number), { directory: true });
    this.#opened.push(fd);
    return fd.number;
  };

  /** Closes all. */
  [Symbol.dispose](): void {
    for (const fd of this.#opened.splice(0)) fd.close();
  }
}
