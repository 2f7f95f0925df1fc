import { Command } from 'commander';
import { describe } from '../inspect/container.js';
import { formatted, show } from '../inspect/show.js';
import { clean } from '../state/clean.js';
import { home } from '../state/home.js';
import { lookUp } from '../state/record.js';

/** `iso inspect`. */
export const inspect = formatted(new Command('inspect'))
  .description('print what is known of containers, as JSON')
  .argument('<container...>', 'name or id')
  .option('--type <type>', 'accepted: container')
  .action(async (words: string[], { format }: { format?: string }) => {
    await clean(home());
    show(await Promise.all(words.map((word) => describe(home(), lookUp(home(), word)))), format);
  });
