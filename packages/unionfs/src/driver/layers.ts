import { type Fd, invalid, KernelError } from '@iso/sys';
import { check, ERRNO, tryMkdir, tryRename } from '../file/call.js';
import { removeTree } from '../file/directory.js';

/** The directory that holds a driver's layers, one directory each. */
export class Layers {
  readonly root: Fd;

  /** @param root - the directory; becomes this object's */
  constructor(root: Fd) {
    this.root = root;
  }

  /** Path of a layer's directory, or of a directory in it, which is good as long as the root is open. */
  path(id: string, ...inside: string[]): string {
    return [`/proc/self/fd/${this.root.number}`, checkId(id), ...inside].join('/');
  }

  /** Makes a layer's directory; `fill` makes what is in it, and where that fails all is removed. */
  create(id: string, fill: () => void): void {
    const name = Buffer.from(checkId(id));
    const made = tryMkdir(this.root.number, name, 0o700);
    check(made, 'mkdirat', name, made === -ERRNO.EEXIST ? 'there is a layer of that id' : undefined);
    try {
      fill();
    } catch (error) {
      removeTree(this.root.number, name);
      throw error;
    }
  }

  /** Removes a layer's directory: it is gone by name first, so that half of one is never seen. */
  remove(id: string): void {
    const name = Buffer.from(checkId(id));
    const trash = Buffer.from(`.removed-${id}`);
    // What one that was killed left of it.
    removeTree(this.root.number, trash);
    const moved = tryRename(this.root.number, name, this.root.number, trash);
    if (moved === -ERRNO.ENOENT) return;
    if (moved < 0) throw new KernelError(moved, { syscall: 'renameat2', path: id });
    removeTree(this.root.number, trash);
  }
}

/** An id that is one component and no file of the driver's own. */
export function checkId(id: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}$/.test(id)) throw invalid(`not an id of a layer: ${JSON.stringify(id)}`);
  return id;
}
