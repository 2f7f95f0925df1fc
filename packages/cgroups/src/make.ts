import { UnsupportedError } from '@iso/sys';
import { type Controller, inherent, threadedControllers } from './controller.js';
import { CgroupError, E } from './error.js';
import { type Hierarchy, hierarchyOf, type Layout } from './layout.js';
import { belowTop, Places, topOf } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';

/** Joined where nothing else is asked for: what limits and statistics are mostly about. */
const usual: readonly Controller[] = ['cpu', 'cpuacct', 'memory', 'pids', 'io', 'freezer'];

/** What a group's directories are made for. */
export interface Wanted {
  /** Controllers that must be there. */
  needed: readonly Controller[];
  /** Controllers that are welcome. */
  welcome: readonly Controller[];
  /** The group takes threads of a process that is above it. v2. */
  threaded?: boolean;
}

/**
 * Controllers for a new group.
 *
 * @param controllers - those asked for; undefined: the usual ones
 * @param limited - those that limits are for
 */
export function wanted(controllers: readonly Controller[] | undefined, limited: readonly string[]): Wanted {
  const needed = [...(controllers ?? []), ...(limited.filter((name) => name !== 'cgroup') as Controller[])];
  return { needed, welcome: controllers ? [] : usual };
}

/**
 * Makes a group's directories, those above too, and enables controllers from the top of v2 down.
 *
 * @param layout - of the machine
 * @param parentOf - the parent's path below each hierarchy's top; undefined where it has none
 * @param name - of the group; there must be none of that name
 * @param what - controllers
 */
export function makePlaces(
  layout: Layout,
  parentOf: (hierarchy: Hierarchy) => string | undefined,
  name: string,
  what: Wanted,
): Places {
  const made = new Map<Hierarchy, CgroupDirectory>();
  try {
    for (const hierarchy of hierarchiesFor(layout, what)) {
      const parent = parentOf(hierarchy);
      if (parent !== undefined) made.set(hierarchy, makeIn(hierarchy, layout, parent, name, what));
    }
  } catch (error) {
    const places = new Places(layout, made);
    for (const directory of places.directories) directory.remove();
    places[Symbol.dispose]();
    throw error;
  }
  return new Places(layout, made);
}

function hierarchiesFor(layout: Layout, what: Wanted): Hierarchy[] {
  const found = new Set<Hierarchy>();
  for (const controller of what.needed) {
    const hierarchy = hierarchyOf(layout, controller);
    if (!hierarchy) throw new UnsupportedError(controller, 'no hierarchy that is mounted here has this controller');
    found.add(hierarchy);
  }
  for (const controller of what.welcome) {
    const hierarchy = hierarchyOf(layout, controller);
    if (hierarchy) found.add(hierarchy);
  }
  // Always joined is what kills and freezes: v2, which also says when a group is empty, or else v1's freezer.
  const freezer = hierarchyOf(layout, 'freezer');
  if (freezer) found.add(freezer);
  return layout.hierarchies.filter((hierarchy) => found.has(hierarchy));
}

function makeIn(hierarchy: Hierarchy, layout: Layout, parent: string, name: string, what: Wanted): CgroupDirectory {
  const cpuset = hierarchy.version === 1 && hierarchy.controllers.includes('cpuset');
  const there = hierarchy.version === 1 && !cpuset ? belowTop(hierarchy, layout, parent) : undefined;
  let at = there ?? topOf(hierarchy, layout);
  const to = (child: CgroupDirectory) => {
    at[Symbol.dispose]();
    at = child;
  };
  const down = (next: string, fresh: boolean) => {
    const child = at.make(next, fresh);
    try {
      if (cpuset) inheritCpuset(at, child);
    } catch (error) {
      if (fresh) child.remove();
      child[Symbol.dispose]();
      throw error;
    }
    to(child);
  };
  try {
    if (!there) {
      for (const next of parent.split('/').filter((word) => word !== '')) {
        if (hierarchy.version === 2) enable(at, hierarchy, { ...what, threaded: false });
        down(next, false);
      }
    }
    if (hierarchy.version === 2 && !what.threaded) enable(at, hierarchy, what);
    if (hierarchy.version === 2 && what.threaded) return makeThreaded(at, hierarchy, name, what);
    down(name, true);
    return at;
  } catch (error) {
    at[Symbol.dispose]();
    throw error;
  }
}

/** The child becomes threaded first: then its parent may keep its processes beside it. */
function makeThreaded(parent: CgroupDirectory, hierarchy: Hierarchy, name: string, what: Wanted): CgroupDirectory {
  const refused = what.needed.find((one) => !threadedControllers.includes(one) && hierarchy.controllers.includes(one));
  if (refused) throw new UnsupportedError(refused, 'threaded groups have only the controllers cpu, cpuset and pids');
  const child = parent.make(name, true);
  try {
    child.write('cgroup.type', 'threaded');
    enable(parent, hierarchy, what);
  } catch (error) {
    child.remove();
    child[Symbol.dispose]();
    throw error;
  }
  parent[Symbol.dispose]();
  return child;
}

/** Writes what is missing into `cgroup.subtree_control`. */
function enable(directory: CgroupDirectory, hierarchy: Hierarchy, { needed, welcome, threaded }: Wanted): void {
  const here = (list: readonly Controller[]) =>
    list.filter((one) => hierarchy.controllers.includes(one) && !inherent.includes(one));
  if (here([...needed, ...welcome]).length === 0) return;
  const enabled = (directory.read('cgroup.subtree_control') ?? '').split(' ');
  const missing = (list: readonly Controller[]) => here(list).filter((one) => !enabled.includes(one));
  const [must, may] = [missing(needed), missing(welcome)];
  if (must.length === 0 && may.length === 0) return;
  // With processes inside, the kernel would turn it into the root of threaded groups without a word. The root is exempt.
  const populated = !threaded && directory.has('cgroup.type') && directory.read('cgroup.procs') !== '';
  if (populated) {
    if (must.length === 0) return;
    throw new CgroupError(E.BUSY, {
      syscall: 'write',
      path: `${directory.path}/cgroup.subtree_control`,
      reason: 'internalProcess',
      at: directory.path,
      value: must.map((one) => `+${one}`).join(' '),
      hint: 'it has processes of its own: move them to a leaf below it first',
    });
  }
  for (const controller of new Set(must)) directory.write('cgroup.subtree_control', `+${controller}`);
  for (const controller of new Set(may)) {
    if (must.includes(controller) || (threaded && !threadedControllers.includes(controller))) continue;
    try {
      directory.write('cgroup.subtree_control', `+${controller}`);
    } catch (error) {
      // Not delegated to us: the group does without.
      if (!(error instanceof CgroupError)) throw error;
    }
  }
}

/** v1 takes nobody into a group without processors and memory nodes, and new ones have none. */
function inheritCpuset(parent: CgroupDirectory, child: CgroupDirectory): void {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (child.read(file) === '') child.write(file, parent.read(file) ?? '');
  }
}
