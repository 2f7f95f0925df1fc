import { type Exit, signalNumber } from '@iso/process';
import { KernelError } from '@iso/sys';

/**
 * The exit code that docker would give.
 *
 * @param exit - how the first process ended
 * @returns its code, or 128 and the signal's number
 */
export function exitCode({ code, signal }: Pick<Exit, 'code' | 'signal'>): number {
  return code ?? 128 + (signal ? signalNumber(signal) : 0);
}

/** A container that did not start in another process. */
export class StartError extends Error {
  override name = 'StartError';
  /** What the command exits with. */
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * The exit code for a container that did not start: 127 where the command is not there, 126 where it cannot be executed,
 * else 125.
 *
 * @param error - what `run` threw
 * @returns the code
 */
export function failureCode(error: unknown): number {
  if (error instanceof StartError) return error.exitCode;
  // Behind a gate a program is looked for beforehand.
  if (!KernelError.is(error) || (error.step?.phase !== 'exec' && error.syscall !== 'faccessat')) return 125;
  return error.code === 'ENOENT' || error.code === 'ENOTDIR' ? 127 : 126;
}
