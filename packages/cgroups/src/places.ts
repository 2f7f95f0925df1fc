import { invalid, UnsupportedError } from '@iso/sys';
import { type Controller, inherent, type Version } from './controller.js';
import { type Hierarchy, hierarchyOf, type Layout } from './layout.js';
import { CgroupDirectory } from './raw/directory.js';
import { shown } from './value.js';

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
    try {
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
    } catch (error) {
      for (const directory of found.values()) directory[Symbol.dispose]();
      throw error;
    }
    return new Places(layout, found);
  }

  /** Its directory on v2. */
  get v2(): CgroupDirectory | undefined {
    return this.directories.find((directory) => directory.version === 2);
  }

  /** Its directories on v1. */
  get v1(): readonly CgroupDirectory[] {
    return this.directories.filter((directory) => directory.version === 1);
  }

  /** Its directories in the order in which they are removed: what freezes is there as long as somebody may have to be killed. */
  get toRemove(): readonly CgroupDirectory[] {
    const freezer = this.of('freezer');
    return freezer ? [...this.directories.filter((directory) => directory !== freezer), freezer] : this.directories;
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
  if (typeof path !== 'string') throw invalid(`not the path of a cgroup: ${shown(path)}`);
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
    throw invalid(`not the name of a cgroup: ${shown(name)}`);
  }
  return name;
}

/** Opens a group by its path below the top of a hierarchy; undefined where there is none. */
export function belowTop({ mount, version }: Hierarchy, layout: Layout, path: string): CgroupDirectory | undefined {
  return CgroupDirectory.below(mount, path, version, layout.root !== '/');
}

/** Opens the top of a hierarchy. */
export function topOf({ mount, version }: Hierarchy, layout: Layout): CgroupDirectory {
  return CgroupDirectory.top(mount, version, layout.root !== '/');
}
