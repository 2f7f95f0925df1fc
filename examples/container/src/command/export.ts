import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isatty } from 'node:tty';
import { packTree } from '@iso/unionfs';
import { Command } from 'commander';
import { cloneRoot } from '../copy/root.js';
import { writeWhole } from '../image/write.js';
import { UsageError } from '../options.js';
import { home } from '../state/home.js';

/** `iso export`. */
export const export_ = new Command('export')
  .description('write the files of a container to an archive, without what is mounted in it')
  .argument('<container>')
  .option('-o, --output <file>', 'default standard output')
  .action(async (word: string, flags: { output?: string }) => {
    if (!flags.output && isatty(1)) throw new UsageError('an archive is not for a terminal: use -o or redirect');
    using root = await cloneRoot(home(), word);
    const archive = Readable.from(packTree(root.fd), { objectMode: false });
    if (flags.output) await writeWhole(archive, flags.output);
    else await pipeline(archive, process.stdout);
  });
