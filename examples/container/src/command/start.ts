import { terminalSize } from '@iso/process';
import { Command } from 'commander';
import { attachTo } from '../attach/attach.js';
import { parseDetachKeys } from '../attach/detach-keys.js';
import { type Filters, matches, parseFilter } from '../inspect/filter.js';
import { UsageError } from '../options.js';
import { clean } from '../state/clean.js';
import { HeldRecord, waitForEnd } from '../state/held.js';
import { home } from '../state/home.js';
import { isLive, listContainers, lookUp, updateContainer } from '../state/record.js';
import { isOver } from '../supervise/end.js';
import { launchSupervisor } from '../supervise/launch.js';
import { each } from './each.js';
import { attachOptions } from './life-options.js';

interface StartFlags {
  attach?: boolean;
  interactive?: boolean;
  all?: boolean;
  filter?: Filters;
  detachKeys?: string;
  sigProxy: boolean;
}

/** `iso start`. */
export const start = attachOptions(new Command('start'))
  .description('start containers that do not run')
  .argument('[container...]', 'name or id')
  .option('-a, --attach', 'attach to its output, pass signals on')
  .option('-i, --interactive', 'attach to its input')
  .option('--all', 'all that do not run, or those of them that --filter names')
  .option('-f, --filter <filter>', 'as of ps: restart-policy=always, should-start-on-boot=true', parseFilter)
  .action(async (given: string[], flags: StartFlags) => {
    await clean(home());
    const words = named(given, flags);
    const [word] = words as [string];
    if (!flags.attach && !flags.interactive) return await each(words, (one) => startOne(one));
    if (words.length > 1) throw new UsageError('several containers cannot be attached to at once');
    process.exitCode = await attached(word, flags);
  });

/** Ids, where none are typed. */
function named(words: string[], { all, filter, attach, interactive }: StartFlags): string[] {
  if (!all && !filter) {
    if (words.length === 0) throw new UsageError('no container is named, and neither --all nor --filter is given');
    return words;
  }
  if (words.length) throw new UsageError('--all and --filter go with no names of containers');
  if (attach || interactive) throw new UsageError('--all and --filter go with neither -a nor -i');
  return listContainers(home())
    .filter((container) => isOver(container) && matches(container, filter ?? {}))
    .map(({ id }) => id);
}

/**
 * Starts a container that does not run; nothing where it does.
 *
 * @param word - its name or id
 * @param told - what others are told besides
 */
export async function startOne(word: string, told?: 'restart'): Promise<void> {
  if (isLive(lookUp(home(), word))) return;
  using record = HeldRecord.take(home(), word);
  using link = launchSupervisor(record, { attach: false });
  await link.started;
  if (told) updateContainer(home(), record.id, {}, told);
}

async function attached(word: string, flags: StartFlags): Promise<number> {
  using record = HeldRecord.take(home(), word);
  const { tty = false, interactive = false } = record.state.flags;
  using link = launchSupervisor(record, { attach: true, ...(tty ? { terminal: terminalSize() } : {}) });
  const exit = await attachTo(link, {
    tty,
    interactive: interactive && flags.interactive === true,
    sigProxy: flags.sigProxy,
    detachKeys: parseDetachKeys(flags.detachKeys),
    hangUp: true,
  });
  return exit === 'detached' ? 0 : exit === 'lost' ? waitForEnd(home(), record.id) : exit;
}
