import { dockerCredentials, pushImage } from '@iso/unionfs';
import { Command } from 'commander';
import { openLayout, wholeName } from '../image/images.js';
import { progress } from '../image/progress.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso push`. */
export const push = new Command('push')
  .description('send an image to the registry of its name')
  .argument('<image>', 'REGISTRY/REPOSITORY[:TAG]')
  .option('--plain-http', 'without encryption; a registry of this machine always is spoken to so')
  .action(async (name: string, flags: { plainHttp?: boolean }) => {
    const bar = progress('pushing');
    const { digest } = await pushImage(await openLayout(home()), wholeName(name), {
      credentials: dockerCredentials(),
      onProgress: bar.layer,
      ...(flags.plainHttp ? { plainHttp: true } : {}),
    }).finally(bar.close);
    say(process.stdout, `digest: ${digest}\n`);
  });
