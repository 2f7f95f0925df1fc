import { parsePlatform } from '@iso/unionfs';
import { Command } from 'commander';
import { openLayout } from '../image/images.js';
import { pull as pullInto } from '../image/pull.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso pull`. */
export const pull = new Command('pull')
  .description('fetch an image from its registry')
  .argument('<image>', '[REGISTRY/]REPOSITORY[:TAG|@DIGEST]')
  .option('--platform <platform>', 'OS/ARCHITECTURE[/VARIANT], default this machine’s')
  .option('--plain-http', 'without encryption; a registry of this machine always is spoken to so')
  .action(async (name: string, flags: { platform?: string; plainHttp?: boolean }) => {
    const pulled = await pullInto(await openLayout(home()), name, {
      plainHttp: flags.plainHttp,
      platform: flags.platform === undefined ? undefined : parsePlatform(flags.platform),
    });
    say(process.stdout, `${pulled.name}\n`);
  });
