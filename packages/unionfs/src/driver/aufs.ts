import { MOUNT_ATTR, MountTree } from '@iso/mounts';
import { Fd, KernelError, UnsupportedError } from '@iso/sys';
import { aufsOptions } from '../aufs/options.js';
import { mountInChild, OPTIONS } from '../overlay/child.js';
import type { Driver } from './driver.js';
import { UnionLayers } from './union.js';

/**
 * The driver of aufs: layers are directories as for overlay2, with whiteouts as files of names that begin with `.wh.`, and a union may have
 * any number of them. No kernel of a distribution has aufs today: it is for those who build one with its patches.
 *
 * Needs CAP_SYS_ADMIN.
 *
 * @param root - directory of its layers; exists
 * @returns the driver; dispose it to close the directory
 */
export function aufs(root: string | Fd): Driver & Disposable {
  const layers = new UnionLayers(root, 'aufs');
  const { directory } = layers;
  return {
    ...layers.common(),
    name: 'aufs',
    open(id, parents, { readonly = false } = {}) {
      if (parents.length === 0) return MountTree.clone(directory(id), { readonly }).fd;
      return openAufs([id, ...parents].map(directory), readonly);
    },
  };
}

function openAufs(paths: string[], readonly: boolean): Fd {
  const branches: Fd[] = [];
  try {
    for (const path of paths) branches.push(Fd.open(path, { directory: true, path: true }));
    const names = branches.map((fd) => String(fd.number));
    const options = aufsOptions(names, { writable: !readonly, most: OPTIONS - 1 });
    return mountInChild(
      'aufs',
      options.map((text) => Buffer.from(text)),
      { attr: readonly ? MOUNT_ATTR.RDONLY : 0, hint: 'the kernel log says why' },
    );
  } catch (error) {
    if (!KernelError.is(error, 'ENODEV')) throw error;
    const reason = 'it needs a kernel that is built with the patches of aufs (aufs-standalone), and modprobe aufs';
    throw new UnsupportedError('aufs', reason, { cause: error });
  } finally {
    for (const fd of branches) fd.close();
  }
}
