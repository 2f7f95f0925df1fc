import { Command } from 'commander';
import { describe } from '../inspect/container.js';
import { render } from '../inspect/template.js';
import { say } from '../say.js';
import { clean } from '../state/clean.js';
import { home } from '../state/home.js';
import { lookUp } from '../state/record.js';

/** `iso inspect`. */
export const inspect = new Command('inspect')
  .description('print what is known of containers, as JSON')
  .argument('<container...>', 'name or id')
  .option('-f, --format <template>', 'instead of all, such as {{.State.Status}}; json: in one line')
  .option('--type <type>', 'accepted: container')
  .action(async (words: string[], { format }: { format?: string }) => {
    await clean(home());
    const found = await Promise.all(words.map((word) => describe(home(), lookUp(home(), word))));
    if (format === undefined) return say(process.stdout, `${JSON.stringify(found, null, 4)}\n`);
    if (format === 'json') return say(process.stdout, `${JSON.stringify(found)}\n`);
    for (const one of found) say(process.stdout, `${render(format, one)}\n`);
  });
