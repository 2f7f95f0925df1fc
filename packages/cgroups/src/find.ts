import { readdirSync, readFileSync } from 'node:fs';
import { invalid } from '@iso/sys';
import { CgroupError, E } from './error.js';
import { ownerIsDead } from './identity.js';
import { detect, type Hierarchy, type Layout } from './layout.js';
import { Places } from './places.js';

/**
 * Opens the directories of a group that is there.
 *
 * @param layout - of the machine
 * @param pathOf - its path below each hierarchy's top
 * @param path - for the error
 * @throws CgroupError `removed` where no hierarchy has it
 */
export function openPlaces(
  layout: Layout,
  pathOf: (hierarchy: Hierarchy) => string | undefined,
  path: string,
): { name: string; places: Places } {
  const places = Places.open(layout, pathOf);
  if (places.directories.length === 0) {
    throw new CgroupError(E.NOENT, { syscall: 'open', path, reason: 'removed', hint: 'there is no such group' });
  }
  const name = places.directories.map((directory) => places.nameOf(directory)).find((one) => one !== '');
  return { name: name ?? '', places };
}

/**
 * Opens the directories of the group that a process is in.
 *
 * @throws CgroupError `noSuchProcess`
 */
export function placesOf(pid: number | 'self', layout: Layout): { name: string; places: Places } {
  if (pid !== 'self' && (!Number.isSafeInteger(pid) || pid < 1))
    throw invalid(`not the id of a process: ${String(pid)}`);
  const path = `${layout.root === '/' ? '' : layout.root}/proc/${pid}/cgroup`;
  let cgroup: string;
  try {
    cgroup = readFileSync(path, 'latin1');
  } catch (error) {
    throw new CgroupError(E.SRCH, { syscall: 'open', path, reason: 'noSuchProcess', cause: error });
  }
  const own = detect({ root: layout.root, cgroup }).hierarchies;
  return openPlaces(layout, ({ mount }) => own.find((one) => one.mount === mount)?.own, path);
}

/** Names of the groups below a parent whose owner is dead. */
export function namesOfTheDead(parent: string, { hierarchies }: Layout): string[] {
  const names = hierarchies.flatMap(({ mount }) => groupsIn(`${mount}/${parent}`));
  return [...new Set(names)].filter(ownerIsDead);
}

function groupsIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}

/** Mounts of hierarchies hardly ever change, and reading their table costs as much as making a directory. */
let seen: { layout: Layout; atMs: number } | undefined;

/** {@link detect}, of the last second. */
export function recent(): Layout {
  const now = performance.now();
  if (!seen || now - seen.atMs > 1000) seen = { layout: detect(), atMs: now };
  return seen.layout;
}
