import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { PIN_DIRECTORY } from './pin.js';

/** A network namespace that has a process or a name. */
export interface ListedNetNS {
  /** Its inode. */
  id: number;
  /** Pids in it, as the caller sees them, ascending. */
  pids: number[];
  /** Its names of `ip netns`. */
  names: string[];
}

/**
 * The network namespaces of all processes that the caller may look at, and of all names of `ip netns`. One that only a
 * descriptor holds is in no list of the kernel's.
 *
 * @returns sorted by inode
 *
 * @example
 * ```ts
 * import { listNetNS } from '@iso/netns';
 * if (!listNetNS().some(({ pids }) => pids.includes(process.pid))) throw new Error('I am nowhere');
 * ```
 */
export function listNetNS(): ListedNetNS[] {
  const found = new Map<number, ListedNetNS>();
  const entry = (id: number) => {
    const known = found.get(id) ?? { id, pids: [], names: [] };
    found.set(id, known);
    return known;
  };
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  for (const pid of pids.map(Number).sort((a, b) => a - b)) {
    const id = tryTo(() => Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1]));
    if (id !== undefined) entry(id).pids.push(pid);
  }
  const device = statSync('/proc/self/ns/net').dev;
  for (const name of (tryTo(() => readdirSync(PIN_DIRECTORY)) ?? []).sort()) {
    const file = tryTo(() => statSync(`${PIN_DIRECTORY}/${name}`));
    // A name without its mount is an ordinary file.
    if (file?.dev === device) entry(file.ino).names.push(name);
  }
  return [...found.values()].sort((a, b) => a.id - b.id);
}

/** Undefined for what is gone meanwhile, or somebody else's. */
function tryTo<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
