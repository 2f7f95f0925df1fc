// Images for tests, made by hand: documents as anybody might write them.
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import type { Descriptor } from '../image/document.js';
import { MEDIA_TYPE } from '../image/media-type.js';
import { entries, type Sketch } from './archive.js';

/** Bytes by their digest, and what refers to them. */
export interface Sketched {
  blobs: Map<string, Buffer>;
  descriptor: Descriptor;
  config: Descriptor;
  layers: Descriptor[];
  diffIds: string[];
}

export const sha256 = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A document or anything else as a blob. */
export function blob(blobs: Map<string, Buffer>, mediaType: string, value: unknown): Descriptor {
  const bytes = Buffer.isBuffer(value) ? value : Buffer.from(JSON.stringify(value));
  const digest = sha256(bytes);
  blobs.set(digest, bytes);
  return { mediaType, digest, size: bytes.length };
}

/** An archive with its end. */
export function tar(...sketches: Sketch[]): Buffer {
  return Buffer.concat([entries(...sketches), Buffer.alloc(1024)]);
}

/**
 * An image.
 *
 * @param layers - archives
 * @param change - what is other than usual: config, manifest, compression
 * @returns its blobs
 */
export function sketchImage(
  layers: readonly Buffer[],
  change: { config?: object; manifest?: object; compression?: 'none' | 'gzip' } = {},
): Sketched {
  const blobs = new Map<string, Buffer>();
  const gzip = change.compression !== 'none';
  const made = layers.map((bytes) => {
    return blob(blobs, `${MEDIA_TYPE.layer}${gzip ? '+gzip' : ''}`, gzip ? gzipSync(bytes) : bytes);
  });
  const diffIds = layers.map(sha256);
  const config = blob(blobs, MEDIA_TYPE.config, {
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin'], Cmd: ['sh'] },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: layers.map((_, i) => ({ created_by: `step ${i}` })),
    ...change.config,
  });
  const descriptor = blob(blobs, MEDIA_TYPE.manifest, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config,
    layers: made,
    ...change.manifest,
  });
  return { blobs, descriptor, config, layers: made, diffIds };
}

/** The files of an OCI image layout. */
export function layoutFiles(blobs: ReadonlyMap<string, Buffer>, manifests: readonly object[]): Sketch[] {
  return [
    { path: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { path: 'index.json', content: JSON.stringify({ schemaVersion: 2, manifests }) },
    ...[...blobs].map(([digest, content]) => ({ path: `blobs/${digest.replace(':', '/')}`, content })),
  ];
}
