import { randomBytes } from 'node:crypto';
import { ImageError } from '../content/error.js';
import type { ExtractWarning } from '../layer/extract.js';
import { LayerThread } from '../layer/thread.js';
import type { UnpackSettings } from '../layer/unpacker.js';
import type { Store } from '../store/store.js';
import type { Image, ImageLayer, LayerProgress } from './image.js';
import type { ImageLayout } from './layout.js';

/** How {@link unpackImage} works. */
export interface UnpackImageOptions extends Omit<UnpackSettings, 'expect' | 'format' | 'base'> {
  signal?: AbortSignal;
  /** Told how far each layer is. */
  onProgress?: (at: LayerProgress) => void;
  /** Told what could not be made as the archive has it. */
  onWarning?: (warning: ExtractWarning) => void;
}

/**
 * Unpacks an image into a store: a committed snapshot for each layer, called by its chainID. Those that are there already are not
 * unpacked again, whichever image they came with; of two who want the same one, the second waits for the first.
 *
 * @param image - the image
 * @param store - where its layers go
 * @param options - limits, id map, progress, signal
 * @returns the chainID of the whole image: the parent for a container's snapshot. A store's `gc()` needs it as a root, see
 * `ImageLayout.roots()`; hold a lease on it until something lies on it.
 * @throws {@link ImageError} `notFound` for an image without layers, ArchiveError for layers that are hostile or not what the image says;
 * StoreError, KernelError; the signal's reason. Whole layers stay, of the one at hand nothing does.
 *
 * @example
 * ```ts root
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { ImageLayout, importImages, openStore, packTree, unpackImage } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-unpack-');
 * const layout = await ImageLayout.open(`${directory}/images`, { create: true });
 * async function* archive() {
 *   yield* packTree('/etc/default');
 * }
 * await importImages(layout, archive(), { name: 'defaults' });
 * {
 *   await using store = await openStore({ root: `${directory}/store`, driver: 'vfs' });
 *   const chain = await unpackImage(await layout.image('defaults'), store);
 *   await store.prepare('box', { parent: chain });
 * }
 * rmSync(directory, { recursive: true });
 * ```
 */
export async function unpackImage(image: Image, store: Store, options: UnpackImageOptions = {}): Promise<string> {
  const { chainId, layers, layout, digest } = image;
  if (chainId === undefined) throw new ImageError('notFound', 'the image has no layers', { digest });
  await unpackLayers(layout, layers, store, options);
  return chainId;
}

/**
 * The same for layers that are no image yet.
 *
 * @param layout - where their blobs are
 * @param layers - the lowest first
 * @param store - where they go
 * @param options - as for {@link unpackImage}
 */
export async function unpackLayers(
  layout: ImageLayout,
  layers: readonly ImageLayer[],
  store: Store,
  options: UnpackImageOptions,
): Promise<void> {
  const { signal, onProgress, ...settings } = options;
  const waiting = signal ? { signal } : {};
  using _ = await store.lease(...layers.map(({ chainId }) => chainId));
  using __ = await layout.content.hold(waiting);
  // Started by the first layer that is not there yet; the others find it warm.
  await using thread = new LayerThread();
  let parent: string | undefined;
  for (const { chainId, diffId, descriptor, compression } of layers) {
    signal?.throwIfAborted();
    using ___ = await store.lock(chainId, waiting);
    if (!(await store.has(chainId))) {
      const { digest, size } = descriptor;
      const key = `unpack-${randomBytes(8).toString('hex')}`;
      await store.prepare(key, { ...(parent ? { parent } : {}), temporary: true });
      try {
        await store.applyLayer(key, layout.content.path(digest), {
          ...settings,
          ...waiting,
          thread,
          expect: { digest, diffId, size, compression },
          ...(onProgress ? { onProgress: ({ bytes }) => onProgress({ digest, bytes, size }) } : {}),
        });
        await store.commit(chainId, key);
      } catch (error) {
        await store.remove(key).catch(() => {});
        throw error;
      }
    }
    parent = chainId;
  }
}
