import { readFileSync } from 'node:fs';

/** Pid and start time: a pid alone comes back. */
export function identity(pid: number): string {
  return `${pid}-${startTime(pid)}`;
}

function startTime(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] as string;
}

/** Whether a name has the identity of a process that is gone. */
export function ownerIsDead(name: string): boolean {
  const match = /@(\d+)-(\d+)$/.exec(name);
  if (!match) return false;
  try {
    return startTime(Number(match[1])) !== match[2];
  } catch {
    return true;
  }
}
