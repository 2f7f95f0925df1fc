import { readFileSync } from 'node:fs';
import { Cgroup, CgroupError } from '@iso/cgroups';
import { isAlive } from './identity.js';
import type { Saved } from './store.js';

/** What an engine is told of a container, see the runtime specification. */
export interface State {
  ociVersion: string;
  id: string;
  status: 'creating' | 'created' | 'running' | 'paused' | 'stopped';
  /** Absent where it has ended. */
  pid?: number;
  bundle: string;
  annotations?: Readonly<Record<string, string>>;
}

/** Of the specification that states are of. */
export const OCI_VERSION = '1.2.0';

/**
 * What has become of a container.
 *
 * @param saved - what is kept of it
 */
export async function stateOf(saved: Saved): Promise<State> {
  const { id, bundle, init, started, config } = saved;
  const alive = init !== undefined && isAlive(init);
  using group = alive && started ? await groupOf(saved) : undefined;
  const going = group?.frozen ? 'paused' : started ? 'running' : 'created';
  const status = !init ? 'creating' : alive ? going : 'stopped';
  return {
    ociVersion: OCI_VERSION,
    id,
    status,
    ...(alive ? { pid: init.pid } : {}),
    bundle,
    ...(config.annotations ? { annotations: config.annotations } : {}),
  };
}

/**
 * The same as its own processes see it: with the pid that its first one has inside.
 *
 * @param state - of a container whose first process is there
 */
export function stateInside<Outside extends { pid?: number }>(state: Outside): Outside {
  const text = readFileSync(`/proc/${state.pid}/status`, 'latin1');
  return { ...state, pid: Number(/^NSpid:.*\t(\d+)$/m.exec(text)?.[1] ?? state.pid) };
}

/**
 * The cgroup of a container.
 *
 * @param saved - what is kept of it
 * @returns the group, the caller's to close; undefined where there is none
 */
export async function groupOf({ cgroup }: { cgroup?: string | undefined }): Promise<Cgroup | undefined> {
  if (cgroup === undefined) return undefined;
  try {
    return await Cgroup.open(cgroup);
  } catch (error) {
    if (CgroupError.is(error, 'removed')) return undefined;
    throw error;
  }
}
