import { createReadStream } from 'node:fs';
import { Fd, O } from '@iso/sys';
import { decompress, detectCompression } from '../compression/compression.js';
import { open, procPath } from '../file/call.js';
import { ArchiveError } from '../tar/error.js';
import { parseHeader } from '../tar/header.js';
import { type Source, type SourceRoot, walkSource } from './source.js';

const BLOCK = 512;

/**
 * Opens a file that is an archive, compressed or not: its first block says so, not its name.
 *
 * @param root - where it is
 * @param source - in it
 * @returns the file, open for reading; undefined for what is none
 * @throws ArchiveError `ERR_ARCHIVE_COMPRESSION` for bzip2 and xz: what is in there is not known
 */
export async function openArchive(root: SourceRoot, source: Source): Promise<Fd | undefined> {
  if (source.stat.type !== 'file') return undefined;
  let file: Fd | undefined;
  for (const { place } of walkSource(root, source)) {
    file = Fd.own(open(place.directory, place.name, O.RDONLY | O.NONBLOCK));
  }
  if (!file) return undefined;
  try {
    if (isHeader(await head(procPath(file.number)))) return file;
  } catch (error) {
    file.close();
    throw error;
  }
  file.close();
  return undefined;
}

/** The first block of what is in there. */
async function head(path: string): Promise<Buffer> {
  const stream = createReadStream(path, { highWaterMark: 65536 });
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of decompress(firstChecked(stream))) {
      parts.push(chunk);
      length += chunk.length;
      if (length >= BLOCK) break;
    }
  } catch (error) {
    // Damaged, or not what its first bytes look like: no archive.
    if (!(error instanceof ArchiveError) || error.hint) throw error;
  } finally {
    stream.destroy();
  }
  return Buffer.concat(parts);
}

/** What a layer may not be compressed with is no reason to leave a file that only begins so. */
async function* firstChecked(source: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  let first = true;
  for await (const chunk of source) {
    if (first) {
      try {
        detectCompression(chunk);
      } catch (error) {
        const hint = 'unpack or recompress it with gzip or zstd; COPY takes it as it is';
        throw new ArchiveError('ERR_ARCHIVE_COMPRESSION', (error as Error).message.replace(/;.*/s, ''), { hint });
      }
    }
    first = false;
    yield chunk;
  }
}

function isHeader(bytes: Buffer): boolean {
  if (bytes.length < BLOCK) return false;
  try {
    parseHeader(bytes, 0);
    // A block of zeros has no name.
    return bytes[0] !== 0;
  } catch {
    return false;
  }
}
