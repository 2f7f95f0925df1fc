import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { invalid } from '@iso/sys';
import { decompress } from '../compression/compression.js';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';
import { packTree } from '../layer/pack.js';
import { LayerThread } from '../layer/thread.js';
import { unpackLayer } from '../layer/unpack.js';
import { tarEnd, tarHeader, tarPadding } from '../tar/writer.js';
import { type AdmitOptions, admit, type ImageProgress } from './admit.js';
import type { Descriptor } from './document.js';
import { diffIdOf, Image, type ImageLayer } from './image.js';
import { type ImageLayout, NAME, type NamedImage } from './layout.js';
import { MEDIA_TYPE } from './media-type.js';
import { formatReference, parseReference } from './reference.js';

/** What is exported: an image by itself, or with its name. Of an index it is one of its images: `copyImage()` takes all of them. */
export type Exported = Image | { name?: string; image: Image };

/** How {@link exportImages} works. */
export interface ExportOptions {
  /**
   * `oci-archive`: an OCI image layout, every blob as it is. `docker-archive`: what `docker save` writes, layers uncompressed. `rootfs`:
   * the files of one image, without whiteouts, as a plain archive; needs root.
   */
  format: 'oci-archive' | 'docker-archive' | 'rootfs';
  signal?: AbortSignal;
  /** Told how far each blob is. */
  onProgress?: (at: ImageProgress) => void;
}

/**
 * Images as an archive: the same bytes each time. Every blob is hashed while it is written; an archive whose last bytes came is right.
 *
 * @param images - one or more, of one layout or several
 * @param options - see {@link ExportOptions}
 * @returns the archive's bytes, as they are asked for
 * @throws {@link ImageError} `notFound`, `wrongDigest` for what is not as it should be in the layout; `badName` for a name that docker would not
 * load; the signal's reason
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a format that there is not
 */
export async function* exportImages(
  images: readonly Exported[],
  options: ExportOptions,
): AsyncGenerator<Buffer, void, undefined> {
  checkArgument('images', images, 'a list');
  checkArgument('the second argument', options, 'options: { … }');
  const { format } = options;
  if (!['oci-archive', 'docker-archive', 'rootfs'].includes(format))
    throw invalid(`format is ${String(format)}: not oci-archive, docker-archive or rootfs`);
  const named = images.map((item) => (item instanceof Image ? { image: item, name: undefined } : item));
  for (const { image } of named) checkArgument('an image', image, 'an image, as layout.image() gives');
  const [first, second] = named;
  if (!first) throw new ImageError('notFound', 'no image is given');
  if (format === 'oci-archive') yield* ociArchive(named, options);
  else if (format === 'docker-archive') yield* dockerArchive(named, options);
  else if (second) throw new ImageError('ambiguous', 'a root file system is of one image');
  else yield* rootfs(first.image, options);
}

/**
 * Copies an image, or an index with all of its images, to another layout: byte for byte, checked.
 *
 * @param from - layout that has it
 * @param name - its name or digest there
 * @param to - layout where it goes
 * @param options - `name` there, default the same; `platform`, limits, signal, progress as for `importImages()`
 * @returns what is there now
 * @throws as `importImages()`
 */
export async function copyImage(
  from: ImageLayout,
  name: string,
  to: ImageLayout,
  options: AdmitOptions & { name?: string } = {},
): Promise<NamedImage> {
  for (const layout of [from, to]) checkArgument('layout', layout, 'an image layout, as ImageLayout.open() gives');
  checkArgument('name', name, 'a name');
  const { name: newName = name, ...settings } = options;
  using _ = await from.content.hold({ signal: options.signal });
  using __ = await to.content.hold({ signal: options.signal });
  const source = {
    copy: async ({ digest, size }: Descriptor, content: ImageLayout['content'], copying: object) => {
      await content.write(from.content.stream(digest, { signal: options.signal }), { digest, size, ...copying });
    },
  };
  const descriptor = await admit(to, source, await from.find(name), settings);
  await to.tag(newName, descriptor);
  return { name: newName, descriptor };
}

type Named = readonly { image: Image; name?: string | undefined }[];

async function* ociArchive(images: Named, options: ExportOptions): AsyncGenerator<Buffer, void, undefined> {
  yield* file('oci-layout', Buffer.from('{"imageLayoutVersion":"1.0.0"}'));
  const manifests = images.map(({ image, name }) => {
    const { annotations: _, ...descriptor } = image.descriptor;
    return { ...descriptor, ...(name === undefined ? {} : { annotations: { [NAME.tag]: name } }) };
  });
  yield* file('index.json', Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests })));
  yield directory('blobs/');
  const made = new Set<string>();
  for (const { image } of images) {
    for (const blob of [image.descriptor, image.manifest.config, ...image.manifest.layers]) {
      const [algorithm, hex] = blob.digest.split(':') as [string, string];
      if (made.has(blob.digest)) continue;
      if (!made.has(algorithm)) yield directory(`blobs/${algorithm}/`);
      made.add(algorithm).add(blob.digest);
      yield* content(`blobs/${algorithm}/${hex}`, blob.size, counted(image, blob, options));
    }
  }
  yield tarEnd();
}

async function* dockerArchive(images: Named, options: ExportOptions): AsyncGenerator<Buffer, void, undefined> {
  const made = new Set<string>();
  const list = new Map<string, { Config: string; RepoTags: string[]; Layers: string[] }>();
  const hex = (digest: string) => digest.slice(digest.indexOf(':') + 1);
  for (const { image, name } of images) {
    const entry = list.get(image.id) ?? {
      Config: `${hex(image.id)}.json`,
      RepoTags: [],
      Layers: image.layers.map(({ diffId }) => `${hex(diffId)}.tar`),
    };
    if (name !== undefined) entry.RepoTags.push(dockerTag(name));
    list.set(image.id, entry);
    for (const layer of image.layers) {
      if (made.has(layer.diffId)) continue;
      made.add(layer.diffId);
      // Its length stands before it, so a compressed layer is read twice; the first time also tells whether it is the right one.
      const blob = () => counted(image, layer.descriptor, options);
      const { size } = layer.compression === 'none' ? layer.descriptor : await diffIdOf(blob(), layer);
      yield* content(`${hex(layer.diffId)}.tar`, size, plain(blob(), layer));
    }
    if (made.has(image.id)) continue;
    made.add(image.id);
    yield* file(`${hex(image.id)}.json`, await image.layout.document(image.manifest.config));
  }
  yield* file('manifest.json', Buffer.from(JSON.stringify([...list.values()])));
  yield tarEnd();
}

/** Docker loads no image whose name it does not take. */
function dockerTag(name: string): string {
  const { digest, ...reference } = parseReference(name);
  if (digest === undefined) return formatReference(reference);
  throw new ImageError('badName', `no name in an archive of docker: ${JSON.stringify(name)}`, {
    subject: name,
    hint: 'it has names with a tag and without a digest',
  });
}

async function* plain(source: AsyncIterable<Uint8Array>, { compression }: ImageLayer) {
  for await (const bytes of decompress(source, compression)) {
    yield Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }
}

/** Layer upon layer on a plain tree, as every driver without a union has it. */
async function* rootfs(image: Image, { signal, onProgress }: ExportOptions): AsyncGenerator<Buffer, void, undefined> {
  const tree = await mkdtemp(join(tmpdir(), 'iso-rootfs-'));
  try {
    {
      await using thread = new LayerThread();
      let base = true;
      for (const { descriptor, diffId, compression } of image.layers) {
        const { digest, size } = descriptor;
        await unpackLayer(image.layout.content.path(digest), tree, {
          format: 'plain',
          base,
          thread,
          expect: { digest, diffId, size, compression },
          ...(signal ? { signal } : {}),
          ...(onProgress ? { onProgress: ({ bytes }) => onProgress({ phase: 'copy', digest, bytes, size }) } : {}),
        });
        base = false;
      }
    }
    for (const bytes of packTree(tree)) {
      signal?.throwIfAborted();
      yield bytes;
    }
  } finally {
    await rm(tree, { recursive: true, force: true });
  }
}

async function* counted(image: Image, { digest, size }: Descriptor, { signal, onProgress }: ExportOptions) {
  let bytes = 0;
  for await (const chunk of image.layout.content.stream(digest, { signal })) {
    bytes += chunk.length;
    onProgress?.({ phase: 'copy', digest, bytes, size });
    yield chunk;
  }
}

const plainEntry = { uid: 0, gid: 0, mtime: 0n } as const;

function directory(name: string): Buffer {
  return tarHeader({ ...plainEntry, path: Buffer.from(name), type: 'directory', mode: 0o755, size: 0 });
}

function* file(name: string, bytes: Buffer): Generator<Buffer, void, undefined> {
  yield tarHeader({ ...plainEntry, path: Buffer.from(name), type: 'file', mode: 0o644, size: bytes.length });
  yield bytes;
  if (bytes.length % 512) yield tarPadding(bytes.length);
}

async function* content(name: string, size: number, source: AsyncIterable<Buffer>) {
  yield tarHeader({ ...plainEntry, path: Buffer.from(name), type: 'file', mode: 0o644, size });
  let written = 0;
  for await (const bytes of source) {
    written += bytes.length;
    if (written > size) break;
    yield bytes;
  }
  if (written !== size) throw new ImageError('wrongSize', `${name} has other than ${size} bytes`, { subject: name });
  if (size % 512) yield tarPadding(size);
}
