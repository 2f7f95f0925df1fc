import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  type DriverName,
  formatReference,
  type Image,
  ImageLayout,
  openStore,
  parseReference,
  type Store,
  StoreError,
} from '@iso/unionfs';
import { UsageError } from '../options.js';

const PLAIN = () => (process.getuid?.() === 0 ? '' : ' for a user who is not root');

/** Where images are: an OCI image layout, which other programs read too. */
export function openLayout(home: string): Promise<ImageLayout> {
  return ImageLayout.open(join(home, 'images'), { create: true });
}

/**
 * Where their layers are unpacked, and containers have theirs on top. Each driver has layers of its own: where another than the usual one
 * is asked for, they are in a directory beside it.
 *
 * @param home - where state is kept
 * @param driver - name of a storage driver; default is the one that was taken first, the best of those that work
 * @returns the store
 * @throws StoreError `unsupported` for a driver that does not work here; {@link UsageError} where none does
 */
export async function openSnapshots(home: string, driver?: DriverName): Promise<Store> {
  const root = join(home, 'snapshots');
  try {
    return await openStore({ root, ...(driver === undefined ? {} : { driver }) });
  } catch (error) {
    // Of each driver why it does not work is more than is read here.
    if (driver === undefined && StoreError.is(error, 'unsupported'))
      throw new UsageError(`images need a storage driver, and none works here${PLAIN()}; iso doctor says why of each`, {
        cause: error,
      });
    if (driver === undefined || !StoreError.is(error, 'otherDriver')) throw error;
    return await openStore({ root: `${root}-${driver}`, driver });
  }
}

/**
 * The store of {@link openSnapshots} where one was made: who only wants to know what may go needs none, nor a driver that works.
 *
 * @param home - where state is kept
 */
export async function findSnapshots(home: string): Promise<Store | undefined> {
  return existsSync(join(home, 'snapshots/store.json')) ? await openSnapshots(home) : undefined;
}

/** The whole name of an image: `debian` is `docker.io/library/debian:latest`. */
export function wholeName(name: string): string {
  return formatReference(parseReference(name));
}

/**
 * What a name or an id stands for: ids are digits that a name could have too, so names go first.
 *
 * @param layout - where images are
 * @param word - as it was given
 * @returns the image, and the name that it was found by; none where it was by its id
 * @throws ImageError `notFound`, `ambiguous`, `badName`
 */
export async function findImage(layout: ImageLayout, word: string): Promise<{ image: Image; name?: string }> {
  const names = new Set((await layout.list()).map(({ name }) => name));
  const digest = word.startsWith('sha256:');
  const name = names.has(word) ? word : digest ? undefined : wholeName(word);
  if (name !== undefined && names.has(name)) return { image: await layout.image(name), name };
  const id = /^(sha256:)?[0-9a-f]{6,64}$/.test(word);
  return { image: await layout.image(digest || id ? word : (name as string)) };
}

/** Bytes of an image's layers, as they are kept. */
export function imageSize(image: Image | undefined): number {
  return total(image?.layers.map(({ descriptor }) => descriptor) ?? []);
}

/** Bytes of blobs together. */
export function total(blobs: readonly { size: number }[]): number {
  return blobs.reduce((sum, blob) => sum + blob.size, 0);
}

/** Removes the layers, blobs and snapshots that no image and no container needs any more. */
export async function collect(layout: ImageLayout, store: Store | undefined, options: { dryRun?: boolean } = {}) {
  const blobs = await layout.gc(options);
  const roots = [...(await layout.roots())];
  const snapshots = (await store?.gc({ roots, ...options })) ?? [];
  const home = dirname(layout.content.directory);
  for (const name of readdirSync(home)) {
    if (!name.startsWith('snapshots-')) continue;
    await using other = await openStore({ root: join(home, name) });
    await other.gc({ roots, ...options });
  }
  return { blobs, snapshots };
}
