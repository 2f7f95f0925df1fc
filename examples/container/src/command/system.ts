import { Command } from 'commander';
import { collect, imageSize, openLayout, openSnapshots, total } from '../image/images.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { listContainers } from '../state/record.js';
import { size, table } from '../table.js';

/** `iso system`. */
export const system = new Command('system').description('what is kept on disk');

system
  .command('df')
  .description('show how much of the disk is taken')
  .action(async () => {
    const layout = await openLayout(home());
    await using store = await openSnapshots(home());
    let bytes = 0;
    let images = 0;
    for (const { descriptor } of await layout.list()) {
      images++;
      bytes += imageSize(await layout.image(descriptor).catch(() => undefined));
    }
    const free = total(await layout.gc({ dryRun: true }));
    let snapshots = 0;
    for await (const _ of store.walk()) snapshots++;
    say(
      process.stdout,
      `${table([
        ['TYPE', 'TOTAL', 'SIZE', 'RECLAIMABLE'],
        ['Images', String(images), size(bytes), size(free)],
        ['Snapshots', String(snapshots), '', ''],
        ['Containers', String(listContainers(home()).length), '', ''],
      ]).join('\n')}\n`,
    );
  });

system
  .command('prune')
  .description('remove what no image and no container needs')
  .action(async () => {
    const layout = await openLayout(home());
    await using store = await openSnapshots(home());
    const { blobs } = await collect(layout, store);
    say(process.stdout, `Total reclaimed space: ${size(total(blobs))}\n`);
  });
