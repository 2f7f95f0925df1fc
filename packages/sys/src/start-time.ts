import { readFileSync } from 'node:fs';

/**
 * When a process began, by which it is told from one that got its number later: the same at each reading, see proc_pid_stat(5). One whose
 * first thread has ended looks like a zombie, and runs as long as it has others.
 *
 * @param pid - its number, as this process sees it; `self`
 * @returns clock ticks since the machine's start; undefined where there is none, or nothing of it but its exit code
 *
 * @example
 * ```ts
 * import { startTime } from '@iso/sys';
 * if (startTime(process.pid) === undefined) throw new Error('this process does not run');
 * ```
 */
export function startTime(pid: number | 'self'): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The name between the parentheses may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const [state, threads] = [fields[0], Number(fields[17])];
  return state === 'X' || (state === 'Z' && threads <= 1) ? undefined : fields[19];
}
