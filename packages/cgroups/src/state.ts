import { Batch, type BatchedCall, type Fd, FdWatcher, O } from '@iso/sys';
import type { CgroupDirectory } from './raw/directory.js';

/** What `cgroup.events` of v2 says of a group. */
export interface State {
  readonly populated: boolean;
  readonly frozen: boolean;
}

const ONE = '1'.charCodeAt(0);

/**
 * `cgroup.events` of a group, to be read and watched by one descriptor. Who waits is told at once: it is read with one call, and only
 * the digits are looked at, which stay where they are.
 */
export class StateFile {
  readonly #directory: CgroupDirectory;
  readonly #fd: Fd;
  readonly #text = Buffer.alloc(256);
  readonly #batch = new Batch();
  readonly #call: BatchedCall;
  readonly #at: Record<keyof State, number>;
  #watcher: FdWatcher | undefined;

  /**
   * @param directory - of a group on v2, not the root
   * @throws CgroupError where it cannot be opened or read
   */
  constructor(directory: CgroupDirectory) {
    this.#directory = directory;
    this.#fd = directory.openFd('cgroup.events', O.RDONLY);
    this.#call = this.#batch.add('pread64', this.#fd, this.#text, this.#text.length, 0);
    try {
      const text = this.#text.toString('latin1', 0, this.#fill());
      // Before Linux 5.2 there is no `frozen`.
      const at = (key: keyof State) => (text.includes(`${key} `) ? text.indexOf(`${key} `) + key.length + 1 : -1);
      this.#at = { populated: at('populated'), frozen: at('frozen') };
    } catch (error) {
      this.#fd.close();
      throw error;
    }
  }

  /**
   * The state now.
   *
   * @throws CgroupError `removed`
   */
  read(): State {
    this.#fill();
    return { populated: this.#text[this.#at.populated] === ONE, frozen: this.#text[this.#at.frozen] === ONE };
  }

  /**
   * Calls back when it changes.
   *
   * @param changed - called on the event loop, again until it was read
   */
  watch(changed: () => void): void {
    this.#watcher = new FdWatcher(this.#fd, 'priority', changed);
  }

  /** Stops watching; again does nothing. */
  close(): void {
    this.#watcher?.close();
    this.#fd.close();
  }

  #fill(): number {
    this.#batch.run();
    const length = this.#call.result;
    if (length < 0) throw this.#directory.failure(length, 'read', 'cgroup.events');
    return length;
  }
}

/**
 * A counter of `cgroup.events`, read once.
 *
 * @returns undefined on v1, at the root, and where the group is gone
 */
export function counter(directory: CgroupDirectory, key: keyof State): number | undefined {
  const value = new RegExp(`^${key} (\\d)`, 'm').exec(directory.read('cgroup.events') ?? '')?.[1];
  return value === undefined ? undefined : Number(value);
}
