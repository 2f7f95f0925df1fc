import type { TarEntry } from './entry.js';
import { type TarLimits, TarParser } from './parser.js';

/** An entry with its content, see {@link readTar}. */
export interface ArchivedEntry extends TarEntry {
  /**
   * Its content as it comes, with the zeros of a sparse file. What is not read is skipped when the next entry is asked for.
   */
  content: AsyncIterableIterator<Buffer>;
}

type Item = { entry: TarEntry } | { bytes: Buffer; offset: number } | 'end';

/** Zeros of a hole come in pieces of this size. */
const HOLE = Buffer.alloc(65536);

/**
 * Walks an archive entry by entry.
 *
 * @param source - its bytes, uncompressed
 * @param options - limits; `signal` ends the walk
 * @returns entries in the archive's order
 * @throws ArchiveError for what is no archive, the signal's reason where it was aborted
 *
 * @example
 * ```ts
 * import { readTar, tarEnd, tarHeader } from '@iso/unionfs';
 * const header = tarHeader({ path: Buffer.from('a'), type: 'file', mode: 0o644, uid: 0, gid: 0, size: 2, mtime: 0n });
 * for await (const entry of readTar([header, Buffer.from('hi'), Buffer.alloc(510), tarEnd()])) {
 *   for await (const bytes of entry.content) if (bytes.toString() !== 'hi') throw new Error('other content');
 * }
 * ```
 */
export async function* readTar(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: TarLimits & { signal?: AbortSignal } = {},
): AsyncGenerator<ArchivedEntry, void, undefined> {
  const items: Item[] = [];
  const parser = new TarParser(
    {
      entry: (entry) => items.push({ entry }),
      // The source's buffer may be used again once the next chunk is asked for, so it is kept until the items are gone.
      data: (bytes, offset) => items.push({ bytes, offset }),
      end: () => items.push('end'),
    },
    options,
  );
  const chunks = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let finished = false;
  const next = async (): Promise<Item | undefined> => {
    while (items.length === 0 && !finished) {
      options.signal?.throwIfAborted();
      const { done, value } = await chunks.next();
      if (done) {
        finished = true;
        parser.finish();
      } else parser.write(value);
    }
    return items.shift();
  };
  try {
    for (let item = await next(); item; item = await next()) {
      if (typeof item !== 'object' || !('entry' in item)) continue;
      const content = contentOf(item.entry.size, next);
      yield Object.assign(item.entry, { content });
      for await (const _ of content);
    }
  } finally {
    if (!finished) await chunks.return?.();
  }
}

async function* contentOf(
  size: number,
  next: () => Promise<Item | undefined>,
): AsyncGenerator<Buffer, void, undefined> {
  let place = 0;
  for (let item = await next(); item && item !== 'end'; item = await next()) {
    if ('entry' in item) throw new Error('an entry inside another');
    for (const zeros of holes(place, item.offset)) yield zeros;
    yield item.bytes;
    place = item.offset + item.bytes.length;
  }
  for (const zeros of holes(place, size)) yield zeros;
}

function* holes(from: number, to: number): Generator<Buffer, void, undefined> {
  for (let at = from; at < to; at += HOLE.length) yield HOLE.subarray(0, Math.min(HOLE.length, to - at));
}
