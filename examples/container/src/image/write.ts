import { createWriteStream } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** Writes an archive: what has its name is whole. */
export async function writeWhole(archive: Readable, output: string): Promise<void> {
  const part = `${output}.part-${process.pid}`;
  try {
    await pipeline(archive, createWriteStream(part, { mode: 0o600 }));
    await rename(part, output);
  } finally {
    await rm(part, { force: true });
  }
}
