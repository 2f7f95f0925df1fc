import { Command } from 'commander';
import { parseSignal } from '../signal.js';
import { waitForEnd } from '../state/held.js';
import { home } from '../state/home.js';
import { findContainer } from '../state/record.js';
import { sendSignal } from '../supervise/end.js';
import { each } from './each.js';

const SIGKILL = 9;

/** `iso kill`. */
export const kill = new Command('kill')
  .description('send a signal to the first process of containers')
  .argument('<container...>', 'name or id')
  .option('-s, --signal <signal>', 'name or number', 'KILL')
  .action(async (words: string[], { signal }: { signal: string }) => {
    const number = parseSignal(signal);
    await each(words, async (word) => {
      const container = findContainer(home(), word);
      using pidfd = await sendSignal(home(), container, number);
      if (pidfd && number === SIGKILL) waitForEnd(home(), container.id);
    });
  });
