import { UnsupportedError } from '@iso/sys';
import { ownIdentity } from './identity.js';
import type { CgroupDirectory } from './raw/directory.js';

const NAME = 'O_NONBLOCK of memory.max';
const SINCE = { since: '6.16' };

let known: boolean | undefined;

/**
 * Makes sure that the kernel sets a memory limit without reclaiming and killing before the write returns, where the file is open
 * with O_NONBLOCK. Older ones take the flag and ignore it: that shows by trying, once, on a group without processes.
 *
 * @param directory - of the group that will be limited; the one to try on is made beside it, for a moment
 * @throws UnsupportedError where the kernel ignores it, or where no group can be made to try it on
 */
export function needNonblocking(directory: CgroupDirectory): void {
  if (directory.version === 1) {
    throw new UnsupportedError(NAME, 'v1 reclaims before a limit is set, and never kills for one');
  }
  try {
    known ??= tried(directory);
  } catch (error) {
    throw new UnsupportedError(NAME, `no group could be made to try it on: ${(error as Error).message}`, SINCE);
  }
  if (!known)
    throw new UnsupportedError(NAME, 'the kernel reclaimed, and looked for somebody to kill, all the same', SINCE);
}

function tried(directory: CgroupDirectory): boolean {
  const parent = directory.ancestor(1);
  if (!parent) throw new Error('the root group has no limits');
  const made: CgroupDirectory[] = [];
  try {
    const probe = parent.make(`probe@${ownIdentity()}`, true);
    made.push(probe);
    // What the kernel needs for a child is charged to the group above, and cannot be reclaimed.
    probe.write('cgroup.subtree_control', '+memory');
    made.push(probe.make('child', true));
    if (Number(probe.read('memory.current')) === 0) throw new Error('kernel memory is not accounted');
    probe.write('memory.max', '0', { nonblock: true });
    return /^oom 0$/m.test(probe.read('memory.events') ?? '');
  } finally {
    for (const one of made.reverse()) {
      one.remove();
      one[Symbol.dispose]();
    }
    parent[Symbol.dispose]();
  }
}
