import { createHash } from 'node:crypto';
import { Fd } from '@iso/sys';
import { type Compression, decompress, detectCompression } from '../compression/compression.js';
import { ArchiveError } from '../tar/error.js';
import { type TarLimits, TarParser } from '../tar/parser.js';
import { Digest } from './digest.js';
import { Extractor, type ExtractSettings, type ExtractWarning } from './extract.js';

/** What a layer must turn out to be. */
export interface Expected {
  /** `sha256:…` of the bytes as they come. */
  digest?: string;
  /** `sha256:…` of the uncompressed archive. */
  diffId?: string;
  /** Bytes as they come. */
  size?: number;
  /** How it is compressed; default is what it is. */
  compression?: Compression;
}

/** How a layer is unpacked: plain data. */
export interface UnpackSettings extends ExtractSettings {
  expect?: Expected;
  /** Against bombs; default ten million entries, 1 TiB of files and of archive. */
  limits?: TarLimits & { archive?: number };
}

/** What was unpacked. */
export interface Unpacked {
  /** `sha256:…` of the bytes as they came. */
  digest: string;
  /** `sha256:…` of the uncompressed archive. */
  diffId: string;
  /** Bytes as they came. */
  size: number;
  /** Bytes of the uncompressed archive. */
  archiveSize: number;
  entries: number;
  /**
   * Directories that the archive holds files of and says nothing about, parents first; the empty path is the root, which stays as it was.
   * Others were made 0755 and root's; on layers below they are to be as they are there, see `Driver.adopt`. With those of archives before it,
   * where `implied` told of them.
   */
  implied: Buffer[];
}

/** How far it is, in bytes as they come. */
export interface UnpackProgress {
  bytes: number;
  archiveBytes: number;
  entries: number;
}

const TERA = 2 ** 40;

/** Bytes of a layer as they come. */
export interface LayerSource extends AsyncIterable<Uint8Array> {
  /** Reads the rest of a file instead, once that is known: a chunk is done with when the next one is asked for. */
  rest?: (fd: number) => AsyncIterable<Uint8Array>;
}

/** Who is told while it is unpacked. */
export interface UnpackHooks {
  progress(at: UnpackProgress): void;
  warning(warning: ExtractWarning): void;
  /** Throws to give up. */
  check(): void;
  /** At the end, also where it fails: {@link Unpacked.implied}. */
  implied?(directories: Buffer[]): void;
}

/**
 * Unpacks on the calling thread: hashes what comes, decompresses it (in zlib's own threads), hashes that in
 * another thread, which also reads what is not compressed, parses it, and makes files.
 *
 * @param source - bytes of the layer
 * @param directory - descriptor of where it goes
 * @param settings - plain data
 * @param hooks - see {@link UnpackHooks}
 * @returns digests and sizes
 */
export async function unpack(
  source: LayerSource,
  directory: number,
  settings: UnpackSettings,
  hooks: UnpackHooks,
): Promise<Unpacked> {
  const { expect = {}, limits = {} } = settings;
  const compressed = createHash('sha256');
  using plain = new Digest();
  // An archive that is not compressed has one digest for both.
  let once = false;
  const at = { bytes: 0, archiveBytes: 0, entries: 0 };
  async function* counted() {
    for await (const chunk of source) {
      hooks.check();
      if (at.bytes === 0 && chunk.length >= 6 && detectCompression(chunk) === 'none') {
        once = true;
        source.rest = (fd) => plain.read(fd);
      }
      at.bytes += chunk.length;
      if (expect.size !== undefined && at.bytes > expect.size) throw wrong('size', `more than ${expect.size}`);
      if (!once) compressed.update(chunk);
      yield chunk;
    }
  }
  using extractor = new Extractor(Fd.borrow(directory), settings, hooks.warning);
  const parser = new TarParser(extractor, { entries: 10_000_000, bytes: TERA, ...limits });
  const most = limits.archive ?? TERA;
  try {
    for await (const chunk of decompress(counted(), expect.compression)) {
      hooks.check();
      at.archiveBytes += chunk.length;
      if (at.archiveBytes > most) throw new ArchiveError('ERR_ARCHIVE_LIMIT', `an archive of more than ${most} bytes`);
      if (!plain.holds(chunk)) plain.update(chunk);
      parser.write(chunk);
      at.entries = parser.entries;
      hooks.progress(at);
    }
    hooks.check();
    parser.finish();
    const diffId = await plain.digest();
    const digest = once ? diffId : `sha256:${compressed.digest('hex')}`;
    if (expect.size !== undefined && expect.size !== at.bytes) throw wrong('size', String(at.bytes));
    if (expect.digest !== undefined && expect.digest !== digest) throw wrong('digest', digest);
    if (expect.diffId !== undefined && expect.diffId !== diffId) throw wrong('diffID', diffId);
    extractor.finish();
    return {
      digest,
      diffId,
      size: at.bytes,
      archiveSize: at.archiveBytes,
      entries: at.entries,
      implied: extractor.implied,
    };
  } finally {
    hooks.implied?.(extractor.implied);
  }

  function wrong(what: string, is: string): ArchiveError {
    const should = { size: expect.size, digest: expect.digest, diffID: expect.diffId }[what];
    return new ArchiveError('ERR_ARCHIVE_DIGEST', `the layer's ${what} is ${is}, it should be ${should}`);
  }
}
