import { statSync } from 'node:fs';
import { OPEN_TREE } from '@iso/mounts';
import { AT, attempt, CLONE, errand, Fd, LaunchProgram, openPidfd } from '@iso/sys';
import type { DriverName } from '@iso/unionfs';
import { openSnapshots } from '../image/images.js';
import { UsageError } from '../options.js';
import { type ContainerState, findContainer, isLive, type LiveContainer, lookUp } from '../state/record.js';

/** The root of a container, as long as it is not disposed. */
export interface ContainerRoot extends Disposable {
  readonly fd: Fd;
}

/**
 * The root of a container as its processes see it, what is mounted in it included; of one that has ended, its layer on its image.
 *
 * @param home - where state is kept
 * @param word - its name or id
 * @param options - `readonly`: nothing is to be written; two may have it so
 * @returns its root
 * @throws {@link UsageError} where it has ended and its files with it
 */
export async function openRoot(home: string, word: string, options: { readonly: boolean }): Promise<ContainerRoot> {
  const container = lookUp(home, word);
  if (!isLive(container)) return await openLayerRoot(home, container, options);
  const { pid, name } = container;
  const fd = Fd.open(`/proc/${pid}/root`, { path: true, directory: true });
  stillThere(home, word, name, fd);
  return { fd, [Symbol.dispose]: () => fd.close() };
}

/**
 * The root of a container without what is mounted in it: what an archive of it holds.
 *
 * @param home - where state is kept
 * @param word - its name or id
 * @returns its root, a mount that is attached nowhere
 * @throws {@link UsageError} where it has ended and its files with it
 */
export async function cloneRoot(home: string, word: string): Promise<ContainerRoot> {
  const container = lookUp(home, word);
  if (!isLive(container)) return await openLayerRoot(home, container, { readonly: true });
  const fd = cloneLive(home, container);
  return { fd, [Symbol.dispose]: () => fd.close() };
}

async function openLayerRoot(
  home: string,
  { id, name, image, storageDriver }: ContainerState,
  options: { readonly: boolean },
): Promise<ContainerRoot> {
  if (image === undefined)
    throw new UsageError(`container ${name} does not run: what it wrote on a directory has gone with its end`);
  const store = await openSnapshots(home, storageDriver as DriverName | undefined);
  try {
    const { fd, close } = await store.openMount(id, options);
    return {
      fd,
      [Symbol.dispose]() {
        close();
        store.close();
      },
    };
  } catch (error) {
    store.close();
    throw error;
  }
}

/** Pids are used again: as long as the record is there, it was the container's. */
function stillThere(home: string, word: string, name: string, root: Fd): void {
  try {
    findContainer(home, word);
  } catch {
    root.close();
    throw new UsageError(`container ${name} has ended`);
  }
}

function cloneLive(home: string, { pid, pidStart, id, name }: LiveContainer): Fd {
  using pidfd = openPidfd(pid, pidStart);
  if (!pidfd) throw new UsageError(`container ${name} has ended`);
  const user = (of: number | string) => statSync(`/proc/${of}/ns/user`).ino;
  const program = new LaunchProgram('errand');
  program.join(pidfd, CLONE.NEWNS | (user(pid) === user('self') ? 0 : CLONE.NEWUSER));
  const tree = program.step('mount', 'open_tree', [AT.FDCWD, '/', OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC], {
    hint: 'what is mounted in the container may be locked to it',
  });
  errand(program);
  const root = Fd.own(tree.value as number);
  stillThere(home, id, name, root);
  if (attempt('pidfd_send_signal', pidfd, 0, null, 0) < 0) {
    root.close();
    throw new UsageError(`container ${name} has ended`);
  }
  return root;
}
