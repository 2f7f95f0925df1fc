import type { Fd, LaunchProgram } from '@iso/sys';
import { opening } from './opening.js';

/** Runs errands inside of a namespace. */
interface Place {
  errandAsync(build: (program: LaunchProgram) => void): Promise<void>;
}

/** A socket that somebody waits for. */
interface Asked {
  args: readonly [domain: number, type: number, protocol: number];
  made: (fd: Fd) => void;
  failed: (error: unknown) => void;
}

/** Sockets of one errand. */
const AT_ONCE = 32;

/**
 * Makes sockets inside of a namespace while the event loop goes on. One errand is under way at a time, and makes all that were asked for during
 * the one before it: whoever opens thousands of connections to a proxy does not have it start thousands of children.
 */
export class SocketQueue {
  readonly #place: Place;
  readonly #asked: Asked[] = [];
  #busy = false;

  /** @param place - the namespace */
  constructor(place: Place) {
    this.#place = place;
  }

  /**
   * Opens a socket.
   *
   * @param args - of socket(2)
   * @returns the owned descriptor
   * @throws KernelError with `step`
   */
  open(...args: Asked['args']): Promise<Fd> {
    return new Promise((made, failed) => {
      this.#asked.push({ args, made, failed });
      if (!this.#busy) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#busy = true;
    while (this.#asked.length) {
      const asked = this.#asked.splice(0, AT_ONCE);
      try {
        await this.#make(asked);
      } catch (error) {
        // Of several only one was refused.
        if (asked.length === 1) asked[0]?.failed(error);
        else for (const each of asked) await this.#make([each]).catch(each.failed);
      }
    }
    this.#busy = false;
  }

  async #make(asked: readonly Asked[]): Promise<void> {
    const made: (() => void)[] = [];
    await this.#place.errandAsync((program) => {
      for (const each of asked) opening(program, 'socket', each.args, (fd) => made.push(() => each.made(fd)));
    });
    for (const tell of made) tell();
  }
}
