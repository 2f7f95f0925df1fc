import { readdirSync, readFileSync } from 'node:fs';
import { follow, pids } from './members.js';
import { Namespace } from './namespace.js';
import type { NamespaceSource } from './source.js';

/**
 * The processes of a pid namespace that may write to this process's memory while it starts another there: until its exec that is a child
 * which shares the memory, and CAP_SYS_PTRACE in this process's user namespace is enough to open it. Whoever holds one of them back asks
 * this before a launch that joins. Where one has CAP_SYS_ADMIN too, it holds back nobody, and there are none to be told.
 *
 * @param source - the pid namespace: of a process, a path, or a descriptor
 * @returns their pids as the caller sees them, ascending; none for the caller's own pid namespace
 * @throws KernelError `ENOENT`, `ESRCH`, `EACCES` where it cannot be opened
 *
 * @example
 * ```ts
 * import { tracers } from '@iso/namespaces';
 * if (tracers({ pid: process.pid }).length) throw new Error('my own are not asked about');
 * ```
 */
export function tracers(source: NamespaceSource): number[] {
  using namespace = Namespace.open(source, 'pid');
  using own = Namespace.self('pid');
  if (namespace.equals(own)) return [];
  const user = follow('/proc/self/ns/user')?.id;
  const found: number[] = [];
  for (const pid of pids()) {
    const tasks = tasksIn(pid, namespace.id).filter((task) => follow(`${task}/ns/user`)?.id === user);
    const all = tasks.map(capabilitiesOf);
    // Who may trace may have what any of them has.
    if (all.some((set) => set & SYS_ADMIN)) return [];
    if (all.some((set) => set & SYS_PTRACE)) found.push(pid);
  }
  return found;
}

/** Its threads, each of which has capabilities of its own. Of a first one that has ended nobody can tell where it was. */
function tasksIn(pid: number, id: number): string[] {
  const first = follow(`/proc/${pid}/ns/pid`);
  if (first && first.id !== id) return [];
  try {
    const tasks = readdirSync(`/proc/${pid}/task`).map((task) => `/proc/${pid}/task/${task}`);
    return tasks.filter((task) => follow(`${task}/ns/pid`)?.id === id);
  } catch {
    return [];
  }
}

/** All that it has, or can get by programs: what is dropped from the bounding set may be permitted still. */
function capabilitiesOf(task: string): bigint {
  try {
    const status = readFileSync(`${task}/status`, 'latin1');
    return [...status.matchAll(/^Cap(?:Inh|Prm|Bnd):\s*(\w+)$/gm)].reduce(
      (all, [, set]) => all | BigInt(`0x${set}`),
      0n,
    );
  } catch {
    return 0n;
  }
}

const SYS_PTRACE = 1n << 19n;
const SYS_ADMIN = 1n << 21n;
