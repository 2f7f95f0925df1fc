import { Command } from 'commander';
import { findSnapshot } from '../image/container.js';
import { openSnapshots } from '../image/images.js';
import { say } from '../say.js';
import { home } from '../state/home.js';

const letter = { add: 'A', modify: 'C', delete: 'D', opaque: 'C' } as const;

/** `iso diff`. */
export const diff = new Command('diff')
  .description('list what a container has changed of its image')
  .argument('<container>')
  .action(async (word: string) => {
    const { id, storageDriver } = findSnapshot(home(), word);
    await using store = await openSnapshots(home(), storageDriver);
    for await (const { kind, path } of store.changes(id)) say(process.stdout, `${letter[kind]} /${path}\n`);
  });
