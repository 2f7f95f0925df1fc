import { UsageError } from '../options.js';

/** Docker's `--restart`. */
export interface RestartPolicy {
  name: 'no' | 'always' | 'unless-stopped' | 'on-failure';
  /** How often at the most, for `on-failure`; 0: as often as it fails. */
  most: number;
}

/**
 * Parses it.
 *
 * @param text - `no`, `always`, `unless-stopped`, `on-failure[:N]`
 * @returns the policy
 * @throws {@link UsageError}
 */
export function parseRestart(text: string): RestartPolicy {
  const [, name, most] = /^(no|always|unless-stopped|on-failure)(?::(\d{1,9}))?$/.exec(text) ?? [];
  if (name === undefined || (most !== undefined && name !== 'on-failure'))
    throw new UsageError(
      `not a restart policy: ${JSON.stringify(text)}, there are no, always, unless-stopped and on-failure[:N]`,
    );
  return { name: name as RestartPolicy['name'], most: Number(most ?? 0) };
}

/** Docker's: what runs so long has started well. */
const WELL_MS = 10_000;
const FIRST_MS = 100;
const LONGEST_MS = 60_000;

/** Decides whether a container is started again, and when: as docker, at once at first, then half as often each time. */
export class Restarts {
  readonly #policy: RestartPolicy;
  #delay = 0;
  #count = 0;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /**
   * It has ended.
   *
   * @param exit - its code, how many milliseconds it ran, whether a command ended it
   * @returns milliseconds until it is to be started again; undefined where it is not
   */
  next(exit: { exitCode: number; ranMs: number; stopped: boolean }): number | undefined {
    const { name, most } = this.#policy;
    if (name === 'no' || exit.stopped) return undefined;
    if (name === 'on-failure' && (exit.exitCode === 0 || (most > 0 && this.#count >= most))) return undefined;
    this.#count += 1;
    this.#delay = this.#delay === 0 || exit.ranMs >= WELL_MS ? FIRST_MS : Math.min(this.#delay * 2, LONGEST_MS);
    return this.#delay;
  }
}
