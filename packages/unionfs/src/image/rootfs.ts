import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { detectCompression } from '../compression/compression.js';
import { kernel } from '../file/node.js';
import type { ImageLimits, ImageProgress } from './admit.js';
import { writeImage } from './compose.js';
import type { Descriptor, Platform, RunConfig } from './document.js';
import { diffIdOf } from './image.js';
import type { ImageLayout } from './layout.js';
import { layerType } from './media-type.js';
import { hostPlatform } from './platform.js';

/**
 * Makes an image of one layer of a root file system's archive, whose bytes stay as they are.
 *
 * @param layout - where it goes
 * @param path - of the archive, which has been walked through once
 * @param options - platform and config of the image
 * @returns the descriptor of its manifest
 */
export async function wrapRootfs(
  layout: ImageLayout,
  path: string,
  options: {
    platform?: Platform;
    config?: RunConfig;
    created?: Date;
    limits?: ImageLimits;
    signal?: AbortSignal;
    onProgress?: (at: ImageProgress) => void;
  },
): Promise<Descriptor> {
  const { platform = hostPlatform(), config, created = new Date(), limits = {}, signal, onProgress } = options;
  const { content } = layout;
  const { size } = await kernel(stat(path));
  const source = createReadStream(path, { highWaterMark: 512 * 1024 });
  const blob = await content.write(source, {
    signal,
    ...(limits.blob === undefined ? {} : { limit: limits.blob }),
    onProgress: onProgress && ((bytes) => onProgress({ phase: 'copy', digest: '', bytes, size })),
  });
  const compression = detectCompression(await head(content.path(blob.digest)));
  const plain = compression === 'none' && size <= (limits.archive ?? size);
  const { diffId } = plain
    ? { diffId: blob.digest }
    : await diffIdOf(content.stream(blob.digest, { signal }), { compression, diffId: undefined }, limits);
  const time = created.toISOString();
  const step = { created: time, created_by: 'iso import' };
  const image = await writeImage(layout, {
    config: { created: time, ...platform, ...(config ? { config } : {}), rootfs: { type: 'layers', diff_ids: [] } },
    layers: [{ descriptor: { mediaType: layerType(compression), ...blob }, diffId, step }],
  });
  return image.descriptor;
}

async function head(path: string): Promise<Buffer> {
  await using file = await kernel(open(path));
  const { buffer, bytesRead } = await kernel(file.read(Buffer.alloc(16), 0, 16, 0));
  return buffer.subarray(0, bytesRead);
}
