import { invalid, UnsupportedError } from '@iso/sys';
import { type Controller, inherent, threadedControllers, type Version } from './controller.js';
import { CgroupError, E } from './error.js';
import { type Hierarchy, hierarchyOf, type Layout } from './layout.js';
import { CgroupDirectory } from './raw/directory.js';

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

/** A group's directories: one on v2, one in each v1 hierarchy that it is in. */
export class Places implements Disposable {
  readonly layout: Layout;
  readonly directories: readonly CgroupDirectory[];
  readonly #byHierarchy: ReadonlyMap<Hierarchy, CgroupDirectory>;
  #offered: ReadonlySet<string> | undefined;

  constructor(layout: Layout, byHierarchy: ReadonlyMap<Hierarchy, CgroupDirectory>) {
    this.layout = layout;
    this.#byHierarchy = byHierarchy;
    this.directories = [...byHierarchy.values()];
  }

  /**
   * Opens what is there.
   *
   * @param layout - of the machine
   * @param pathOf - the group's path below each hierarchy's top; undefined for those where it is not
   * @returns directories, none where nothing is there
   */
  static open(layout: Layout, pathOf: (hierarchy: Hierarchy) => string | undefined): Places {
    const found = new Map<Hierarchy, CgroupDirectory>();
    for (const hierarchy of layout.hierarchies) {
      const path = pathOf(hierarchy);
      if (path === undefined) continue;
      const top = topOf(hierarchy, layout);
      try {
        const directory = top.descend(path);
        if (directory) found.set(hierarchy, directory);
      } finally {
        top[Symbol.dispose]();
      }
    }
    return new Places(layout, found);
  }

  /**
   * Makes a group's directories, those above too, and enables controllers from the top of v2 down.
   *
   * @param layout - of the machine
   * @param parentOf - the parent's path below each hierarchy's top; undefined where it has none
   * @param name - of the group; there must be none of that name
   * @param what - controllers
   */
  static make(
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

  /** Its directory on v2. */
  get v2(): CgroupDirectory | undefined {
    return this.directories.find((directory) => directory.version === 2);
  }

  /** Its directories on v1. */
  get v1(): readonly CgroupDirectory[] {
    return this.directories.filter((directory) => directory.version === 1);
  }

  /** Its directory for a controller; undefined where that is not enabled. */
  of(controller: Controller | 'cgroup'): CgroupDirectory | undefined {
    if (controller === 'cgroup') return this.v2 ?? this.directories[0];
    const hierarchy = hierarchyOf(this.layout, controller);
    const directory = hierarchy && this.#byHierarchy.get(hierarchy);
    if (!directory || directory.version === 1 || inherent.includes(controller)) return directory;
    this.#offered ??= new Set((directory.read('cgroup.controllers') ?? '').split(' '));
    return this.#offered.has(controller) ? directory : undefined;
  }

  /** The version by which a controller is limited: of the hierarchy that it is in. */
  versionOf(controller: Controller | 'cgroup'): Version | undefined {
    if (controller === 'cgroup') return this.layout.unified === undefined ? 1 : 2;
    return hierarchyOf(this.layout, controller)?.version;
  }

  /** The last part of a directory's path. */
  nameOf({ path, mount }: CgroupDirectory): string {
    return path.slice(mount.length).split('/').pop() ?? '';
  }

  /** Its path below a hierarchy's top. */
  pathIn(hierarchy: Hierarchy): string | undefined {
    return this.#byHierarchy.get(hierarchy)?.path.slice(hierarchy.mount.length);
  }

  /** The directory in which its files `name.…` are, enabled or not; for errors that say why. */
  homeOf(controller: Controller | 'cgroup'): CgroupDirectory {
    const hierarchy = controller === 'cgroup' ? undefined : hierarchyOf(this.layout, controller);
    const directory = hierarchy ? this.#byHierarchy.get(hierarchy) : this.of('cgroup');
    if (!directory) {
      throw new UnsupportedError(
        controller,
        `the group is in no hierarchy with this controller: ask for it in create()`,
      );
    }
    return directory;
  }

  /** Closes the descriptors; the group stays. */
  [Symbol.dispose](): void {
    for (const directory of this.directories) directory[Symbol.dispose]();
  }
}

/**
 * Checks a path below the tops of hierarchies.
 *
 * @param path - names with slashes between
 * @param layout - absolute paths below one of its mounts will do
 * @returns the names
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for `..`, empty names and the like
 */
export function pathNames(path: string, layout: Layout): string[] {
  if (typeof path !== 'string') throw invalid(`not the path of a cgroup: ${String(path)}`);
  const mount = layout.hierarchies.find((one) => path === one.mount || path.startsWith(`${one.mount}/`))?.mount ?? '';
  return path
    .slice(mount.length)
    .split('/')
    .filter((name) => name !== '')
    .map(checkName);
}

/**
 * Checks the name of a group.
 *
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function checkName(name: string): string {
  // A dot in front would hide it, and names with a dot inside may be control files.
  if (
    typeof name !== 'string' ||
    !/^[\w@:+-][\w@:+.\\-]{0,199}$/.test(name) ||
    /^(cgroup|tasks$|notify_on_)\.?/.test(name)
  ) {
    throw invalid(`not the name of a cgroup: ${JSON.stringify(name)}`);
  }
  return name;
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

function topOf({ mount, version }: Hierarchy, layout: Layout): CgroupDirectory {
  return CgroupDirectory.top(mount, version, layout.root !== '/');
}

function makeIn(hierarchy: Hierarchy, layout: Layout, parent: string, name: string, what: Wanted): CgroupDirectory {
  const cpuset = hierarchy.version === 1 && hierarchy.controllers.includes('cpuset');
  let at = topOf(hierarchy, layout);
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
    const there = hierarchy.version === 1 && !cpuset ? at.descend(parent) : undefined;
    if (there) to(there);
    else {
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
