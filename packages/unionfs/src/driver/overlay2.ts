import { mkdirSync } from 'node:fs';
import { MountTree } from '@iso/mounts';
import { attempt, Fd } from '@iso/sys';
import type { DiffSource } from '../diff/changes.js';
import { tryUtimens } from '../file/call.js';
import { stat } from '../file/stat.js';
import { readXattrs, trySetXattr } from '../file/xattr.js';
import { archivedXattr } from '../layer/whiteout.js';
import { openOverlay } from '../overlay/mount.js';
import type { Driver } from './driver.js';
import { Layers } from './layers.js';

const DIFF = 'diff';
const WORK = 'work';

/**
 * The driver of the kernel's overlay: a layer is a directory with what it changes, a container's root is a mount of up to 500
 * of them. Needs CAP_SYS_ADMIN to mount, `trusted.*` attributes, and a file system that overlay takes as writable layer.
 *
 * @param root - directory of its layers; exists
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
export function overlay2(root: string | Fd): Driver & Disposable {
  const layers = new Layers(
    Fd.open(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`, { directory: true }),
  );
  const directory = (id: string) => layers.path(id, DIFF);
  return {
    name: 'overlay2',
    format: 'overlay',
    directory,
    create(id, parents) {
      layers.create(id, () => {
        mkdirSync(layers.path(id, DIFF), { mode: 0o755 });
        mkdirSync(layers.path(id, WORK), { mode: 0o700 });
        const [parent] = parents;
        if (parent) likeParent(directory(parent), directory(id));
      });
    },
    open(id, parents, { readonly = false } = {}) {
      const lower = parents.map(directory);
      if (lower.length === 0) return MountTree.clone(directory(id), { readonly }).fd;
      if (readonly) return openOverlay({ lower: [directory(id), ...lower], readonly });
      return openOverlay({ lower, upper: directory(id), work: layers.path(id, WORK) });
    },
    diff: (id, parents): DiffSource => ({ upper: directory(id), lowers: parents.map(directory) }),
    remove: (id) => layers.remove(id),
    [Symbol.dispose]: () => layers.root.close(),
  };
}

/** A union's root shows the attributes of its uppermost layer. */
function likeParent(parent: string, child: string): void {
  using from = Fd.open(parent, { directory: true });
  using to = Fd.open(child, { directory: true });
  const { uid, gid, mode, mtime } = stat(from.number, null);
  attempt('fchown', to, uid, gid);
  attempt('fchmod', to, mode);
  const own = (name: string) => archivedXattr(name, 'overlay') !== undefined;
  for (const [name, value] of readXattrs(from.number, own)) trySetXattr(to.number, name, value);
  tryUtimens(to.number, null, mtime);
}
