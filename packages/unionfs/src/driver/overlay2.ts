import { MountTree } from '@iso/mounts';
import type { Fd } from '@iso/sys';
import { openOverlay } from '../overlay/mount.js';
import type { Driver } from './driver.js';
import { inUserNamespace, UnionLayers, type UnionOptions } from './union.js';

/**
 * The driver of the kernel's overlay: a layer is a directory with what it changes, a container's root is a mount of up to 500
 * of them. Needs CAP_SYS_ADMIN over this process's mount namespace, which a user namespace gives too, and a file system that overlay takes
 * as writable layer.
 *
 * @param root - directory of its layers; exists
 * @param options - see {@link UnionOptions}
 * @returns the driver; dispose it to close the directory
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { overlay2 } from '@iso/unionfs';
 * const root = mkdtempSync('/tmp/iso-overlay2-');
 * {
 *   using driver = overlay2(root);
 *   driver.create('base', []);
 *   driver.create('top', ['base']);
 *   using mount = driver.open('top', ['base']);
 *   if (mount.closed) throw new Error('not mounted');
 * }
 * rmSync(root, { recursive: true });
 * ```
 */
export function overlay2(root: string | Fd, options: UnionOptions = {}): Driver & Disposable {
  const { userxattr = inUserNamespace() } = options;
  const layers = new UnionLayers(root, userxattr ? 'userxattr' : 'overlay');
  const { directory } = layers;
  return {
    ...layers.common(),
    name: 'overlay2',
    open(id, parents, { readonly = false } = {}) {
      const lower = parents.map(directory);
      if (lower.length === 0) return MountTree.clone(directory(id), { readonly }).fd;
      if (readonly) return openOverlay({ lower: [directory(id), ...lower], readonly, userxattr });
      return openOverlay({ lower, upper: directory(id), work: layers.work(id), userxattr });
    },
  };
}
