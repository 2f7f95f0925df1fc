import { constants } from 'node:os';
import type { Exit } from '@iso/process';
import { KernelError } from '@iso/sys';

/** The first real-time signal that programs may use; libc keeps two. */
const SIGRTMIN = 34;

/**
 * The exit code that docker would give.
 *
 * @param exit - how the first process ended
 * @returns its code, or 128 and the signal's number
 */
export function exitCode({ code, signal }: Pick<Exit, 'code' | 'signal'>): number {
  if (code !== null) return code;
  const realtime = /^SIGRTMIN\+(-?\d+)$/.exec(String(signal))?.[1];
  return 128 + (realtime ? SIGRTMIN + Number(realtime) : (constants.signals[signal as NodeJS.Signals] ?? 0));
}

/**
 * The exit code for a container that did not start: 127 where the command is not there, 126 where it cannot be executed,
 * else 125.
 *
 * @param error - what `run` threw
 * @returns the code
 */
export function failureCode(error: unknown): number {
  if (!KernelError.is(error) || error.step?.phase !== 'exec') return 125;
  return error.code === 'ENOENT' || error.code === 'ENOTDIR' ? 127 : 126;
}
