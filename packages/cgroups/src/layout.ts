import { readFileSync } from 'node:fs';
import { UnsupportedError } from '@iso/sys';
import { type Controller, controllerNamed, inherent, type Version } from './controller.js';

/** A cgroup hierarchy that is mounted. */
export interface Hierarchy {
  version: Version;
  /** Controllers that live here; for v2 those that its topmost visible group offers. */
  controllers: readonly Controller[];
  /** Name of a v1 hierarchy (`systemd` of `name=systemd`). */
  name: string | undefined;
  /** Directory it is mounted on, below {@link Layout.root}. */
  mount: string;
  /** The group that shows as the mount's top directory: `/`, or where a container's tree was bound. */
  top: string;
  /** Path of this process's group below `mount`, `/` for the top; undefined where that lies outside of what is mounted. */
  own: string | undefined;
  /** Mount options of v2 (`nsdelegate`, `memory_recursiveprot` …). */
  options: readonly string[];
}

/** Where the cgroup hierarchies of a machine are. */
export interface Layout {
  /** `legacy`: v1 only; `hybrid`: v1 controllers and a v2 tree; `unified`: v2. */
  kind: 'legacy' | 'hybrid' | 'unified';
  /** Mount point of the v2 tree. */
  unified: string | undefined;
  /** Mount point of each v1 hierarchy by controller. */
  v1: Partial<Record<Controller, string>>;
  /** Every hierarchy, in the order of the mount table. */
  hierarchies: readonly Hierarchy[];
  /** Directory that stands for `/`: another one for the recorded tree of another machine. */
  root: string;
}

/** What {@link detect} looks at. */
export interface DetectOptions {
  /** Directory that stands for `/`. Below it are `proc/self/mountinfo`, `proc/self/cgroup` and the mounted trees. */
  root?: string;
  /** Text of the mount table, instead of the file. */
  mountinfo?: string;
  /** Text of `/proc/self/cgroup`, instead of the file. */
  cgroup?: string;
}

/**
 * Finds the cgroup hierarchies in the mount table, which controllers each has and where this process is in them; see
 * cgroups(7). Changes nothing.
 *
 * @param options - another machine's tables, for tests
 * @returns where they are
 * @throws UnsupportedError where none is mounted
 *
 * @example
 * ```ts
 * import { detect } from '@iso/cgroups';
 * const { kind, hierarchies } = detect();
 * if (kind === 'unified' && hierarchies.some((hierarchy) => hierarchy.version === 1 && !hierarchy.name))
 *   throw new Error('unified means that v2 has every controller');
 * ```
 */
export function detect(options: DetectOptions = {}): Layout {
  const root = (options.root ?? '/').replace(/\/+$/, '');
  const mountinfo = options.mountinfo ?? text(`${root}/proc/self/mountinfo`);
  const own = parseProcCgroup(options.cgroup ?? text(`${root}/proc/self/cgroup`));
  const found = new Map<string, Hierarchy>();
  for (const mount of mountinfo.split('\n').map(parseMount)) {
    if (!mount) continue;
    const hierarchy = toHierarchy(mount, own, root);
    const key = hierarchy.version === 2 ? '2' : `1:${hierarchy.name ?? ''}:${hierarchy.controllers.join(',')}`;
    const before = found.get(key);
    // Mounted twice, the mount that shows this process's own group is the better one.
    if (!before || (before.own === undefined && hierarchy.own !== undefined)) found.set(key, hierarchy);
  }
  const hierarchies = [...found.values()];
  if (hierarchies.length === 0) {
    throw new UnsupportedError('cgroups', 'no cgroup file system is mounted in this mount namespace');
  }
  return describe(hierarchies, root === '' ? '/' : root);
}

/**
 * The layout without its v2 tree, or without its v1 hierarchies: to work on one version of a hybrid machine.
 *
 * @param layout - of the machine
 * @param version - the one to keep
 * @returns the narrower layout
 * @throws UnsupportedError where nothing is left
 */
export function onlyVersion(layout: Layout, version: Version): Layout {
  const hierarchies = layout.hierarchies.filter((hierarchy) => hierarchy.version === version);
  if (hierarchies.length === 0) throw new UnsupportedError(`cgroup v${version}`, 'no such hierarchy is mounted');
  return describe(hierarchies, layout.root);
}

function describe(hierarchies: readonly Hierarchy[], root: string): Layout {
  const v1: Layout['v1'] = {};
  for (const { version, controllers, mount } of hierarchies) {
    if (version === 1) for (const controller of controllers) v1[controller] ??= mount;
  }
  const unified = hierarchies.find((hierarchy) => hierarchy.version === 2)?.mount;
  const legacy = Object.keys(v1).length > 0 || unified === undefined;
  return { kind: legacy ? (unified ? 'hybrid' : 'legacy') : 'unified', unified, v1, hierarchies, root };
}

/**
 * The hierarchy in which a controller lives: a v1 one that has it, else v2 where that offers it.
 *
 * @param layout - of the machine
 * @param controller - which
 * @returns the hierarchy; undefined where the machine has it nowhere
 */
export function hierarchyOf(layout: Layout, controller: Controller): Hierarchy | undefined {
  const has = (version: Version) =>
    layout.hierarchies.find((one) => one.version === version && one.controllers.includes(controller));
  const v2 = layout.hierarchies.find((one) => one.version === 2);
  // Freezing by v2 is one write and an event, wherever the tree is there.
  if (controller === 'freezer' && v2) return v2;
  return has(1) ?? has(2) ?? (inherent.includes(controller) ? v2 : undefined);
}

/**
 * The lines of `/proc/PID/cgroup`.
 *
 * @param content - text of the file
 * @returns for each hierarchy its v1 controllers and name (neither for v2) and the group's path
 */
export function parseProcCgroup(content: string): { controllers: string[]; path: string; deleted: boolean }[] {
  return content
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      // A path may hold colons; the two fields before it do not.
      const [, , names = '', path = ''] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
      const deleted = path.endsWith(' (deleted)');
      return {
        controllers: names === '' ? [] : names.split(','),
        path: deleted ? path.slice(0, -' (deleted)'.length) : path,
        deleted,
      };
    });
}

interface Mount {
  type: string;
  top: string;
  target: string;
  options: string[];
}

function parseMount(line: string): Mount | undefined {
  const [left, right] = line.split(' - ');
  const [type, , options = ''] = right?.split(' ') ?? [];
  if (type !== 'cgroup' && type !== 'cgroup2') return undefined;
  const [, , , top = '', target = ''] = (left ?? '').split(' ');
  return { type, top: unescaped(top), target: unescaped(target), options: options.split(',') };
}

function toHierarchy({ type, top, target, options }: Mount, own: ReturnType<typeof parseProcCgroup>, root: string) {
  const mount = `${root}${target}`;
  const version: Version = type === 'cgroup2' ? 2 : 1;
  const name = options.find((option) => option.startsWith('name='))?.slice(5);
  const names = version === 2 ? text(`${mount}/cgroup.controllers`).trim().split(' ') : options;
  const controllers = names.map(controllerNamed).filter((controller) => controller !== undefined);
  const entry = own.find((line) =>
    version === 2
      ? line.controllers.length === 0
      : line.controllers.some((word) => (name ? word === `name=${name}` : options.includes(word))),
  );
  return {
    version,
    controllers,
    name,
    mount,
    top,
    own: entry && below(top, entry.path),
    options: version === 2 ? options : [],
  };
}

/** Where a group is below a mount's top. */
function below(top: string, path: string): string | undefined {
  if (path.startsWith('/..')) return undefined;
  if (top === '/' || top === '') return path;
  // In a cgroup namespace tops outside of it read as /.., and the own path starts at the namespace's root.
  if (path === top) return '/';
  return path.startsWith(`${top}/`) ? path.slice(top.length) : undefined;
}

function unescaped(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)));
}

/** Content of a file; empty where it cannot be read. */
function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
