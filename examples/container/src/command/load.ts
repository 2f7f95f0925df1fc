import { importImages } from '@iso/unionfs';
import { Command } from 'commander';
import { openLayout, wholeName } from '../image/images.js';
import { progress } from '../image/progress.js';
import { shortName } from '../image/short-name.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso load`. */
export const load = new Command('load')
  .description('bring in images from an archive of docker save or an OCI layout, compressed or not')
  .option('-i, --input <file>', 'archive or directory; default standard input')
  .option('-q, --quiet', 'no progress')
  .action(async (flags: { input?: string; quiet?: boolean }) => {
    const layout = await openLayout(home());
    const bar = progress('loading');
    const { images } = await importImages(layout, flags.input ?? process.stdin, {
      name: (name) => (name === undefined ? undefined : wholeName(name)),
      ...(flags.quiet ? {} : { onProgress: bar.layer }),
    }).finally(bar.close);
    for (const { name, descriptor } of images) {
      const what =
        name === undefined ? `image ID: ${(await layout.image(descriptor)).id}` : `image: ${shortName(name)}`;
      say(process.stdout, `Loaded ${what}\n`);
    }
  });
