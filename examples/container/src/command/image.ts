import { Command } from 'commander';
import { collect, findImage, findSnapshots, imageSize, openLayout, total } from '../image/images.js';
import { usedImages } from '../image/used.js';
import { formatted, show } from '../inspect/show.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { size } from '../table.js';

/** `iso image`. */
export const image = new Command('image').description('look at images, clear them up');

formatted(image.command('inspect'))
  .description('print what an image is, as JSON')
  .argument('<image...>')
  .action(async (words: string[], { format }: { format?: string }) => {
    const layout = await openLayout(home());
    const all = await layout.list();
    const found = [];
    for (const word of words) {
      const { image: shown } = await findImage(layout, word);
      const { id, digest, config } = shown;
      found.push({
        Id: id,
        RepoTags: all.filter(({ descriptor }) => descriptor.digest === digest).flatMap(({ name }) => name ?? []),
        Digest: digest,
        Created: config.created,
        Author: config.author,
        Architecture: config.architecture,
        Os: config.os,
        Size: imageSize(shown),
        Config: config.config ?? {},
        RootFS: { Type: 'layers', Layers: config.rootfs.diff_ids },
      });
    }
    show(found, format);
  });

image
  .command('prune')
  .description('remove images without a name, and what no image needs')
  .option('-a, --all', 'those with a name too')
  .option('--dry-run', 'only tell')
  .action(async (flags: { all?: boolean; dryRun?: boolean }) => {
    const layout = await openLayout(home());
    const used = usedImages(home());
    if (!flags.dryRun)
      for (const { name, descriptor } of await layout.list())
        if ((name === undefined || flags.all) && !used.has(descriptor.digest))
          await layout.untag(name ?? descriptor.digest);
    await using store = await findSnapshots(home());
    const { blobs } = await collect(layout, store, { dryRun: flags.dryRun ?? false });
    for (const { digest } of blobs) say(process.stdout, `Deleted: ${digest}\n`);
    say(process.stdout, `Total reclaimed space: ${size(total(blobs))}\n`);
  });
