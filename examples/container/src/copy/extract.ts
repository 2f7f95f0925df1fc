import { fstatSync } from 'node:fs';
import { attempt, Fd, O, openHow, RESOLVE } from '@iso/sys';
import { Extractor, type ExtractWarning, type TarEntry, TarParser } from '@iso/unionfs';
import { UsageError } from '../options.js';

const NUL = Buffer.alloc(1);
/** An archive from somewhere may be a bomb. */
const LIMITS = { entries: 10_000_000, bytes: 2 ** 40 };

/**
 * Unpacks an archive in a directory: what is there stays, but no directory takes the place of something else, nor the other way round.
 *
 * @param source - the archive, not compressed
 * @param directory - where it goes; nothing outside of it is reached
 * @param options - `owners`: whose the files were they stay, else they are the caller's
 * @param warn - told of what could not be made as it was
 */
export async function extractInto(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  directory: Fd,
  options: { owners: boolean },
  warn: (warning: ExtractWarning) => void,
): Promise<void> {
  using extractor = new Extractor(
    directory,
    { owner: options.owners ? 'archive' : 'caller', unsupported: 'warn' },
    warn,
  );
  const parser = new TarParser(
    {
      entry(entry: TarEntry) {
        inTheWay(directory, entry);
        // The directory itself is not what is copied.
        if (!/^(\.?\/)*\.?$/.test(entry.path.toString('latin1'))) extractor.entry(entry);
      },
      data: (bytes, offset) => extractor.data(bytes, offset),
      end: () => extractor.end(),
    },
    LIMITS,
  );
  for await (const chunk of source) parser.write(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length));
  parser.finish();
  extractor.finish();
}

function inTheWay(directory: Fd, entry: TarEntry): void {
  const how = openHow(O.PATH | O.CLOEXEC | O.NOFOLLOW, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
  const path = entry.path.toString('latin1').replace(/\/+$/, '');
  const opened = attempt(
    'openat2',
    directory,
    Buffer.concat([Buffer.from(path || '.', 'latin1'), NUL]),
    how,
    how.length,
  );
  if (opened < 0) return;
  using there = Fd.own(opened);
  const is = fstatSync(there.number).isDirectory();
  if (is === (entry.type === 'directory')) return;
  const what = is ? 'a directory: a file' : 'no directory: one';
  throw new UsageError(`${entry.path} is ${what} cannot be copied there`);
}
