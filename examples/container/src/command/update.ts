import { Command } from 'commander';
import { openCgroup } from '../control.js';
import { UsageError } from '../options.js';
import { limitsOf, type Resources, setShares } from '../resources.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { findContainer, updateContainer } from '../state/record.js';
import { resourceOptions, resourcesOf } from './resources.js';

/** `iso update`. */
export const update = resourceOptions(new Command('update'))
  .description('change the limits of containers that run')
  .argument('<container...>', 'name or id')
  .option('--plan', 'print what would be written, and write nothing')
  .action(async (words: string[], flags: Resources & { plan?: boolean }) => {
    const resources = resourcesOf(flags);
    if (Object.keys(resources).length === 0) throw new UsageError('there is no limit to change: see iso update --help');
    for (const word of words) {
      const container = findContainer(home(), word);
      using cgroup = await openCgroup(container);
      const { memory } = cgroup.stats({ only: ['memory'] });
      const [most, swap] = [memory?.max ?? 'max', memory?.swap?.max ?? 'max'];
      const limits = limitsOf(resources, { memory: most, swap });
      if (flags.plan) {
        for (const { file, value } of cgroup.plan(limits)) {
          const shares = file === 'cpu.shares' && resources.cpuShares !== undefined;
          say(process.stdout, `${file} ${shares ? resources.cpuShares : value}\n`);
        }
        continue;
      }
      await cgroup.set(limits);
      setShares(cgroup, resources);
      // Its next run has them too.
      updateContainer(home(), container.id, ({ flags }) => ({ flags: { ...flags, ...resources } }), 'update');
      say(process.stdout, `${word}\n`);
    }
  });
