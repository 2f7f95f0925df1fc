import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isatty } from 'node:tty';
import { Fd } from '@iso/sys';
import { packPath } from '@iso/unionfs';
import { Command } from 'commander';
import { extractInto } from '../copy/extract.js';
import { absolute, findTarget, isDirectory, type Place, splitPlace } from '../copy/place.js';
import { type ContainerRoot, openRoot } from '../copy/root.js';
import { UsageError } from '../options.js';
import { complain } from '../say.js';
import { home } from '../state/home.js';

interface CopyFlags {
  archive?: boolean;
  followLink?: boolean;
  quiet?: boolean;
}

/** `iso cp`. */
export const cp = new Command('cp')
  .description('copy files between a container and here; - is an archive on a standard stream')
  .argument('<source>', 'CONTAINER:PATH, a path, or -')
  .argument('<target>', 'the same')
  .option('-a, --archive', 'owners stay who they were')
  .option('-L, --follow-link', 'copy what a symbolic link at the end of SOURCE leads to')
  .option('-q, --quiet', 'accepted: nothing is shown')
  .action(async (source: string, target: string, flags: CopyFlags) => {
    const [from, to] = [splitPlace(source), splitPlace(target)];
    if ((from.container === undefined) === (to.container === undefined)) {
      throw new UsageError('one of source and target is CONTAINER:PATH, the other one is not');
    }
    const follow = flags.followLink ?? false;
    using there = from.path === '-' && from.container === undefined ? undefined : await open(source, from, true);
    if (to.container === undefined && to.path === '-') {
      if (isatty(1)) throw new UsageError('an archive is not for a terminal: redirect it');
      const { root, path } = there as Place;
      return await pipeline(Readable.from(packPath(root, path, { follow }), { objectMode: false }), process.stdout);
    }
    using here = await open(target, to, false);
    const directory = there && isDirectory(there, follow);
    const found = findTarget(here, there && { path: there.path, directory: directory as boolean });
    using into = found.directory;
    const archive = there ? packPath(there.root, there.path, { follow, name: found.name }) : process.stdin;
    await extractInto(archive, into, { owners: flags.archive ?? false }, ({ message }) => complain(message));
  });

async function open(
  text: string,
  place: { container?: string; path: string },
  readonly: boolean,
): Promise<Place & Disposable> {
  const { container, path } = place;
  const root = container === undefined ? ownRoot() : await openRoot(home(), container, { readonly });
  return {
    root: root.fd,
    path: absolute(path, container !== undefined),
    text,
    [Symbol.dispose]: () => root[Symbol.dispose](),
  };
}

function ownRoot(): ContainerRoot {
  const fd = Fd.open('/', { directory: true, path: true });
  return { fd, [Symbol.dispose]: () => fd.close() };
}
