import { commitImage, type RunConfig } from '@iso/unionfs';
import { Command } from 'commander';
import { findSnapshot } from '../image/container.js';
import { openLayout, openSnapshots, wholeName } from '../image/images.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso commit`. */
export const commit = new Command('commit')
  .description('make an image of what a container has changed')
  .argument('<container>')
  .argument('[name]', 'REPOSITORY[:TAG]')
  .option('-a, --author <author>')
  .option('-m, --message <text>')
  .action(async (word: string, name: string | undefined, flags: { author?: string; message?: string }) => {
    const whole = name === undefined ? undefined : wholeName(name);
    const { id, image: digest, command, storageDriver } = findSnapshot(home(), word);
    const layout = await openLayout(home());
    await using store = await openSnapshots(home(), storageDriver);
    using _kept = await layout.content.hold();
    const base = await layout.image(digest);
    const config: RunConfig = base.config.config ?? {};
    const made = await commitImage(layout, store.writeLayer(id), {
      base,
      config,
      createdBy: command.join(' '),
      ...(flags.author === undefined ? {} : { author: flags.author }),
      ...(flags.message === undefined ? {} : { comment: flags.message }),
    });
    if (whole === undefined) await layout.add(made);
    else await layout.tag(whole, made);
    say(process.stdout, `${made.id}\n`);
  });
