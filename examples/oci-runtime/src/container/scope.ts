import { type Cgroup, CgroupError, detect, type Limits, Scope } from '@iso/cgroups';
import type { Config } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { createIn, limitsOf } from './cgroup.js';

/** A scope of systemd in which a container is. */
export interface SavedScope {
  /** Without `.scope`. */
  name: string;
  manager: 'system' | 'user';
}

/** Where a container's processes are: beside it, what holds the scope until they are there. */
const GROUP = 'container';
/** systemd may be at something else. */
const PATIENCE = { timeoutMs: 60_000 };

/**
 * Has systemd make a scope for a container, with its limits, and in that its cgroup, with the same: so that they are what it sees itself,
 * and what systemd does not know is kept too.
 *
 * @param id - of the container
 * @param config - of the bundle: `cgroupsPath` is `slice:prefix:name`
 * @returns the scope; the group; its path below the hierarchy's top
 * @throws {@link RuntimeError} for another cgroupsPath; UnsupportedError where no systemd listens; CgroupError
 */
export async function createScope(
  id: string,
  config: Config,
): Promise<{ scope: Scope; group: Cgroup; path: string; saved: SavedScope }> {
  const { unified } = detect();
  const { slice, name } = unitOf(config.linux?.cgroupsPath ?? `:iso-oci:${id}`);
  const limits = ofScope(limitsOf(config));
  const scope = await Scope.create(name, { limits, description: `container ${id}`, ...slice, ...PATIENCE });
  try {
    const path = scope.group.path();
    if (path === undefined || unified === undefined) throw new RuntimeError('cgroups by systemd need cgroup v2');
    const group = await createIn(scope.group, GROUP, config);
    const saved = { name, manager: scope.manager };
    return { scope, group, path: `${path.slice(unified.length)}/${GROUP}`, saved };
  } catch (error) {
    await scope.remove(PATIENCE);
    throw error;
  }
}

/** Changes what systemd knows of a container's limits. */
export async function setScope({ name, manager }: SavedScope, limits: Limits): Promise<void> {
  const scope = await Scope.open(name, { manager, ...PATIENCE });
  using _group = scope.group;
  await scope.set(ofScope(limits), PATIENCE);
}

/** Removes a scope, which systemd may have done by itself when nothing ran in it any more. */
export async function removeScope({ name, manager }: SavedScope): Promise<void> {
  try {
    const scope = await Scope.open(name, { manager, ...PATIENCE });
    await scope.remove(PATIENCE);
  } catch (error) {
    if (!CgroupError.is(error, 'removed')) throw error;
  }
}

/** Rules for devices are for the container's group; and what holds the scope is a process too. */
function ofScope({ devices: _, pids, ...rest }: Limits): Limits {
  const { max } = pids ?? {};
  return { ...rest, ...(max === undefined ? {} : { pids: { max: max === 'max' ? max : max + 1 } }) };
}

function unitOf(path: string): { slice: { slice?: string }; name: string } {
  const [, slice, prefix, name] = /^([^/:]*):([^/:]*):([^/:]+)$/.exec(path) ?? [];
  if (name === undefined || slice === undefined)
    throw new RuntimeError(`cgroupsPath ${JSON.stringify(path)} is not slice:prefix:name, as systemd has it`);
  return { slice: slice ? { slice } : {}, name: prefix ? `${prefix}-${name}` : name };
}
