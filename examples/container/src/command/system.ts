import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { collect, findSnapshots, imageSize, openLayout, total } from '../image/images.js';
import { usedImages } from '../image/used.js';
import { say } from '../say.js';
import { clean } from '../state/clean.js';
import { discardOver } from '../state/document.js';
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
    await using store = await findSnapshots(home());
    let bytes = 0;
    let images = 0;
    for (const { descriptor } of await layout.list()) {
      images++;
      bytes += imageSize(await layout.image(descriptor).catch(() => undefined));
    }
    const free = total(await layout.gc({ dryRun: true }));
    let snapshots = 0;
    for await (const _ of store?.walk() ?? []) snapshots++;
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
  .description('remove containers that do not run, images without a name, and what nothing needs any more')
  .option('-a, --all', 'images with a name too, where no container is of them')
  .option('-f, --force', 'do not ask')
  .action(async ({ all, force }: { all?: boolean; force?: boolean }) => {
    if (!force && !(await agreed(all ?? false))) return;
    const ids = discardOver(home());
    await clean(home());
    if (ids.length) say(process.stdout, `Deleted Containers:\n${ids.map((id) => `${id}\n`).join('')}\n`);
    const layout = await openLayout(home());
    const used = usedImages(home());
    for (const { name, descriptor } of await layout.list())
      if ((name === undefined || all) && !used.has(descriptor.digest)) await layout.untag(name ?? descriptor.digest);
    await using store = await findSnapshots(home());
    const { blobs } = await collect(layout, store);
    say(process.stdout, `Total reclaimed space: ${size(total(blobs))}\n`);
  });

/** As docker: who says nothing has not agreed. */
async function agreed(all: boolean): Promise<boolean> {
  const images = all ? 'all images that no container is of' : 'all images without a name';
  say(process.stdout, `This removes all containers that do not run, and ${images}. Go on? [y/N] `);
  const lines = createInterface({ input: process.stdin });
  const answer = await new Promise<string>((resolve) => {
    lines.once('line', resolve).once('close', () => resolve(''));
  });
  lines.close();
  return /^y(es)?$/i.test(answer.trim());
}
