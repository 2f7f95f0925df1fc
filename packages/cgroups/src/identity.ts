import { readlinkSync } from 'node:fs';
import { startTime } from '@iso/sys';

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

/** Whether a name has the identity of a process that is gone. Of another pid namespace's nobody here can tell. */
export function ownerIsDead(name: string): boolean {
  const match = /@(\d+)-(\d+)-(\d+)$/.exec(name);
  if (!match || match[3] !== pidNamespace()) return false;
  return startTime(Number(match[1])) !== match[2];
}
