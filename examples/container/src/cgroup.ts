import { Cgroup, CgroupError, type Controller, detect, hierarchyOf } from '@iso/cgroups';
import { UnsupportedError } from '@iso/sys';
import { type DeviceMapping, deviceRules } from './device.js';
import { parseCgroupParent } from './options.js';
import { limitsOf, type Resources, setShares } from './resources.js';

/** What a container's cgroup is made from. */
export interface CgroupOptions extends Resources {
  /** Devices of the host inside. */
  devices?: readonly DeviceMapping[];
  /** It may use every device. */
  privileged?: boolean;
  /** Path of the group above its own, in each hierarchy; default `iso`. */
  cgroupParent?: string;
  /**
   * A cgroup with every controller that statistics and later changes are about, also where nothing is limited; default: a cgroup
   * where something is limited, with what that needs. Where none can be made, none is needed.
   */
  accounting?: boolean;
}

/** What a machine has of them does not change while this process runs. */
const controllers = {
  accounted: undefined as readonly Controller[] | undefined,
  devices: undefined as boolean | undefined,
};

function accounted(): readonly Controller[] {
  const layout = detect();
  const all: readonly Controller[] = ['cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'io'];
  return all.filter((one) => hierarchyOf(layout, one));
}

const swept = new Map<string | undefined, Promise<unknown>>();

/**
 * Makes the cgroup of a container; its devices are those of every container and those that it is given.
 *
 * @param name - of the container
 * @param options - limits
 * @returns the group, undefined where none is needed
 * @throws {@link UsageError} for limits that make no sense; what {@link Cgroup.create} throws
 */
export async function createCgroup(name: string, options: CgroupOptions): Promise<Cgroup | undefined> {
  const limits = limitsOf(options);
  const devices = deviceRules(options.devices ?? []);
  const parent = options.cgroupParent === undefined ? undefined : parseCgroupParent(options.cgroupParent);
  // What a killed process left is found once; a process does not leave anything to itself. What somebody else left is not ours.
  if (!swept.has(parent)) {
    swept.set(
      parent,
      Cgroup.sweep(parent === undefined ? {} : { parent }).catch(() => {}),
    );
  }
  await swept.get(parent);
  const wanted = Object.keys(limits).length > 0 || parent !== undefined || (options.devices?.length ?? 0) > 0;
  if (!wanted && !options.accounting) return undefined;
  controllers.accounted ??= options.accounting ? accounted() : undefined;
  // A plain user is kept from devices by their modes, and has no lists to change.
  controllers.devices ??= process.getuid?.() === 0 && hierarchyOf(detect(), 'devices') !== undefined;
  try {
    const cgroup = await Cgroup.create(name, {
      controllers: (options.accounting && controllers.accounted) || [],
      limits: { ...limits, ...(controllers.devices && !options.privileged ? { devices } : {}) },
      ...(parent === undefined ? {} : { parent }),
    });
    setShares(cgroup, options);
    return cgroup;
  } catch (error) {
    if (!wanted && (CgroupError.is(error, 'notDelegated', 'readOnly') || UnsupportedError.is(error))) return undefined;
    throw error;
  }
}
