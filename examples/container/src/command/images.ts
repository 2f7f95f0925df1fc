import type { Image } from '@iso/unionfs';
import { Command } from 'commander';
import { imageSize, openLayout } from '../image/images.js';
import { shortId, shortName } from '../image/short-name.js';
import { since } from '../inspect/ago.js';
import { type Column, listing } from '../inspect/listing.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { size } from '../table.js';

interface ImagesFlags {
  quiet?: boolean;
  digests?: boolean;
  trunc: boolean;
  format?: string;
}

/** What `images` tells of an image, by docker's names. */
type Row = ReturnType<typeof describe>;

const columns: readonly Column<Row>[] = [
  ['REPOSITORY', 'Repository'],
  ['TAG', 'Tag'],
  ['DIGEST', 'Digest'],
  ['IMAGE ID', 'ID'],
  ['CREATED', 'CreatedSince'],
  ['SIZE', 'Size'],
];

/** `iso images`. */
export const images = new Command('images')
  .description('list images')
  .argument('[name]', 'REPOSITORY[:TAG]: only those')
  .option('-q, --quiet', 'only their ids')
  .option('--digests', 'with the digests by which registries know them')
  .option('--no-trunc', 'ids in full')
  .option('--format <format>', 'json, table, or a template, such as {{.Repository}}')
  .action(async (wanted: string | undefined, flags: ImagesFlags) => {
    const layout = await openLayout(home());
    const all = [];
    for (const { name, descriptor } of await layout.list()) {
      // An index may have no image for this machine.
      const image = await layout.image(descriptor).catch(() => undefined);
      all.push(describe(name, descriptor.digest, image, flags.trunc));
    }
    const rows = all.filter((row) => wanted === undefined || isCalled(row, shortName(wanted)));
    const shown = columns.filter(([, field]) => flags.digests || field !== 'Digest');
    const lines = flags.quiet ? rows.map(({ ID }) => ID) : listing(rows, flags.format ?? 'table', shown);
    if (lines.length) say(process.stdout, `${lines.join('\n')}\n`);
  });

function isCalled({ Repository, Tag }: Row, wanted: string): boolean {
  return wanted === Repository || wanted === `${Repository}:${Tag}`;
}

function describe(name: string | undefined, digest: string, image: Image | undefined, short: boolean) {
  const [, repository = '', tag = '<none>'] = /^(.*?)(?::([^:/]+))?$/.exec(shortName(name ?? '')) ?? [];
  const id = image?.id ?? digest;
  const created = image?.config.created ?? '';
  return {
    Repository: repository || '<none>',
    Tag: tag,
    Digest: digest,
    ID: short ? shortId(id) : id,
    CreatedAt: created,
    CreatedSince: created && `${since(created)} ago`,
    Size: size(imageSize(image)),
  };
}
