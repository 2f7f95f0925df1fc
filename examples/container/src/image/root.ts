import { MountTree } from '@iso/mounts';
import {
  type DriverName,
  type Image,
  ImageError,
  type ImageLayout,
  type RunConfig,
  type Store,
  StoreError,
  unpackImage,
} from '@iso/unionfs';
import type { MountedRoot } from '../assemble.js';
import { UsageError } from '../options.js';
import { findImage, openLayout, openSnapshots, wholeName } from './images.js';
import { progress } from './progress.js';
import { pull } from './pull.js';

/** An image with a writable layer of one container on it. */
export interface ImageRoot extends MountedRoot, AsyncDisposable {
  /** How it wants to be run. */
  config: RunConfig;
}

/** Docker's words. */
export type PullPolicy = 'always' | 'missing' | 'never';

/**
 * Makes the layer of a container on an image: unpacks the layers that are not unpacked yet, and lays a new one on them.
 *
 * @param home - where state is kept
 * @param name - of the image, or its id
 * @param id - of the container, and so of its layer
 * @param options - `pull`: when the image is fetched from its registry; `driver`: how layers are kept; `size`: most bytes of its own layer
 * @param found - told which image it is, before there is a layer
 * @returns how the image wants to be run
 * @throws ImageError, StoreError; {@link UsageError} for an image of no layers
 */
export async function makeLayer(
  home: string,
  name: string,
  id: string,
  options: { pull: PullPolicy; driver?: DriverName | undefined; size?: number | undefined },
  found: (digest: string) => void,
): Promise<RunConfig> {
  const { pull: when, driver, size } = options;
  const layout = await openLayout(home);
  await using store = await openSnapshots(home, driver);
  // What other commands left whose processes were killed.
  await store.cleanup();
  const image = await find(layout, name, when, store);
  if (image.layers.length === 0) throw new UsageError(`the image ${name} has no layers`);
  using _kept = await store.lease(image.chainId as string);
  const bar = progress('unpacking');
  const parent = await unpackImage(image, store, { onProgress: bar.layer }).finally(bar.close);
  found(image.digest);
  await store.prepare(id, { parent, ...(size === undefined ? {} : { quota: { bytes: size } }) });
  return image.config.config ?? {};
}

/**
 * Mounts the layer of a container.
 *
 * @param home - where state is kept
 * @param digest - of its image
 * @param id - of the container
 * @param driver - how its layer is kept
 * @returns the root; disposed when the container has ended
 * @throws ImageError, StoreError
 */
export async function openImageRoot(
  home: string,
  digest: string,
  id: string,
  driver: DriverName | undefined,
): Promise<ImageRoot> {
  const image = await (await openLayout(home)).image(digest);
  const store = await openSnapshots(home, driver);
  try {
    const { fd, close } = await store.openMount(id);
    return {
      config: image.config.config ?? {},
      source: MountTree.own(fd),
      directory: `/proc/self/fd/${fd.number}`,
      async [Symbol.asyncDispose]() {
        close();
        store.close();
      },
    };
  } catch (error) {
    store.close();
    throw error;
  }
}

/**
 * Removes the layer of a container; one that is not there is gone already.
 *
 * @param home - where state is kept
 * @param id - of the container
 * @param driver - how its layer is kept
 */
export async function removeLayer(home: string, id: string, driver: DriverName | undefined): Promise<void> {
  await using store = await openSnapshots(home, driver);
  try {
    await store.remove(id);
  } catch (error) {
    if (!StoreError.is(error, 'notFound')) throw error;
  }
}

async function find(layout: ImageLayout, name: string, when: PullPolicy, store: Store): Promise<Image> {
  if (when !== 'always') {
    try {
      return (await findImage(layout, name)).image;
    } catch (error) {
      if (when === 'never' || !ImageError.is(error, 'notFound')) throw error;
    }
  }
  try {
    return layout.image((await pull(layout, name, { store })).descriptor);
  } catch (error) {
    if (!ImageError.is(error)) throw error;
    const lack = when === 'always' ? 'the image' : 'there is no image';
    throw new UsageError(
      `${lack} ${name}${when === 'always' ? '' : ' here, and it'} cannot be fetched as ${wholeName(name)}: ${error.message}; iso images shows those that are here, iso import and iso load make some`,
      { cause: error },
    );
  }
}
