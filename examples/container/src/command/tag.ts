import { Command } from 'commander';
import { findImage, openLayout, wholeName } from '../image/images.js';
import { home } from '../state/home.js';

/** `iso tag`. */
export const tag = new Command('tag')
  .description('give an image another name')
  .argument('<image>')
  .argument('<name>', 'REPOSITORY[:TAG]')
  .action(async (word: string, name: string) => {
    const layout = await openLayout(home());
    await layout.tag(wholeName(name), (await findImage(layout, word)).image);
  });
