import { rmSync } from 'node:fs';
import type { DriverName } from '@iso/unionfs';
import { complain } from '../say.js';
import { type ContainerState, containerDirectory, lockAll, readAll, readRaw } from './document.js';
import { updateContainer } from './record.js';

/**
 * Removes what containers have left that takes time to remove: their layers, and the cgroups of those whose runner was killed. What cannot
 * be removed is told of, and left for the next time: it is no reason for anything else to fail.
 *
 * @param home - where state is kept
 */
export async function clean(home: string): Promise<void> {
  for (const left of leftovers(home)) {
    try {
      await remove(home, left);
    } catch (error) {
      complain(`what container ${left.name} has left cannot be removed: ${(error as Error).message}`);
    }
  }
}

/** What that takes is loaded where there is something. */
async function remove(home: string, { id, status, cgroup, image, storageDriver }: ContainerState): Promise<void> {
  if (cgroup !== undefined) await removeCgroup(cgroup);
  if (status === 'exited') {
    // It may have been started again meanwhile, in another one.
    updateContainer(home, id, (state) => (state.cgroup === cgroup ? { cgroup: undefined } : {}));
    return;
  }
  if (image !== undefined) {
    const { removeLayer } = await import('../image/root.js');
    await removeLayer(home, id, storageDriver as DriverName | undefined);
  }
  rmSync(containerDirectory(home, id), { recursive: true, force: true });
}

/** Its runner is dead, or just dying: who looks for that by its pid may find it still. */
async function removeCgroup(path: string): Promise<void> {
  const { Cgroup, CgroupError } = await import('@iso/cgroups');
  try {
    await using _group = await Cgroup.open(path);
  } catch (error) {
    if (!CgroupError.is(error, 'removed')) throw error;
  }
}

function leftovers(home: string): ContainerState[] {
  using _one = lockAll(home);
  readAll(home);
  return readRaw(home).filter(
    ({ status, cgroup }) => status === 'removing' || (status === 'exited' && cgroup !== undefined),
  );
}
