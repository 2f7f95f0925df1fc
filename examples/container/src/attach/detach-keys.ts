import { UsageError } from '../options.js';

/** Docker's. */
const DEFAULT = 'ctrl-p,ctrl-q';

/**
 * Parses docker's `--detach-keys`.
 *
 * @param text - keys with commas between: a character, or `ctrl-` and a letter or one of `@[\]^_`; empty for none
 * @returns the bytes that they send
 * @throws {@link UsageError}
 */
export function parseDetachKeys(text: string = DEFAULT): Buffer {
  if (text === '') return Buffer.alloc(0);
  return Buffer.from(
    text.split(',').map((key) => {
      if (key.length === 1) return key.charCodeAt(0);
      const letter = /^ctrl-([a-zA-Z@[\\\]^_])$/.exec(key)?.[1];
      if (letter === undefined)
        throw new UsageError(`not keys to detach: ${JSON.stringify(text)}, they are such as ctrl-p,ctrl-q`);
      return letter.toUpperCase().charCodeAt(0) & 0x1f;
    }),
  );
}

/** Finds the keys among what is typed. */
export class DetachKeys {
  readonly #keys: Buffer;
  #matched = 0;

  /** @param keys - the bytes that they send; none are never found */
  constructor(keys: Buffer) {
    this.#keys = keys;
  }

  /**
   * What was typed.
   *
   * @returns what of it is for the container; the beginning of the keys waits for what follows. And whether all were typed
   */
  take(typed: Buffer): { rest: Buffer; detach: boolean } {
    const rest: number[] = [];
    for (const byte of typed) {
      if (this.#keys.length > 0 && byte === this.#keys[this.#matched]) {
        this.#matched += 1;
        if (this.#matched === this.#keys.length) return { rest: Buffer.from(rest), detach: true };
        continue;
      }
      rest.push(...this.#keys.subarray(0, this.#matched));
      this.#matched = this.#keys.length > 0 && byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) rest.push(byte);
    }
    return { rest: Buffer.from(rest), detach: false };
  }
}
