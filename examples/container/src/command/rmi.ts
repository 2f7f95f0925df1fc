import { Command } from 'commander';
import { collect, findImage, findSnapshots, openLayout } from '../image/images.js';
import { shortName } from '../image/short-name.js';
import { usedImages } from '../image/used.js';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso rmi`. */
export const rmi = new Command('rmi')
  .description('take names of images away, and with the last one what only that image needs')
  .argument('<image...>', 'a name, or an id: then all of its names')
  .option('-f, --force', 'by id also where it has several names')
  .action(async (words: string[], flags: { force?: boolean }) => {
    const layout = await openLayout(home());
    for (const word of words) {
      const { image, name } = await findImage(layout, word);
      const names = (await layout.list()).filter(({ descriptor }) => descriptor.digest === image.digest);
      if (name === undefined && names.length > 1 && !flags.force)
        throw new UsageError(`image ${word} has several names: use -f to take all of them away`);
      const user = usedImages(home()).get(image.digest);
      if (user !== undefined && (name === undefined || names.length === 1))
        throw new UsageError(`image ${word} is used by container ${user}: remove that first`);
      for (const gone of await layout.untag(name ?? image.digest))
        say(process.stdout, `Untagged: ${shortName(gone)}\n`);
    }
    await using store = await findSnapshots(home());
    for (const { digest } of (await collect(layout, store)).blobs) say(process.stdout, `Deleted: ${digest}\n`);
  });
