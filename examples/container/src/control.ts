import { statSync } from 'node:fs';
import { Cgroup } from '@iso/cgroups';
import { type NamespaceType, types } from '@iso/namespaces';
import { type Fd, openPidfd } from '@iso/sys';
import { UsageError } from './options.js';
import { findContainer, type LiveContainer } from './state/record.js';

/**
 * Opens the first process of a container that another process runs.
 *
 * @param home - where state is kept
 * @param word - name or id
 * @returns its record, and its pidfd, to be closed
 * @throws {@link UsageError} where it does not run
 */
export function openProcess(home: string, word: string): { container: LiveContainer; pidfd: Fd } {
  const container = findContainer(home, word);
  const pidfd = openPidfd(container.pid, container.pidStart);
  if (!pidfd) throw new UsageError(`container ${word} has ended`);
  try {
    // The number is its own for as long as its record is there: only then does the descriptor stand for it.
    if (findContainer(home, container.id).pid !== container.pid) throw new UsageError(`container ${word} has ended`);
    return { container, pidfd };
  } catch (error) {
    pidfd.close();
    throw error;
  }
}

/**
 * The namespaces of a process that are not this one's: those that can be joined, and have to be.
 *
 * @param pid - of a process that is held by a pidfd
 * @returns their types
 */
export function foreignNamespaces(pid: number): NamespaceType[] {
  const all = Object.keys(types) as NamespaceType[];
  const id = (of: number | string, type: NamespaceType) => statSync(`/proc/${of}/ns/${types[type].file}`).ino;
  return all.filter((type) => id(pid, type) !== id('self', type));
}

/**
 * Opens the cgroup of a container that another process runs. Closing it leaves the group as it is.
 *
 * @param container - its record
 * @returns the group
 * @throws {@link UsageError} where it has none; CgroupError `removed` where it has ended meanwhile
 */
export async function openCgroup({ name, cgroup }: LiveContainer): Promise<Cgroup> {
  if (cgroup === undefined) {
    throw new UsageError(
      `container ${name} has no cgroup: it was started by a plain user without limits, or where no cgroup can be made`,
    );
  }
  // Its name holds its owner's pid and start: another one's is never opened for it.
  return Cgroup.open(cgroup);
}
