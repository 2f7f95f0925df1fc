import type { LaunchProgram, Part } from '@iso/sys';
import { type Action, isPermissive } from './action.js';
import { SeccompError } from './error.js';
import type { Filter } from './filter.js';
import type { InstallOptions } from './part.js';
import { Supervisor } from './supervisor.js';

/** Calls of one kind that a filter would not have let through. */
export interface DeniedCall {
  /** Its name; undefined for a number that the table lacks. */
  readonly call: string | undefined;
  readonly number: number;
  /** What the filter would have done. */
  readonly action: Action;
  /** How often it was made. */
  readonly count: number;
  /** The arguments of the first time. */
  readonly args: readonly bigint[];
}

/**
 * Runs a program that a filter does not confine, and tells what the filter would have denied it: to find out what a profile
 * lacks. **It protects from nothing**: every call is let through. A part of one launch.
 *
 * @example
 * ```ts
 * import { defaultProfile, Learner } from '@iso/seccomp';
 * import { run } from '@iso/process';
 * using learner = new Learner(defaultProfile.filter());
 * await run('unshare', ['--user', 'true'], { confine: [learner], check: false });
 * await learner.finished;
 * if (!learner.denied.some(({ call }) => call === 'unshare')) throw new Error('not seen');
 * ```
 */
export class Learner implements Part, Disposable {
  /** Settles when no process has the filter any more. */
  readonly finished: Promise<void>;
  readonly #supervisor: Supervisor;
  readonly #denied = new Map<string, { -readonly [K in keyof DeniedCall]: DeniedCall[K] }>();

  /**
   * @param filter - the filter to try
   * @param options - how it is installed
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a filter that denies nothing
   */
  constructor(filter: Filter, options: InstallOptions = {}) {
    this.#supervisor = new Supervisor(
      filter.map((action) => (isPermissive(action) ? 'allow' : 'notify')),
      options,
    );
    this.finished = this.#supervisor.answer((notification) => {
      const { call, number, args, foreign } = notification;
      const action = filter.evaluate(number >>> 0, args, { foreign });
      const key = `${foreign} ${number} ${JSON.stringify(action)}`;
      const seen = this.#denied.get(key);
      if (seen) seen.count++;
      else this.#denied.set(key, { call, number, action, count: 1, args });
      try {
        notification.continue();
      } catch (error) {
        if (!(error instanceof SeccompError)) throw error;
      }
    });
    this.finished.catch(() => {});
  }

  /**
   * Adds its steps to a launch.
   *
   * @param program - the launch in the making
   */
  confine(program: LaunchProgram): void {
    this.#supervisor.confine(program);
  }

  /** What would have been denied so far, in the order of the first time. */
  get denied(): readonly DeniedCall[] {
    return [...this.#denied.values()].map((entry) => ({ ...entry }));
  }

  /** Gives up: what would have been denied fails with ENOSYS from now on. */
  close(): void {
    this.#supervisor.close();
  }

  /** The same as {@link Learner.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
