import { stat, unlink, writeFile } from 'node:fs/promises';
import { abortable } from '../content/abortable.js';
import type { ContentStore } from '../content/content-store.js';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';
import { isMissing, kernel } from '../file/node.js';
import type { TarLimits } from '../tar/parser.js';
import {
  type AdmitOptions,
  admit,
  type BlobSource,
  type ImageLimits,
  type ImageProgress,
  type UnpackInto,
} from './admit.js';
import { ArchiveFile } from './archive.js';
import { readDockerArchive } from './docker-archive.js';
import type { Descriptor, Platform, RunConfig } from './document.js';
import { DOCUMENT_MAX, parseIndex } from './document.js';
import { checkVersion, ImageLayout, NAME, type NamedImage } from './layout.js';
import { checkPlatform } from './platform.js';
import { wrapRootfs } from './rootfs.js';

/** How {@link importImages} works. */
export interface ImportOptions {
  /**
   * Name of the image; for several it is told each name that the archive has and says what it becomes. Default are the archive's own.
   * Nothing at all: the image has no name.
   */
  name?: string | ((name: string | undefined) => string | undefined);
  /** Of an index only the image for this platform; default is all of it. Of a root file system: what it is for. */
  platform?: Platform;
  /** Unpacks the layers too, while they come in: see {@link UnpackInto}. */
  unpack?: UnpackInto;
  /** How a container of a root file system is run. */
  config?: RunConfig;
  /** Of a root file system: time of creation; default is now. Fix it for the same image each time. */
  created?: Date;
  /** What of a whole archive is allowed; see {@link ImageLimits}, {@link TarLimits}. */
  limits?: ImageLimits & Omit<TarLimits, 'header'>;
  signal?: AbortSignal;
  /** Told how far each blob is. */
  onProgress?: (at: ImageProgress) => void;
}

/** What an archive of images turned out to be. */
export type ImageFormat = 'oci' | 'oci-archive' | 'docker-archive' | 'rootfs';

/** What was imported. */
export interface Imported {
  format: ImageFormat;
  images: NamedImage[];
}

/**
 * Brings images into a layout: an OCI image layout (a directory, or an archive of one), what `docker save` writes, or a root file
 * system as a tar archive, which becomes an image of one layer. Which it is, it finds out; archives may be compressed with gzip or zstd.
 * Symbolic links in a directory are not followed. Digests, sizes and diffIDs have been checked before any image has a name. Blobs stay what they are, byte for byte.
 *
 * @param layout - where they go
 * @param source - path of a directory or an archive, or an archive's bytes as they come
 * @param options - see {@link ImportOptions}
 * @returns what it was, and the images with their names
 * @throws {@link ImageError} for what holds no image, or not the one that it says; ArchiveError for a damaged archive; KernelError `ENOSPC` …;
 * the signal's reason. Nothing has a new name then.
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { exportImages, ImageLayout, importImages, packTree } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-import-');
 * const layout = await ImageLayout.open(`${directory}/a`, { create: true });
 * async function* archive() {
 *   yield* packTree('/etc/default');
 * }
 * const { format } = await importImages(layout, archive(), { name: 'defaults' });
 * const other = await ImageLayout.open(`${directory}/b`, { create: true });
 * const saved = exportImages([await layout.image('defaults')], { format: 'oci-archive' });
 * const { images } = await importImages(other, saved, { name: 'again' });
 * rmSync(directory, { recursive: true });
 * if (format !== 'rootfs' || images[0]?.name !== 'again') throw new Error('another image');
 * ```
 */
export async function importImages(
  layout: ImageLayout,
  source: string | AsyncIterable<Uint8Array>,
  options: ImportOptions = {},
): Promise<Imported> {
  checkArgument('layout', layout, 'an image layout, as ImageLayout.open() gives');
  checkArgument('source', source, 'a path or bytes as they come');
  const { signal } = options;
  signal?.throwIfAborted();
  // What is not named yet must not be collected.
  using _ = await layout.content.hold({ signal });
  if (typeof source === 'string') {
    const found = await kernel(stat(source));
    return found.isDirectory() ? fromDirectory(layout, source, options) : fromFile(layout, source, options);
  }
  // An archive says at its end what it is, so it is written down first.
  const path = await layout.content.temporary();
  try {
    await kernel(writeFile(path, limited(source, options), { flag: 'wx', mode: 0o600 }));
    return await fromFile(layout, path, options);
  } finally {
    await unlink(path).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
  }
}

async function fromDirectory(layout: ImageLayout, path: string, options: ImportOptions): Promise<Imported> {
  const from = await ImageLayout.open(path, { foreign: true });
  const source = contentSource(from.content);
  const entries = (await from.list()).map(({ descriptor }) => descriptor);
  return { format: 'oci', images: await take(layout, source, entries, options) };
}

async function fromFile(layout: ImageLayout, path: string, options: ImportOptions): Promise<Imported> {
  const { limits, signal } = options;
  await using archive = await ArchiveFile.open(path, await layout.content.temporary(), { limits, signal });
  if (archive.has('oci-layout') && archive.has('index.json')) {
    checkVersion(await archive.read('oci-layout', 1 << 16));
    const { manifests } = parseIndex(await archive.read('index.json', DOCUMENT_MAX));
    const blob = ({ digest }: Descriptor) => `blobs/${digest.replace(':', '/')}`;
    const source = archiveSource(archive, (descriptor) => blob(descriptor));
    return { format: 'oci-archive', images: await take(layout, source, manifests, options) };
  }
  if (archive.has('manifest.json') || archive.has('repositories')) {
    const saved = await readDockerArchive(layout, archive, { limits, signal });
    if (saved) {
      const source = archiveSource(archive, ({ digest }) => saved.files.get(digest));
      return { format: 'docker-archive', images: await take(layout, source, saved.descriptors, options) };
    }
  }
  const descriptor = await wrapRootfs(layout, path, options);
  return { format: 'rootfs', images: await take(layout, { copy: notThere }, [descriptor], options) };
}

/** Brings in what an index names, then names it. */
async function take(
  layout: ImageLayout,
  source: BlobSource,
  descriptors: readonly Descriptor[],
  options: ImportOptions,
): Promise<NamedImage[]> {
  if (descriptors.length === 0) throw new ImageError('notFound', 'no image is in there');
  const { platform, unpack, limits, signal, onProgress, name } = options;
  checkPlatform(platform);
  if (typeof name === 'string' && new Set(descriptors.map(({ digest }) => digest)).size > 1) {
    throw new ImageError('ambiguous', 'several images are in there, and one name is given', {
      hint: 'give a function as name',
    });
  }
  const settings: AdmitOptions = { platform, unpack, limits, signal, onProgress };
  const images: NamedImage[] = [];
  for (const descriptor of descriptors) {
    const { [NAME.tag]: tag, [NAME.whole]: whole } = descriptor.annotations ?? {};
    const admitted = await admit(layout, source, descriptor, settings);
    const named = typeof name === 'function' ? name(whole ?? tag) : (name ?? whole ?? tag);
    images.push({ ...(named === undefined ? {} : { name: named }), descriptor: admitted });
  }
  signal?.throwIfAborted();
  for (const { name: named, descriptor } of images) {
    if (named === undefined) await layout.add(descriptor);
    else await layout.tag(named, descriptor);
  }
  return images;
}

function contentSource(from: ContentStore): BlobSource {
  return {
    async copy({ digest, size }, content, options) {
      await content.write(from.stream(digest, { signal: options.signal }), { digest, size, ...options });
    },
  };
}

function archiveSource(archive: ArchiveFile, file: (descriptor: Descriptor) => string | undefined): BlobSource {
  return {
    async copy(descriptor, content, options) {
      const { digest, size } = descriptor;
      const name = file(descriptor);
      if (name === undefined) return notThere(descriptor);
      await content.write(archive.stream(name, { signal: options.signal }), { digest, size, ...options });
    },
  };
}

async function notThere({ digest }: Descriptor): Promise<void> {
  throw new ImageError('notFound', `the blob ${digest} is missing`, { digest });
}

async function* limited(source: AsyncIterable<Uint8Array>, { limits, signal }: ImportOptions) {
  const most = limits?.archive ?? 2 ** 40;
  let size = 0;
  for await (const bytes of abortable(source, signal)) {
    size += bytes.length;
    if (size > most) throw new ImageError('tooLarge', `an archive of more than ${most} bytes`);
    yield bytes;
  }
}
