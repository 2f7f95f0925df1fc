import { readFileSync, readlinkSync } from 'node:fs';

/** Pid, start time and pid namespace: a pid alone comes back, and elsewhere is another's. */
export function identity(pid: number): string {
  return `${pid}-${startTime(pid)}-${pidNamespace()}`;
}

function pidNamespace(): string {
  return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] as string;
}

function startTime(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] as string;
}

/** Whether a name has the identity of a process that is gone. Of another pid namespace's nobody here can tell. */
export function ownerIsDead(name: string): boolean {
  const match = /@(\d+)-(\d+)-(\d+)$/.exec(name);
  if (!match || match[3] !== pidNamespace()) return false;
  try {
    return startTime(Number(match[1])) !== match[2];
  } catch {
    return true;
  }
}
