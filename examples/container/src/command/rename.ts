import { Command } from 'commander';
import { home } from '../state/home.js';
import { renameContainer } from '../state/record.js';

/** `iso rename`. */
export const rename = new Command('rename')
  .description('give a container another name')
  .argument('<container>', 'name or id')
  .argument('<name>', 'the new one')
  .action((word: string, name: string) => renameContainer(home(), word, name));
