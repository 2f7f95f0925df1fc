import { MountTree, OPEN_TREE } from '@iso/mounts';
import { AT, CLONE, errand, Fd, LaunchProgram } from '@iso/sys';
import { foreignNamespaces, openProcess } from './control.js';
import { UsageError } from './options.js';
import type { SharedWith } from './sharing.js';

/**
 * Opens what a container shares with another.
 *
 * @param home - where state is kept
 * @param word - name or id of the other one
 * @param what - its processes, or its ipc namespace, which has to be shareable
 * @returns it, to be disposed
 * @throws {@link UsageError} where it does not run, or does not share
 */
export function shareWith(home: string, word: string, what: 'pid' | 'ipc'): SharedWith & Disposable {
  const { container, pidfd } = openProcess(home, word);
  try {
    if (what === 'pid') return { pidfd, [Symbol.dispose]: () => pidfd.close() };
    if (container.flags.ipc !== 'shareable')
      throw new UsageError(`the ipc namespace of container ${word} is its own: it has to run with --ipc shareable`);
    const shm = openShm(container.pid, pidfd);
    const dispose = () => {
      shm.close();
      pidfd.close();
    };
    return { pidfd, shm, [Symbol.dispose]: dispose };
  } catch (error) {
    pidfd.close();
    throw error;
  }
}

/** Its /dev/shm, from inside of its mount namespace: whatever leads elsewhere leads to what is the container's own. */
function openShm(pid: number, pidfd: Fd): MountTree {
  const program = new LaunchProgram('errand');
  program.join(pidfd, CLONE.NEWNS | (foreignNamespaces(pid).includes('user') ? CLONE.NEWUSER : 0));
  const flags = OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC | AT.SYMLINK_NOFOLLOW;
  const tree = program.step('mount', 'open_tree', [AT.FDCWD, '/dev/shm', flags]);
  errand(program);
  return MountTree.own(Fd.own(tree.value as number));
}
