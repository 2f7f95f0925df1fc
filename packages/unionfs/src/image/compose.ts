import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Compression, compressor } from '../compression/compression.js';
import { abortable } from '../content/abortable.js';
import { Hasher } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import type { Descriptor, HistoryEntry, ImageConfig, ImageManifest, RunConfig } from './document.js';
import { Image } from './image.js';
import type { ImageLayout } from './layout.js';
import { layerType, MEDIA_TYPE } from './media-type.js';

/** A layer that is to be part of an image. */
export interface NewLayer {
  /** Of its blob, which is in the layout. */
  descriptor: Descriptor;
  /** `sha256:…` of the uncompressed archive. */
  diffId: string;
  /** What made it. */
  step?: HistoryEntry;
}

/** How {@link writeLayerBlob} works. */
export interface WriteLayerBlobOptions {
  /** Default is gzip. */
  compression?: Compression;
  /** Of gzip, 1 to 9. */
  level?: number;
  signal?: AbortSignal;
  /** Told how many bytes of the archive are done. */
  onProgress?: (bytes: number) => void;
}

/**
 * Writes a layer's archive as a blob, compressed and hashed on its way.
 *
 * @param layout - where it goes; the caller holds its content until an image has the layer
 * @param source - the archive, uncompressed: of `writeLayer()`, `packTree()`, a store
 * @param options - see {@link WriteLayerBlobOptions}
 * @returns what an image says of it
 * @throws what the source throws; KernelError `ENOSPC` …; the signal's reason. Nothing of it stays then.
 */
export async function writeLayerBlob(
  layout: ImageLayout,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: WriteLayerBlobOptions = {},
): Promise<NewLayer> {
  const { compression = 'gzip', level, signal, onProgress } = options;
  const transform = compressor(compression, level);
  const hasher = new Hasher();
  async function* hashed() {
    for await (const bytes of abortable(source, signal)) {
      hasher.update(bytes);
      onProgress?.(hasher.size);
      yield bytes;
    }
  }
  await using ingest = await layout.content.begin({ signal });
  let failure: unknown;
  const sink = async (bytes: AsyncIterable<Uint8Array>) => {
    try {
      for await (const chunk of bytes) await ingest.write(chunk);
    } catch (error) {
      failure ??= error;
      throw error;
    }
  };
  if (transform) {
    await pipeline(Readable.from(hashed(), { objectMode: false }), transform, sink).catch((error: unknown) => {
      // Of a sink that failed Node may say no more than that the source was aborted.
      throw (error as NodeJS.ErrnoException).code === 'ABORT_ERR' ? (failure ?? error) : error;
    });
  } else await sink(hashed());
  const blob = await ingest.commit();
  return { descriptor: { mediaType: layerType(compression), ...blob }, diffId: hasher.digest() };
}

/**
 * Writes an image of layers whose blobs are there.
 *
 * @param layout - where it goes; it has no name yet
 * @param parts - its config without layers and history of its own, below it the image that it is made from, and its layers
 * @returns the image
 */
export async function writeImage(
  layout: ImageLayout,
  parts: {
    config: ImageConfig;
    base?: Image | undefined;
    layers: readonly (NewLayer | { step: HistoryEntry })[];
    annotations?: Record<string, string>;
  },
): Promise<Image> {
  const { base, layers, annotations } = parts;
  const made = layers.filter((layer) => 'diffId' in layer);
  const history = [
    ...(base?.history ?? []),
    ...layers.flatMap((layer): HistoryEntry[] => {
      if ('diffId' in layer) return [layer.step ?? {}];
      return [{ ...layer.step, empty_layer: true }];
    }),
  ];
  const config: ImageConfig = {
    ...parts.config,
    rootfs: {
      type: 'layers',
      diff_ids: [...(base?.config.rootfs.diff_ids ?? []), ...made.map((layer) => layer.diffId)],
    },
    history,
  };
  const text = Buffer.from(JSON.stringify(config));
  const manifest: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: { mediaType: MEDIA_TYPE.config, ...(await layout.content.write([text])) },
    layers: [
      ...(base?.layers ?? []).map(({ descriptor, compression }) => ({
        ...descriptor,
        // Docker's layers in a manifest of OCI are called by OCI's names.
        mediaType: layerType(compression),
      })),
      ...made.map((layer) => layer.descriptor),
    ],
    ...(annotations ? { annotations } : {}),
  };
  const blob = await layout.content.write([Buffer.from(JSON.stringify(manifest))]);
  return await Image.open(layout, { mediaType: MEDIA_TYPE.manifest, ...blob });
}

/** How {@link commitImage} works. */
export interface CommitImageOptions extends WriteLayerBlobOptions {
  /** The image below; none for one of this layer alone. */
  base?: Image;
  /** What changes of how its containers are run. */
  config?: RunConfig;
  /** Where it runs, for an image without a base. */
  platform?: { os: string; architecture: string; variant?: string };
  author?: string;
  /** What made it, for its history. */
  createdBy?: string;
  comment?: string;
  /** Time of creation; default is now. Fix it for the same image each time. */
  created?: Date;
}

/**
 * An image of another one and a layer on it: what `docker commit` makes of a container's changes.
 *
 * @param layout - where it goes; it has a name once you give it one ({@link ImageLayout.tag})
 * @param source - the layer's archive: of `store.writeLayer()`, `writeLayer()`, `packTree()`
 * @param options - see {@link CommitImageOptions}
 * @returns the image; keep the layout's content held until it has a name, or what else collects may take it
 * @throws what the source throws; KernelError; the signal's reason
 */
export async function commitImage(
  layout: ImageLayout,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  options: CommitImageOptions = {},
): Promise<Image> {
  const { base, config, platform, author, createdBy, comment, created = new Date(), ...writing } = options;
  if (!base && !platform) throw new ImageError('badName', 'an image without a base needs a platform');
  const layer = await writeLayerBlob(layout, source, writing);
  const time = created.toISOString();
  const step = {
    created: time,
    ...(createdBy ? { created_by: createdBy } : {}),
    ...(author ? { author } : {}),
    ...(comment ? { comment } : {}),
  };
  const below = base?.config ?? { ...(platform as ImageConfig), rootfs: { type: 'layers', diff_ids: [] } };
  return await writeImage(layout, {
    base,
    config: {
      ...below,
      created: time,
      ...(author ? { author } : {}),
      ...(below.config || config ? { config: { ...below.config, ...config } } : {}),
    },
    layers: [{ ...layer, step }],
  });
}
