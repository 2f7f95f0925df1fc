import { statSync } from 'node:fs';
import { join } from 'node:path';
import { importImages, packTree } from '@iso/unionfs';
import { Command } from 'commander';
import { openLayout, wholeName } from '../image/images.js';
import { progress } from '../image/progress.js';
import { UsageError } from '../options.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

/** `iso import`. */
export const import_ = new Command('import')
  .description('make an image of a root file system: a directory, a tar archive, or - for an archive on standard input')
  .argument('<source>')
  .argument('[name]', 'REPOSITORY[:TAG]')
  .action(async (source: string, name?: string) => {
    const layout = await openLayout(home());
    const whole = name === undefined ? undefined : wholeName(name);
    const bar = progress('importing');
    const { images } = await importImages(layout, open(source), {
      ...(whole === undefined ? {} : { name: whole }),
      onProgress: bar.layer,
    }).finally(bar.close);
    for (const { descriptor } of images) say(process.stdout, `${(await layout.image(descriptor)).id}\n`);
  });

function open(source: string): string | AsyncIterable<Uint8Array> {
  if (source === '-') return process.stdin;
  const info = statSync(source, { throwIfNoEntry: false });
  if (!info) throw new UsageError(`${source} is not there`);
  // A layout of images is a directory too.
  return info.isDirectory() && !statSync(join(source, 'oci-layout'), { throwIfNoEntry: false }) ? pack(source) : source;
}

async function* pack(directory: string): AsyncGenerator<Uint8Array> {
  yield* packTree(directory);
}
