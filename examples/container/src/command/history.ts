import { Command } from 'commander';
import { findImage, openLayout } from '../image/images.js';
import { shortId } from '../image/short-name.js';
import { since } from '../inspect/ago.js';
import { listing } from '../inspect/listing.js';
import { say } from '../say.js';
import { home } from '../state/home.js';
import { size } from '../table.js';

const columns = [
  ['IMAGE', 'ID'],
  ['CREATED', 'CreatedSince'],
  ['CREATED BY', 'CreatedBy'],
  ['SIZE', 'Size'],
  ['COMMENT', 'Comment'],
] as const;

/** `iso history`. */
export const history = new Command('history')
  .description('show the steps that an image was made by, the last first')
  .argument('<image>')
  .option('-q, --quiet', 'only ids')
  .option('--no-trunc', 'ids and steps in full')
  .option('--format <format>', 'json, table, or a template, such as {{.CreatedBy}}')
  .action(async (word: string, flags: { quiet?: boolean; trunc: boolean; format?: string }) => {
    const { image } = await findImage(await openLayout(home()), word);
    let layer = 0;
    const steps = image.history.map(({ created = '', created_by = '', comment = '', empty_layer }) => ({
      // What there was before it is no image of its own.
      ID: '<missing>',
      CreatedAt: created,
      CreatedSince: created && `${since(created)} ago`,
      CreatedBy: flags.trunc ? created_by.slice(0, 45) : created_by,
      Size: size(empty_layer ? 0 : (image.layers[layer++]?.descriptor.size ?? 0)),
      Comment: comment,
    }));
    const last = steps.at(-1);
    if (last) last.ID = flags.trunc ? shortId(image.id) : image.id;
    const rows = steps.reverse();
    const lines = flags.quiet ? rows.map(({ ID }) => ID) : listing(rows, flags.format ?? 'table', columns);
    if (lines.length) say(process.stdout, `${lines.join('\n')}\n`);
  });
