import { Command } from 'commander';
import { UsageError } from '../options.js';
import { clean } from '../state/clean.js';
import { discard, lockAll, readOne } from '../state/document.js';
import { home } from '../state/home.js';
import { lookUp, search } from '../state/record.js';
import { isOver, killNow } from '../supervise/end.js';
import { each } from './each.js';

/** `iso rm`. */
export const rm = new Command('rm')
  .description('remove containers that do not run')
  .argument('<container...>', 'name or id')
  .option('-f, --force', 'kill those that run; who is not there is no matter')
  .option('-v, --volumes', 'accepted: there are none but those of the host')
  .action((words: string[], { force = false }: { force?: boolean }) =>
    each(words, async (word) => {
      const container = force ? search(home(), word) : lookUp(home(), word);
      if (!container) return;
      if (!isOver(container) && force) await killNow(home(), container);
      remove(container.id, word);
      await clean(home());
    }),
  );

function remove(id: string, word: string): void {
  using _one = lockAll(home());
  const state = readOne(home(), id);
  // It went with its end.
  if (!state) return;
  if (!isOver(state))
    throw new UsageError(`container ${word} is ${state.status}: stop it before it is removed, or use -f`);
  discard(home(), state);
}
