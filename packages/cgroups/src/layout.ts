import { readFileSync } from 'node:fs';
import { UnsupportedError } from '@iso/sys';

/** Controllers that this package limits with. */
export type Controller = 'memory' | 'pids' | 'cpu' | 'cpuacct' | 'freezer';

/** Where the cgroup hierarchies of this machine are. */
export interface Layout {
  /** `legacy`: v1 only; `hybrid`: v1 controllers and a v2 tree; `unified`: v2. */
  kind: 'legacy' | 'hybrid' | 'unified';
  /** Mount point of the v2 tree. */
  unified: string | undefined;
  /** Mount point of each v1 hierarchy by controller. */
  v1: Partial<Record<Controller, string>>;
}

/**
 * Finds the cgroup hierarchies in the mount table; see cgroups(7).
 *
 * @param options - `mountinfo`: its text, for tests with another machine's
 * @returns where they are
 * @throws UnsupportedError where none is mounted
 */
export function detect(options: { mountinfo?: string } = {}): Layout {
  const text = options.mountinfo ?? readFileSync('/proc/self/mountinfo', 'utf8');
  const v1: Layout['v1'] = {};
  let unified: string | undefined;
  for (const line of text.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const target = left.split(' ')[4];
    const [type, , superOptions = ''] = right.split(' ');
    if (!target) continue;
    if (type === 'cgroup2') unified ??= target;
    if (type !== 'cgroup') continue;
    for (const name of superOptions.split(',')) {
      if (['memory', 'pids', 'cpu', 'cpuacct', 'freezer'].includes(name)) v1[name as Controller] ??= target;
    }
  }
  const legacy = Object.keys(v1).length > 0;
  if (!legacy && !unified)
    throw new UnsupportedError('cgroups', 'no cgroup file system is mounted in this mount namespace');
  return { kind: legacy ? (unified ? 'hybrid' : 'legacy') : 'unified', unified, v1 };
}
