import { mkdirSync } from 'node:fs';
import { MountTree } from '@iso/mounts';
import { Fd } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import { copyTree } from '../layer/copy.js';
import type { Driver } from './driver.js';
import { Layers } from './layers.js';

const TREE = 'tree';

/**
 * The driver that works everywhere: each layer is a whole copy of those below it. On btrfs and xfs the copies share their data
 * (FICLONE); elsewhere they cost their size.
 *
 * @param root - directory of its layers; exists
 * @returns the driver; dispose it to close the directory
 */
export function vfs(root: string | Fd): Driver & Disposable {
  checkArgument('root', root, 'a path or an open directory');
  const layers = new Layers(
    Fd.open(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`, { directory: true }),
  );
  const directory = (id: string) => layers.path(id, TREE);
  return {
    name: 'vfs',
    format: 'plain',
    directory,
    create(id, [parent]) {
      layers.create(id, () => {
        mkdirSync(directory(id), { mode: 0o755 });
        if (parent) copyTree(directory(parent), directory(id));
      });
    },
    open: (id, _parents, { readonly = false } = {}) => MountTree.clone(directory(id), { readonly }).fd,
    diff: (id, [parent]) => ({ after: directory(id), ...(parent ? { before: directory(parent) } : {}) }),
    remove: (id) => layers.remove(id),
    [Symbol.dispose]: () => layers.root.close(),
  };
}
