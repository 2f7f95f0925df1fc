import type { Compression } from '../compression/compression.js';

/** Media types that are written here. */
export const MEDIA_TYPE = {
  index: 'application/vnd.oci.image.index.v1+json',
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  layer: 'application/vnd.oci.image.layer.v1.tar',
} as const;

const INDEXES = new Set<string>([MEDIA_TYPE.index, 'application/vnd.docker.distribution.manifest.list.v2+json']);
const MANIFESTS = new Set<string>([MEDIA_TYPE.manifest, 'application/vnd.docker.distribution.manifest.v2+json']);
const CONFIGS = new Set<string>([MEDIA_TYPE.config, 'application/vnd.docker.container.image.v1+json']);

/** All types of documents that a registry may answer with. */
export const DOCUMENT_TYPES: readonly string[] = [...INDEXES, ...MANIFESTS];

/** What kind of document a media type is. */
export function documentKind(mediaType: string): 'index' | 'manifest' | 'config' | undefined {
  if (INDEXES.has(mediaType)) return 'index';
  if (MANIFESTS.has(mediaType)) return 'manifest';
  return CONFIGS.has(mediaType) ? 'config' : undefined;
}

const LAYER =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(gzip|zstd))?|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(gzip|zstd))?)$/;

/**
 * How a layer is compressed, by its media type.
 *
 * @param mediaType - of the layer
 * @returns the compression, or undefined for what is no layer
 */
export function layerCompression(mediaType: string): Compression | undefined {
  const match = LAYER.exec(mediaType);
  return match ? ((match[1] ?? match[2] ?? 'none') as Compression) : undefined;
}

/** The media type of a layer that is compressed so. */
export function layerType(compression: Compression): string {
  return compression === 'none' ? MEDIA_TYPE.layer : `${MEDIA_TYPE.layer}+${compression}`;
}
