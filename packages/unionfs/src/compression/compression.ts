import { pipeline, Readable, Transform } from 'node:stream';
import zlib from 'node:zlib';
import { UnsupportedError } from '@iso/sys';
import { Decompress as Zstd } from 'fzstd';
import { ArchiveError } from '../tar/error.js';

/** How an archive is compressed. */
export type Compression = 'none' | 'gzip' | 'zstd';

const MAGIC: Readonly<Record<Exclude<Compression, 'none'>, Buffer>> = {
  gzip: Buffer.from([0x1f, 0x8b, 8]),
  zstd: Buffer.from([0x28, 0xb5, 0x2f, 0xfd]),
};
/** Other programs' magic numbers, for a message that says more than "not an archive". */
const FOREIGN: readonly [name: string, magic: Buffer][] = [
  ['bzip2', Buffer.from('BZh')],
  ['xz', Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a])],
];
/** The Zlib of Node 22.15 and 23.8 has zstd; its types are older. */
const nodeZstd = zlib as unknown as {
  createZstdDecompress?: () => Transform;
  createZstdCompress?: (options?: { params?: Record<number, number> }) => Transform;
};

/**
 * What the first bytes say of an archive's compression.
 *
 * @param bytes - at least the first six where there are so many
 * @returns the compression
 * @throws {@link ArchiveError} `ERR_ARCHIVE_COMPRESSION` for bzip2 and xz, which no layer may use
 */
export function detectCompression(bytes: Uint8Array): Compression {
  const starts = (magic: Buffer) => bytes.length >= magic.length && magic.compare(bytes, 0, magic.length) === 0;
  for (const [name, magic] of FOREIGN) {
    if (starts(magic)) {
      throw new ArchiveError('ERR_ARCHIVE_COMPRESSION', `the archive is compressed with ${name}`, {
        hint: 'layers are compressed with gzip or zstd, or not at all',
      });
    }
  }
  return starts(MAGIC.gzip) ? 'gzip' : starts(MAGIC.zstd) || isSkippable(bytes) ? 'zstd' : 'none';
}

/**
 * The bytes of an archive without their compression.
 *
 * @param source - as they come
 * @param expected - where known; else it is detected
 * @returns the bytes
 * @throws {@link ArchiveError} `ERR_ARCHIVE_COMPRESSION` for damaged data, or where another compression than the expected one is found
 */
export async function* decompress(
  source: AsyncIterable<Uint8Array>,
  expected?: Compression,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { head, rest, close } = await peek(source, 6);
  try {
    yield* decompressed(head, rest, expected);
  } finally {
    await close();
  }
}

async function* decompressed(
  head: Buffer,
  rest: AsyncIterable<Uint8Array>,
  expected: Compression | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const found = detectCompression(head);
  if (expected && found !== expected) {
    throw new ArchiveError('ERR_ARCHIVE_COMPRESSION', `${expected} was announced, this is ${found}`);
  }
  if (found === 'none') return yield* rest;
  const transform = found === 'gzip' ? zlib.createGunzip({ chunkSize: CHUNK }) : unzstd();
  // The source's own error must come out as it is, so both ends are listened to.
  let failure: unknown;
  const input = Readable.from(
    catching(rest, (error) => (failure ??= error)),
    { objectMode: false },
  );
  const output = pipeline(input, transform, () => {});
  try {
    for await (const chunk of output) yield chunk as Uint8Array;
  } catch (error) {
    if (failure) throw failure;
    throw new ArchiveError('ERR_ARCHIVE_COMPRESSION', `damaged ${found} data: ${(error as Error).message}`, {
      cause: error,
    });
  } finally {
    input.destroy();
    transform.destroy();
  }
}

/**
 * A stream that compresses. The same bytes always become the same bytes.
 *
 * @param compression - how
 * @param level - of gzip, 1 to 9
 * @returns a transform, or undefined for `none`
 * @throws UnsupportedError for zstd where Node's zlib has none (before 22.15)
 */
export function compressor(compression: Compression, level?: number): Transform | undefined {
  if (compression === 'none') return undefined;
  if (compression === 'gzip') return zlib.createGzip({ chunkSize: CHUNK, ...(level ? { level } : {}) });
  if (nodeZstd.createZstdCompress) return nodeZstd.createZstdCompress();
  throw new UnsupportedError('writing zstd', 'the zlib of this Node has no zstd', { since: 'Node 22.15' });
}

/** Whether these are frames that zstd passes over, of which an archive may begin with some. */
function isSkippable(bytes: Uint8Array): boolean {
  const [first = 0, ...rest] = bytes.subarray(0, 4);
  return first >> 4 === 5 && SKIPPABLE.equals(Buffer.from(rest));
}

const SKIPPABLE = Buffer.from([0x2a, 0x4d, 0x18]);
const CHUNK = 256 * 1024;

function unzstd(): Transform {
  if (nodeZstd.createZstdDecompress) return nodeZstd.createZstdDecompress();
  const transform = new Transform({
    transform(chunk: Uint8Array, _encoding, done) {
      this.read(0);
      try {
        zstd.push(chunk);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
    flush(done) {
      try {
        zstd.push(new Uint8Array(0), true);
        done();
      } catch (error) {
        done(error as Error);
      }
    },
  });
  const zstd = new Zstd((bytes) => transform.push(Buffer.from(bytes)));
  return transform;
}

/** The first bytes, and all of them; and what lets go of the source, also where nobody began to read. */
async function peek(
  source: AsyncIterable<Uint8Array>,
  length: number,
): Promise<{ head: Buffer; rest: AsyncIterable<Uint8Array>; close(): Promise<void> }> {
  const iterator = source[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let have = 0;
  let over = false;
  let pending = false;
  const next = async () => {
    pending = true;
    try {
      const item = await iterator.next();
      over = item.done === true;
      return item;
    } catch (error) {
      over = true;
      throw error;
    } finally {
      pending = false;
    }
  };
  while (have < length) {
    const { done, value } = await next();
    if (done) break;
    first.push(value);
    have += value.length;
  }
  async function* rest() {
    yield* first.splice(0);
    for (let item = await next(); !item.done; item = await next()) yield item.value;
  }
  const close = async () => {
    if (over) return;
    over = true;
    const closed = Promise.resolve(iterator.return?.()).catch(() => {});
    // A source that does not answer must not hold up the end.
    if (!pending) await closed;
  };
  return { head: Buffer.concat(first), rest: rest(), close };
}

async function* catching<T>(source: AsyncIterable<T>, caught: (error: unknown) => void): AsyncGenerator<T> {
  try {
    yield* source;
  } catch (error) {
    caught(error);
    throw error;
  }
}
