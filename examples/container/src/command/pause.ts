import type { Cgroup } from '@iso/cgroups';
import { Command } from 'commander';
import { openCgroup } from '../control.js';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { findContainer, isLive, type LiveContainer, updateContainer } from '../state/record.js';

/** `iso pause`. */
export const pause = new Command('pause')
  .description('let containers stand still, by their cgroups')
  .argument('<container...>', 'name or id')
  .action((words: string[]) => turn(words, 'paused', 'already paused', (cgroup) => cgroup.freeze()));

/** `iso unpause`. */
export const unpause = new Command('unpause')
  .description('let paused containers go on')
  .argument('<container...>', 'name or id')
  .action((words: string[]) => turn(words, 'running', 'not paused', (cgroup) => cgroup.thaw()));

/** Makes each so, unless it is. */
async function turn(
  words: readonly string[],
  status: LiveContainer['status'],
  already: string,
  act: (cgroup: Cgroup) => Promise<void>,
): Promise<void> {
  for (const word of words) {
    const container = findContainer(home(), word);
    if (container.status === status) throw new UsageError(`container ${word} is ${already}`);
    using cgroup = await openCgroup(container);
    await act(cgroup);
    const { id, pid } = container;
    const known = updateContainer(home(), id, (now) => (isLive(now) && now.pid === pid ? { status } : {}));
    if (known?.pid !== pid) throw new UsageError(`container ${word} has ended`);
    updateContainer(home(), id, {}, status === 'paused' ? 'pause' : 'unpause');
    say(process.stdout, `${word}\n`);
  }
}
