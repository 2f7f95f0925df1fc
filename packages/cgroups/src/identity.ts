import { readFileSync, readlinkSync } from 'node:fs';

let identity: string | undefined;

/** This process's pid, start time and pid namespace: a pid alone comes back, and elsewhere is another's. */
export function ownIdentity(): string {
  // Read once: for its stat file the kernel adds up all threads.
  identity ??= `${process.pid}-${startTime(process.pid)}-${pidNamespace()}`;
  return identity;
}

function pidNamespace(): string {
  return /\d+/.exec(readlinkSync('/proc/self/ns/pid'))?.[0] as string;
}

function startTime(pid: number): string {
  return statOf(pid)[19] as string;
}

/** From the state on, see proc_pid_stat(5): a name may have spaces and parentheses. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** Whether a name has the identity of a process that is gone. Of another pid namespace's nobody here can tell. */
export function ownerIsDead(name: string): boolean {
  const match = /@(\d+)-(\d+)-(\d+)$/.exec(name);
  if (!match || match[3] !== pidNamespace()) return false;
  try {
    const stat = statOf(Number(match[1]));
    // A zombie does nothing more, however late its parent takes notice; one with threads is a process whose first has ended.
    return stat[19] !== match[2] || (stat[0] === 'Z' && Number(stat[17]) <= 1);
  } catch {
    return true;
  }
}
