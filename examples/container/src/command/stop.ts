import { Command, Option } from 'commander';
import { parseSignal } from '../signal.js';
import { home } from '../state/home.js';
import { lookUp, updateContainer } from '../state/record.js';
import { stop as stopContainer } from '../supervise/end.js';
import { each } from './each.js';
import { parseSeconds } from './life-options.js';
import { startOne } from './start.js';

interface StopFlags {
  signal?: number;
  timeout?: number;
  time?: number;
}

/** Docker has had both names for the seconds. */
function stopOptions(command: Command): Command {
  return command
    .argument('<container...>', 'name or id')
    .option('-s, --signal <signal>', 'what it is asked by, default its own', parseSignal)
    .option('-t, --timeout <seconds>', 'until it is killed, default its own; -1: never', parseSeconds('--timeout'))
    .addOption(new Option('--time <seconds>').argParser(parseSeconds('--time')).hideHelp());
}

function stopOne(word: string, { signal, time, timeout: seconds = time }: StopFlags): Promise<void> {
  return stopContainer(home(), lookUp(home(), word), {
    ...(signal === undefined ? {} : { signal }),
    ...(seconds === undefined ? {} : { seconds }),
  });
}

/** `iso stop`. */
export const stop = stopOptions(new Command('stop'))
  .description('ask containers to end, and kill those that do not')
  .action((words: string[], flags: StopFlags) => each(words, (word) => stopOne(word, flags)));

/** `iso restart`. */
export const restart = stopOptions(new Command('restart'))
  .description('stop containers, and start them again')
  .action((words: string[], flags: StopFlags) =>
    each(words, async (word) => {
      const { id, autoRemove } = lookUp(home(), word);
      // This end is not the one that it goes with.
      if (autoRemove) updateContainer(home(), id, { autoRemove: false });
      try {
        await stopOne(id, flags);
        await startOne(id, 'restart');
      } finally {
        if (autoRemove) updateContainer(home(), id, { autoRemove });
      }
    }),
  );
