import { Command } from 'commander';
import type { RunFlags } from '../recipe.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { make } from '../supervise/make.js';
import { CidFile } from './cidfile.js';
import { checkLife } from './life-options.js';
import { runOptions } from './run-options.js';

/** `iso create`. */
export const create = runOptions(new Command('create'))
  .description('make a container, and do not start it')
  .action(async (root: string, command: string[], given: RunFlags & { cidfile?: string }) => {
    const { cidfile, ...flags } = given;
    checkLife(flags);
    using file = cidfile === undefined ? undefined : new CidFile(cidfile);
    using record = await make(home(), { root, command, flags });
    record.complete();
    file?.write(record.id);
    say(process.stdout, `${record.id}\n`);
  });
