import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isatty } from 'node:tty';
import { exportImages } from '@iso/unionfs';
import { Command, Option } from 'commander';
import { findImage, openLayout } from '../image/images.js';
import { progress } from '../image/progress.js';
import { writeWhole } from '../image/write.js';
import { UsageError } from '../options.js';
import { home } from '../state/home.js';

/** `iso save`. */
export const save = new Command('save')
  .description('write images to an archive')
  .argument('<image...>')
  .option('-o, --output <file>', 'default standard output')
  .addOption(
    new Option('--format <format>', 'rootfs: the files of one image')
      .choices(['docker-archive', 'oci-archive', 'rootfs'])
      .default('docker-archive'),
  )
  .action(async (words: string[], flags: { output?: string; format: 'docker-archive' | 'oci-archive' | 'rootfs' }) => {
    if (!flags.output && isatty(1)) throw new UsageError('an archive is not for a terminal: use -o or redirect');
    const layout = await openLayout(home());
    const chosen = [];
    for (const word of words) chosen.push(await findImage(layout, word));
    const bar = flags.output ? progress('saving') : undefined;
    const progressed = bar ? { onProgress: bar.layer } : {};
    const archive = Readable.from(exportImages(chosen, { format: flags.format, ...progressed }), { objectMode: false });
    try {
      if (flags.output) await writeWhole(archive, flags.output);
      else await pipeline(archive, process.stdout);
    } finally {
      bar?.close();
    }
  });
