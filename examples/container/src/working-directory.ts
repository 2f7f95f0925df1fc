import { KernelError } from '@iso/sys';
import { UsageError } from './options.js';

const reasons: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  ENOTDIR: 'is no directory',
  EACCES: 'cannot be entered',
};

/** A directory that nothing can be started in; the kernel's own words are its `cause`. */
class WorkingDirectoryError extends UsageError {
  /** Of the launch. */
  readonly step: KernelError['step'];

  constructor(message: string, cause: KernelError) {
    super(message, { cause });
    this.step = cause.step;
  }
}

/**
 * What is wrong with a working directory, in place of the system call that says so.
 *
 * @param error - of a launch
 * @param cwd - directory inside
 * @returns the error to throw; undefined where something else is wrong
 */
export function noDirectory(error: unknown, cwd: string): UsageError | undefined {
  // Behind a gate the program is looked for there too.
  if (!KernelError.is(error) || error.step?.phase !== 'cwd' || error.syscall === 'faccessat') return undefined;
  const reason = reasons[error.code];
  return reason === undefined
    ? undefined
    : new WorkingDirectoryError(`the working directory ${cwd} ${reason} in the container`, error);
}
