import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { invalid } from '@iso/sys';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';
import type { ExtractWarning } from '../layer/extract.js';
import { LayerThread } from '../layer/thread.js';
import type { UnpackSettings } from '../layer/unpacker.js';
import { StoreError } from '../store/error.js';
import type { Store } from '../store/store.js';
import type { Image, ImageLayer, LayerProgress } from './image.js';
import type { ImageLayout } from './layout.js';
import { deferred, inParallel } from './parallel.js';

/**
 * How {@link unpackImage} works. All who share a store agree on `owner` and `idmap`: layers are found again whatever those were. What
 * `unsupported: 'warn'` leaves out is counted in a label of the layer's snapshot, `iso.left-out`; such a layer is used again by who asks for
 * `warn` too, all others get a StoreError `incomplete`.
 */
export interface UnpackImageOptions extends Omit<UnpackSettings, 'expect' | 'format' | 'base' | 'implied'> {
  /**
   * Layers that are unpacked side by side; default is one for each processor, where they have enough to do. One after the other it is with
   * drivers whose layers are copies.
   */
  atOnce?: number;
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
 * @throws {@link ImageError} `notFound` for an image without layers, `tooLarge` for one of more than 500, ArchiveError for layers that are hostile or not what the image says;
 * StoreError `incomplete` …, KernelError; the signal's reason. Whole layers stay, of the one at hand nothing does.
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
  checkArgument('image', image, 'an image, as layout.image() gives');
  checkArgument('store', store, 'a store, as openStore() gives');
  const { chainId, layers, layout, digest } = image;
  if (chainId === undefined) throw new ImageError('notFound', 'the image has no layers', { digest });
  await unpackLayers(layout, layers, store, options);
  return chainId;
}

/** How {@link unpackLayers} works. */
export interface UnpackLayersOptions extends UnpackImageOptions {
  /** Waits until the blob of a layer is there. */
  arrived?: (layer: ImageLayer) => Promise<void>;
}

/** What the kernel's overlay takes at the most; and each record of a store names all layers below. */
const LAYERS_MAX = 500;

/** Compressed bytes that are worth a thread of their own: starting one takes as long as unpacking these. */
const THREAD_WORTH = 8 << 20;

/**
 * The same for layers that are no image yet.
 *
 * @param layout - where their blobs are, or will be
 * @param layers - the lowest first
 * @param store - where they go
 * @param options - as for {@link unpackImage}; `arrived`
 * @returns digests of the blobs that were unpacked now, and so checked
 */
export async function unpackLayers(
  layout: ImageLayout,
  layers: readonly ImageLayer[],
  store: Store,
  options: UnpackLayersOptions = {},
): Promise<Set<string>> {
  const { signal, onProgress, onWarning, arrived, atOnce = lanesFor(layers), ...settings } = options;
  if (!Number.isSafeInteger(atOnce) || atOnce < 1) throw invalid(`not a number of layers: ${atOnce}`);
  if (layers.length > LAYERS_MAX) {
    throw new ImageError('tooLarge', `an image of ${layers.length} layers, ${LAYERS_MAX} are allowed`, {
      hint: 'put them together where the image is made',
    });
  }
  const waiting = signal ? { signal } : {};
  using _ = await store.lease(...layers.map(({ chainId }) => chainId));
  using __ = await layout.content.hold(waiting);
  await using threads = new LayerThreads();
  const lanes = store.takesLate ? atOnce : 1;
  const unpacked = new Set<string>();
  const steps = layers.map((layer, i) => ({ layer, parent: layers[i - 1]?.chainId, committed: deferred() }));
  await inParallel(steps, lanes, async (step) => {
    try {
      await unpackOne(step, steps[steps.indexOf(step) - 1]?.committed.promise);
      step.committed.resolve();
    } catch (error) {
      step.committed.reject(error);
      throw error;
    }
  });
  return unpacked;

  async function unpackOne({ layer, parent }: (typeof steps)[number], below: Promise<void> | undefined): Promise<void> {
    const { chainId, diffId, descriptor, compression } = layer;
    const { digest, size } = descriptor;
    await arrived?.(layer);
    signal?.throwIfAborted();
    using _lock = await store.lock(chainId, waiting);
    if (await store.has(chainId)) return await checkWhole(store, chainId, settings.unsupported);
    const key = `unpack-${randomBytes(8).toString('hex')}`;
    // With one lane the layer below is there already.
    const late = lanes > 1 && parent !== undefined;
    await store.prepare(key, { temporary: true, ...(late ? { late } : parent === undefined ? {} : { parent }) });
    const thread = threads.take();
    let leftOut = 0;
    try {
      await store.applyLayer(key, layout.content.path(digest), {
        ...settings,
        ...waiting,
        thread,
        expect: { digest, diffId, size, compression },
        onWarning: (warning) => {
          if (warning.kind !== 'metadata') leftOut++;
          onWarning?.(warning);
        },
        ...(onProgress ? { onProgress: ({ bytes }) => onProgress({ digest, bytes, size }) } : {}),
      });
      threads.give(thread);
      await below;
      const labels = leftOut ? { [LEFT_OUT]: String(leftOut) } : {};
      await store.commit(chainId, key, { labels, ...(late ? { parent } : {}) });
      unpacked.add(digest);
    } catch (error) {
      await store.remove(key).catch(() => {});
      throw error;
    }
  }
}

/** Label of a layer's snapshot: how many devices, attributes and owners could not be made as its archive has them. */
const LEFT_OUT = 'iso.left-out';

/** Refuses a layer that is less than its name says, where nobody asked for such. */
async function checkWhole(store: Store, chainId: string, unsupported: UnpackSettings['unsupported']): Promise<void> {
  if (unsupported === 'warn') return;
  const { [LEFT_OUT]: leftOut } = (await store.stat(chainId)).labels;
  if (leftOut === undefined) return;
  const message = `${leftOut} devices, attributes or owners were left out when it was unpacked`;
  const hint =
    'remove it and what lies on it, and unpack it where they can be made; or take it with unsupported: "warn"';
  throw new StoreError('incomplete', message, { snapshot: chainId, hint });
}

/** How many layers are unpacked at once: no more than there are processors, or than have enough to do. */
function lanesFor(layers: readonly ImageLayer[]): number {
  const bytes = layers.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  return Math.max(1, Math.min(layers.length, availableParallelism(), Math.ceil(bytes / THREAD_WORTH)));
}

/** Threads that are started when there is none to spare: the next layers find them warm. */
class LayerThreads implements AsyncDisposable {
  readonly #all: LayerThread[] = [];
  readonly #spare: LayerThread[] = [];

  take(): LayerThread {
    const spare = this.#spare.pop();
    if (spare) return spare;
    const thread = new LayerThread();
    this.#all.push(thread);
    return thread;
  }

  give(thread: LayerThread): void {
    this.#spare.push(thread);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#all.map((thread) => thread.close()));
  }
}
