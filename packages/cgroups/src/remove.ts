import { setTimeout as sleep } from 'node:timers/promises';
import { E } from './error.js';
import type { CgroupDirectory } from './raw/directory.js';

/** Tasks that are just ending keep a directory busy for some milliseconds. */
export async function removeDirectory(directory: CgroupDirectory, recursive: boolean): Promise<void> {
  if (recursive) {
    // Most have no groups below: to look is dearer than to try.
    if (directory.remove() === 0) return;
    for (const name of directory.children()) {
      const child = directory.descend(name);
      if (!child) continue;
      try {
        await removeDirectory(child, true);
      } finally {
        child[Symbol.dispose]();
      }
    }
  }
  for (let wait = 1; ; wait *= 2) {
    const errno = directory.remove();
    if (errno === 0) return;
    if (errno !== E.BUSY || wait > 512 || (!recursive && directory.children().length > 0)) {
      throw directory.failure(errno, 'rmdir');
    }
    await sleep(wait);
  }
}
