import { Command } from 'commander';
import { UsageError } from '../options.js';
import { openEnd, waitForEnd } from '../state/held.js';
import { home } from '../state/home.js';
import { lookUp } from '../state/record.js';
import { isOver } from '../supervise/end.js';
import { each } from './each.js';

/** `iso wait`. */
export const wait = new Command('wait')
  .description('wait until containers have ended, and print their exit codes')
  .argument('<container...>', 'name or id')
  .action(async (words: string[]) => {
    // Those that are named are there now, however long the first of them takes.
    const ends = words.map(endOf);
    await each(words, () => ends.shift()?.());
  });

/** What waits for the end of a container, though its record may go meanwhile. */
function endOf(word: string): () => number {
  const state = lookUp(home(), word);
  const { id, exitCode = 0 } = state;
  if (isOver(state)) return () => exitCode;
  const end = openEnd(home(), id);
  if (!end) throw new UsageError(`no such container: ${word}`);
  return () => waitForEnd(home(), id, end);
}
