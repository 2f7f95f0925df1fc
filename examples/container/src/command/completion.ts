import { Argument, Command } from 'commander';
import { ASK } from '../completion/ask.js';
import { complete } from '../completion/complete.js';
import { shells } from '../completion/shells.js';
import { pass, say } from '../say.js';
import { home } from '../state/home.js';
import { listContainers } from '../state/record.js';

const ONLY_SHELL = 3;

/** `iso completion`. */
export const completion = new Command('completion')
  .description('print what a shell is to read to complete what is typed: source <(iso completion bash)')
  .addArgument(new Argument('<shell>').choices(Object.keys(shells)))
  .action((shell: keyof typeof shells) => say(process.stdout, shells[shell]));

/** What shells call. */
export const ask = new Command(ASK).argument('[word...]').action(async (words: string[]) => {
  const { commands, load } = await import('../commands.js');
  const [first = ''] = words;
  // A command with what it needs takes time to load: only the one that is meant, once that is known.
  const iso = await load(words.length > 1 && Object.hasOwn(commands, first) ? [first] : undefined);
  const found = await complete(iso, words, names);
  // By this the shell knows whether files are possible.
  if (!found) process.exitCode = ONLY_SHELL;
  else pass(process.stdout, found.map(({ word, description }) => `${word}\t${description}\n`).join(''));
});

async function names(kind: 'container' | 'image' | 'network'): Promise<readonly string[]> {
  if (kind === 'container') return listContainers(home()).map(({ name }) => name);
  if (kind === 'network') {
    try {
      using networks = (await import('../network/networks.js')).openNetworks();
      return networks.list().map(({ name }) => name);
    } catch {
      // Of plain users.
      return [];
    }
  }
  const { openLayout } = await import('../image/images.js');
  const { shortName } = await import('../image/short-name.js');
  return (await (await openLayout(home())).list()).flatMap(({ name }) => (name === undefined ? [] : shortName(name)));
}
