import type { ContentStore } from '../content/content-store.js';
import { ImageError } from '../content/error.js';
import { type Descriptor, DOCUMENT_MAX, type Platform, parseConfig } from './document.js';
import { diffIdOf, type ImageLayer, joinLayers } from './image.js';
import type { ImageLayout } from './layout.js';
import { documentKind } from './media-type.js';
import { selectPlatform } from './platform.js';

/** Where blobs come from. */
export interface BlobSource {
  /**
   * Brings one blob into a content store, where it is hashed and measured.
   *
   * @param descriptor - of the blob
   * @param content - where it goes
   * @param options - what {@link ContentStore.write} takes
   */
  copy(descriptor: Descriptor, content: ContentStore, options: CopyBlobOptions): Promise<void>;
}

/** How one blob is copied. */
export interface CopyBlobOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((bytes: number) => void) | undefined;
}

/** How far images are on their way in or out. */
export interface ImageProgress {
  /** What is done: blobs are copied, then layers are uncompressed and hashed. */
  phase: 'copy' | 'verify';
  /** Digest of the blob. */
  digest: string;
  /** Bytes that are done. */
  bytes: number;
  /** Bytes of all of it. */
  size: number;
}

/** What an image may hold at the most. */
export interface ImageLimits {
  /** Bytes of one blob; default 1 TiB. */
  blob?: number;
  /** Bytes of one uncompressed layer; default 1 TiB. */
  archive?: number;
}

/** How {@link admit} works. */
export interface AdmitOptions {
  /** Of an index only the image for this platform; default is all of it. */
  platform?: Platform | undefined;
  limits?: ImageLimits | undefined;
  signal?: AbortSignal | undefined;
  /** Told how far each blob is. */
  onProgress?: ((at: ImageProgress) => void) | undefined;
}

/** Layers that are copied at once. */
const AT_ONCE = 3;
const MAX_DEPTH = 4;
const TERA = 2 ** 40;

/**
 * Brings an image, or an index with its images, into a layout, and checks all of it: documents, digests, sizes, diffIDs. The caller
 * holds the content store and gives it a name afterwards. Where this fails, blobs that are right stay until they are collected.
 *
 * @param layout - where it goes
 * @param source - where the blobs come from
 * @param descriptor - of the index or the manifest
 * @param options - see {@link AdmitOptions}
 * @returns what is there now: the same, or the image that was selected
 */
export async function admit(
  layout: ImageLayout,
  source: BlobSource,
  descriptor: Descriptor,
  options: AdmitOptions = {},
  depth = 0,
): Promise<Descriptor> {
  const kind = documentKind(descriptor.mediaType);
  if (kind !== 'index' && kind !== 'manifest') {
    throw new ImageError('unsupported', `no image: ${descriptor.mediaType}`, { digest: descriptor.digest });
  }
  if (depth > MAX_DEPTH) throw new ImageError('tooLarge', 'indexes are too deep inside another');
  const { content } = layout;
  const { limits = {}, signal, onProgress } = options;
  const fetch = async (blob: Descriptor, limit: number) => {
    signal?.throwIfAborted();
    const { digest, size } = blob;
    if (size > limit) throw new ImageError('tooLarge', `a blob of ${size} bytes, ${limit} are allowed`, { digest });
    if ((await content.size(digest)) !== size) {
      await source.copy(blob, content, {
        signal,
        onProgress: onProgress && ((bytes) => onProgress({ phase: 'copy', digest, bytes, size })),
      });
    }
    onProgress?.({ phase: 'copy', digest, bytes: size, size });
  };
  await fetch(descriptor, DOCUMENT_MAX);
  if (kind === 'index') {
    const { manifests } = await layout.index(descriptor);
    if (options.platform) return admit(layout, source, selectPlatform(manifests, options.platform), options, depth + 1);
    // One after the other: their layers are copied side by side, and many are the same.
    for (const inner of manifests) await admit(layout, source, inner, options, depth + 1);
    return descriptor;
  }
  const manifest = await layout.manifest(descriptor);
  const blob = limits.blob ?? TERA;
  if (documentKind(manifest.config.mediaType) !== 'config') {
    // What is no image (a signature, an attestation) has blobs all the same.
    for (const part of [manifest.config, ...manifest.layers]) await fetch(part, blob);
    return descriptor;
  }
  await fetch(manifest.config, DOCUMENT_MAX);
  const layers = joinLayers(manifest, parseConfig(await layout.document(manifest.config)));
  await inParallel(unique(layers), AT_ONCE, async (layer) => {
    await fetch(layer.descriptor, blob);
    await checkDiffId(layout, layer, options);
  });
  return descriptor;
}

/** Checks what the config says of a layer. */
async function checkDiffId(layout: ImageLayout, layer: ImageLayer, options: AdmitOptions): Promise<void> {
  const { signal, onProgress, limits = {} } = options;
  const { digest, size } = layer.descriptor;
  if (layer.compression === 'none' && layer.diffId === digest && size <= (limits.archive ?? TERA)) return;
  let bytes = 0;
  async function* counted() {
    for await (const chunk of layout.content.stream(digest, { signal })) {
      bytes += chunk.length;
      onProgress?.({ phase: 'verify', digest, bytes, size });
      yield chunk;
    }
  }
  await diffIdOf(counted(), layer, limits);
}

/** Each layer once: the same one may stand in an image several times. */
function unique(layers: readonly ImageLayer[]): ImageLayer[] {
  const seen = new Map<string, ImageLayer>();
  for (const layer of layers) {
    const other = seen.get(layer.descriptor.digest);
    if (other && (other.diffId !== layer.diffId || other.descriptor.size !== layer.descriptor.size)) {
      throw new ImageError('badDocument', 'two layers of one digest that differ', { digest: layer.descriptor.digest });
    }
    seen.set(layer.descriptor.digest, layer);
  }
  return [...seen.values()];
}

/**
 * Does work on items, some at once. After a failure nothing new is begun, and what runs is waited for.
 *
 * @param items - in this order
 * @param most - at once
 * @param work - on each
 * @throws the first failure
 */
export async function inParallel<T>(
  items: readonly T[],
  most: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const failures: unknown[] = [];
  const run = async () => {
    for (let item = queue.shift(); item !== undefined && !failures.length; item = queue.shift()) {
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: most }, run));
  if (failures.length) throw failures[0];
}
