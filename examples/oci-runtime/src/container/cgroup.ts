import {
  Cgroup,
  CgroupError,
  type Controller,
  detect,
  fromOCI,
  type Layout,
  type Limits,
  type OciResources,
} from '@iso/cgroups';
import { UnsupportedError } from '@iso/sys';
import { usualRules } from '../config/devices.js';
import type { Config } from '../config/spec.js';
import { RuntimeError } from '../error.js';

/**
 * Makes the cgroup of a container, at the path that its configuration names, with its limits.
 *
 * @param id - of the container
 * @param config - of the bundle
 * @returns the group; undefined where none was asked for and none can be made
 * @throws {@link RuntimeError} where one is there already; CgroupError for limits that are refused
 */
export async function createCgroup(id: string, config: Config): Promise<Cgroup | undefined> {
  const { cgroupsPath, resources } = config.linux ?? {};
  const names = namesOf(cgroupsPath ?? `/${id}`);
  const name = names.pop() as string;
  try {
    using parent = await openParent(names);
    return await createIn(parent, name, config);
  } catch (error) {
    const wanted = cgroupsPath !== undefined || Object.keys(resources ?? {}).some((key) => key !== 'devices');
    if (!wanted && (CgroupError.is(error, 'notDelegated', 'readOnly') || UnsupportedError.is(error))) return undefined;
    if (CgroupError.is(error, 'exists')) throw new RuntimeError(`the cgroup ${cgroupsPath} is there already`);
    throw error;
  }
}

/**
 * Makes a cgroup with the limits of a container.
 *
 * @param parent - in which
 * @param name - of it
 * @param config - of the bundle
 */
export async function createIn(parent: Cgroup, name: string, config: Config): Promise<Cgroup> {
  const group = await parent.create(name, { controllers: everything(), limits: limitsOf(config) });
  try {
    writeUnified(group, config.linux?.resources);
  } catch (error) {
    await group.remove();
    throw error;
  }
  return group;
}

/**
 * Writes the files of `unified`, all or none.
 *
 * @param group - with the other limits set already
 * @param resources - that may have some
 * @throws CgroupError of what is refused
 */
export function writeUnified(group: Cgroup, { unified = {} }: Pick<OciResources, 'unified'> = {}): void {
  const before: [file: string, lines: string[]][] = [];
  try {
    for (const [file, value] of Object.entries(unified)) {
      const lines = group.read(file)?.split('\n') ?? [];
      group.write(file, value);
      before.unshift([file, lines]);
    }
  } catch (error) {
    // A file of devices takes one line at a time.
    for (const [file, lines] of before) for (const line of lines) group.write(file, line);
    throw error;
  }
}

/** The limits of a container; a plain user's has no rules for devices. */
export function limitsOf({ linux }: Config): Limits {
  const { unified: _, devices = [], ...rest } = linux?.resources ?? {};
  const rules = process.getuid?.() === 0 ? { devices: [...devices, ...usualRules] } : {};
  return fromOCI({ ...rest, ...rules } as Parameters<typeof fromOCI>[0]);
}

/** In every hierarchy: engines look in each for what they have asked for. */
function everything(): Controller[] {
  return detect().hierarchies.flatMap(({ controllers }) => controllers);
}

/**
 * Path of a container's cgroup.
 *
 * @param id - of the container
 * @param config - of the bundle
 */
export function cgroupPath(id: string, config: Config): string {
  return `/${namesOf(config.linux?.cgroupsPath ?? `/${id}`).join('/')}`;
}

function namesOf(path: string): string[] {
  if (/^[^/]*:[^/]*:[^/]*$/.test(path)) throw new RuntimeError(`cgroupsPath ${path} is for systemd: --systemd-cgroup`);
  const names = path.split('/').filter((name) => name !== '');
  if (names.length === 0 || names.some((name) => name === '.' || name === '..'))
    throw new RuntimeError(`not a cgroupsPath: ${JSON.stringify(path)}`);
  return names;
}

/**
 * Makes what is missing on the way; that stays, as with other runtimes: its next container comes there too. In each hierarchy by itself:
 * an engine may have made, or be making, the same for a process of its own in some of them.
 */
async function openParent(names: readonly string[]): Promise<Cgroup> {
  const layout = detect();
  const path = `/${names.join('/')}`;
  for (const hierarchy of layout.hierarchies)
    if (hierarchy.controllers.length > 0 && names.length > 0) await makeIn(only(layout, hierarchy), names);
  return Cgroup.open(path, { layout });
}

async function makeIn(layout: Layout, names: readonly string[]): Promise<void> {
  let group = await Cgroup.open('/', { layout });
  for (const name of names) {
    using above = group;
    group = await openOrCreate(above, name, layout);
  }
  group[Symbol.dispose]();
}

async function openOrCreate(parent: Cgroup, name: string, layout: Layout): Promise<Cgroup> {
  try {
    return await parent.open(name);
  } catch (error) {
    if (!CgroupError.is(error, 'removed')) throw error;
  }
  try {
    return await parent.create(name, { controllers: layout.hierarchies.flatMap(({ controllers }) => controllers) });
  } catch (error) {
    if (!CgroupError.is(error, 'exists')) throw error;
    return parent.open(name);
  }
}

/** The layout of a machine that had this hierarchy alone. */
function only(layout: Layout, hierarchy: Layout['hierarchies'][number]): Layout {
  const { mount, controllers, version } = hierarchy;
  return {
    ...layout,
    kind: version === 2 ? 'unified' : 'legacy',
    unified: version === 2 ? mount : undefined,
    v1: version === 2 ? {} : Object.fromEntries(controllers.map((name) => [name, mount])),
    hierarchies: [hierarchy],
  };
}
