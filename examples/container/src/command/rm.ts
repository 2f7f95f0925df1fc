import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { UsageError } from '../options.js';
import { clean } from '../state/clean.js';
import { containerDirectory, discard, lockAll, readOne, runnerLock, unreadable } from '../state/document.js';
import { home } from '../state/home.js';
import { isLocked } from '../state/lock.js';
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
      if (!container) return await removeUnreadable(word);
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

/** What nothing else can be done with: it is known by its id alone. */
async function removeUnreadable(word: string): Promise<void> {
  const id = /^[0-9a-f]+$/.test(word) ? takeUnreadable(word) : undefined;
  // A layer by another storage driver than the usual one is not found by that.
  if (id === undefined || !existsSync(join(home(), 'snapshots'))) return;
  const { removeLayer } = await import('../image/root.js');
  await removeLayer(home(), id, undefined);
}

function takeUnreadable(word: string): string | undefined {
  using _one = lockAll(home());
  const [id, other] = unreadable(home(), word);
  if (id === undefined) return undefined;
  if (other !== undefined) throw new UsageError(`more than one container has an id that begins with ${word}`);
  if (isLocked(runnerLock(home(), id)))
    throw new UsageError(`container ${word} runs, and its record cannot be read: end its supervisor first`);
  rmSync(containerDirectory(home(), id), { recursive: true, force: true });
  return id;
}
