import { createHash } from 'node:crypto';
import { type Compression, decompress } from '../compression/compression.js';
import { Hasher } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import { ArchiveError } from '../tar/error.js';
import {
  type Descriptor,
  type HistoryEntry,
  type ImageConfig,
  type ImageManifest,
  type Platform,
  parseConfig,
} from './document.js';
import type { ImageLayout } from './layout.js';
import { documentKind, layerCompression } from './media-type.js';

/** One layer of an image. */
export interface ImageLayer {
  /** Its blob. */
  descriptor: Descriptor;
  /** How that is compressed. */
  compression: Compression;
  /** `sha256:…` of the uncompressed archive. */
  diffId: string;
  /** `sha256:…` of this layer on those below it: the name of the file system that they make. */
  chainId: string;
}

/** How far work on several layers is, in bytes of their blobs. */
export interface LayerProgress {
  /** Digest of the layer's blob. */
  digest: string;
  bytes: number;
  /** Of the whole blob. */
  size: number;
}

/**
 * The name of the file system that layers make.
 *
 * @param diffIds - of the layers, the lowest first
 * @returns for each the chainID of it and those below it
 */
export function chainIds(diffIds: readonly string[]): string[] {
  let chain = '';
  return diffIds.map((diffId) => {
    chain = chain ? `sha256:${createHash('sha256').update(`${chain} ${diffId}`).digest('hex')}` : diffId;
    return chain;
  });
}

/** An image of one platform: its documents, checked, and its layers by their blobs. */
export class Image {
  /** Where it is. */
  readonly layout: ImageLayout;
  /** Of its manifest. */
  readonly descriptor: Descriptor;
  readonly manifest: ImageManifest;
  readonly config: ImageConfig;
  /** The lowest first. */
  readonly layers: readonly ImageLayer[];

  private constructor(layout: ImageLayout, descriptor: Descriptor, manifest: ImageManifest, config: ImageConfig) {
    this.layout = layout;
    this.descriptor = descriptor;
    this.manifest = manifest;
    this.config = config;
    this.layers = joinLayers(manifest, config);
  }

  /**
   * Reads the documents of an image.
   *
   * @param layout - where it is
   * @param descriptor - of its manifest
   * @returns the image
   * @throws {@link ImageError} `notFound`, `badDocument`, `unsupported` for what is no image
   */
  static async open(layout: ImageLayout, descriptor: Descriptor): Promise<Image> {
    if (documentKind(descriptor.mediaType) !== 'manifest') {
      throw new ImageError('unsupported', `no image: ${descriptor.mediaType}`, { digest: descriptor.digest });
    }
    const manifest = await layout.manifest(descriptor);
    if (documentKind(manifest.config.mediaType) !== 'config') {
      throw new ImageError('unsupported', `no image that can run: its config is ${manifest.config.mediaType}`, {
        digest: descriptor.digest,
      });
    }
    return new Image(layout, descriptor, manifest, parseConfig(await layout.document(manifest.config)));
  }

  /** Digest of its manifest: what registries call it. */
  get digest(): string {
    return this.descriptor.digest;
  }

  /** Digest of its config: what docker calls it. */
  get id(): string {
    return this.manifest.config.digest;
  }

  /** Where it runs. */
  get platform(): Platform {
    const { os, architecture, variant } = this.config;
    return { os, architecture, ...(variant ? { variant } : {}) };
  }

  /** Steps that led to it, the first one first. */
  get history(): readonly HistoryEntry[] {
    return this.config.history ?? [];
  }

  /** The name of the file system that it unpacks to; an image without layers has none. */
  get chainId(): string | undefined {
    return this.layers.at(-1)?.chainId;
  }

  /**
   * Reads all of it: every blob against its digest, every layer against its diffID.
   *
   * @param options - `archive`: most bytes of an uncompressed layer, default 1 TiB; `signal` gives up; `onProgress` is told of layers
   * @throws {@link ImageError} `notFound`, `wrongDigest`, `wrongSize`; ArchiveError for damaged compression
   */
  async verify(
    options: { archive?: number; signal?: AbortSignal; onProgress?: (at: LayerProgress) => void } = {},
  ): Promise<void> {
    const { signal, onProgress, ...limits } = options;
    for (const layer of this.layers) {
      const { digest, size } = layer.descriptor;
      let bytes = 0;
      async function* counted(source: AsyncIterable<Buffer>) {
        for await (const chunk of source) {
          bytes += chunk.length;
          onProgress?.({ digest, bytes, size });
          yield chunk;
        }
      }
      await diffIdOf(counted(this.layout.content.stream(digest, { signal })), layer, limits);
      if (bytes !== size) throw new ImageError('wrongSize', `a layer of ${bytes} bytes, not ${size}`, { digest });
    }
  }
}

/** What of a layer is known before it is there. */
export interface LayerClaim {
  compression: Compression;
  /** What the uncompressed archive must be; undefined to find out. */
  diffId: string | undefined;
}

const TERA = 2 ** 40;

/**
 * Hashes the uncompressed archive of a layer.
 *
 * @param source - bytes of its blob
 * @param claim - what it must be
 * @param limits - `archive`: most bytes of the uncompressed archive
 * @returns the diffID, and the length of the archive
 * @throws {@link ImageError} `wrongDigest`; ArchiveError for damaged or other compression, or too much
 */
export async function diffIdOf(
  source: AsyncIterable<Uint8Array>,
  { compression, diffId }: LayerClaim,
  { archive = TERA }: { archive?: number } = {},
): Promise<{ diffId: string; size: number }> {
  const hasher = new Hasher();
  for await (const chunk of decompress(source, compression)) {
    hasher.update(chunk);
    if (hasher.size > archive) {
      throw new ArchiveError('ERR_ARCHIVE_LIMIT', `a layer of more than ${archive} bytes, uncompressed`);
    }
  }
  const is = hasher.digest();
  if (diffId !== undefined && is !== diffId) {
    throw new ImageError('wrongDigest', `a layer's diffID is ${is}, the config says ${diffId}`, { digest: diffId });
  }
  return { diffId: is, size: hasher.size };
}

/** Layers of the manifest with what the config says of them. */
export function joinLayers(manifest: ImageManifest, config: ImageConfig): ImageLayer[] {
  const { diff_ids: diffIds } = config.rootfs;
  if (diffIds.length !== manifest.layers.length) {
    throw new ImageError(
      'badDocument',
      `a manifest of ${manifest.layers.length} layers whose config has ${diffIds.length} diffIDs`,
    );
  }
  const chains = chainIds(diffIds);
  return manifest.layers.map((descriptor, i) => {
    const compression = layerCompression(descriptor.mediaType);
    if (!compression) {
      throw new ImageError('unsupported', `a layer of type ${descriptor.mediaType}`, { digest: descriptor.digest });
    }
    return { descriptor, compression, diffId: diffIds[i] as string, chainId: chains[i] as string };
  });
}
