import { KernelError } from '@iso/sys';
import { UsageError } from './options.js';

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  ENOTDIR: 'is no directory',
  EACCES: 'cannot be entered',
};

/**
 * What is wrong with a working directory, in place of the step of a launch that says so.
 *
 * @param error - of a launch
 * @param cwd - directory inside
 * @returns the error to throw; undefined where something else is wrong
 */
export function noDirectory(error: unknown, cwd: string): UsageError | undefined {
  const reason = KernelError.is(error) && error.step?.phase === 'cwd' ? reasons[error.code] : undefined;
  return reason === undefined
    ? undefined
    : new UsageError(`the working directory ${cwd} ${reason} in the container`, { cause: error });
}
