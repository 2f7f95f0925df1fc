import type { ContentStore } from '../content/content-store.js';
import { ImageError } from '../content/error.js';
import type { Store } from '../store/store.js';
import { type Descriptor, DOCUMENT_MAX, type Platform, parseConfig } from './document.js';
import { diffIdOf, type ImageLayer, joinLayers } from './image.js';
import type { ImageLayout } from './layout.js';
import { documentKind } from './media-type.js';
import { deferred, inParallel } from './parallel.js';
import { hostPlatform, selectPlatform } from './platform.js';
import { type UnpackImageOptions, unpackLayers } from './unpack.js';

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
  /** What is done: blobs are copied, then layers are uncompressed and hashed, or unpacked on the way. */
  phase: 'copy' | 'verify' | 'unpack';
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

/** Where layers are unpacked while they come in. */
export interface UnpackInto extends Omit<UnpackImageOptions, 'signal' | 'onProgress'> {
  /** A committed snapshot for each layer, as `unpackImage()` makes them. */
  store: Store;
}

/** How {@link admit} works. */
export interface AdmitOptions {
  /** Of an index only the image for this platform; default is all of it. */
  platform?: Platform | undefined;
  /**
   * Unpacks the layers too, each as soon as it is there: they are uncompressed once for that and for their diffIDs. Of an index that
   * comes as a whole the image for this machine.
   */
  unpack?: UnpackInto | undefined;
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
  const { limits = {}, onProgress } = options;
  const fetch = async (blob: Descriptor, limit: number, signal = options.signal) => {
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
    const own = options.unpack && ownOf(manifests);
    const { unpack: _, ...others } = options;
    // One after the other: their layers are copied side by side, and many are the same.
    for (const inner of manifests) await admit(layout, source, inner, inner === own ? options : others, depth + 1);
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
  const blobs = unique(layers);
  const unpacked = options.unpack
    ? await unpackArriving(layout, layers, blobs, options.unpack, options, (it, stop) =>
        fetch(it.descriptor, blob, stop),
      )
    : undefined;
  await inParallel(blobs, AT_ONCE, async (layer) => {
    if (!unpacked) await fetch(layer.descriptor, blob);
    if (!unpacked?.has(layer.descriptor.digest)) await checkDiffId(layout, layer, options);
  });
  return descriptor;
}

/**
 * Fetches layers and unpacks those that are there, at once; the first failure of either ends both.
 *
 * @returns digests of the blobs that were unpacked now
 */
async function unpackArriving(
  layout: ImageLayout,
  layers: readonly ImageLayer[],
  blobs: readonly ImageLayer[],
  { store, ...settings }: UnpackInto,
  { signal, limits = {}, onProgress }: AdmitOptions,
  fetch: (layer: ImageLayer, signal: AbortSignal) => Promise<void>,
): Promise<Set<string>> {
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const arrivals = new Map(blobs.map(({ descriptor }) => [descriptor.digest, deferred()]));
  const ended = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      for (const { reject } of arrivals.values()) reject(error);
      stop.abort(error);
      throw error;
    }
  };
  const fetched = inParallel(blobs, AT_ONCE, async (layer) => {
    await fetch(layer, either);
    arrivals.get(layer.descriptor.digest)?.resolve();
  });
  const unpacked = unpackLayers(layout, layers, store, {
    ...settings,
    ...(limits.archive === undefined ? {} : { limits: { archive: limits.archive, ...settings.limits } }),
    signal: either,
    arrived: async ({ descriptor }) => arrivals.get(descriptor.digest)?.promise,
    ...(onProgress ? { onProgress: (at) => onProgress({ phase: 'unpack', ...at }) } : {}),
  });
  const results = await Promise.allSettled([ended(unpacked), ended(fetched)]);
  // Of two failures one is the cause, and the signal's reason.
  if (stop.signal.aborted) throw stop.signal.reason;
  return (results[0] as PromiseFulfilledResult<Set<string>>).value;
}

/** The image of an index that this machine can run. */
function ownOf(manifests: readonly Descriptor[]): Descriptor | undefined {
  try {
    return selectPlatform(manifests, hostPlatform());
  } catch (error) {
    if (ImageError.is(error, 'noPlatform')) return undefined;
    throw error;
  }
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
