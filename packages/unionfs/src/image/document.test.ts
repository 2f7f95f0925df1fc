import { describe, expect, it } from 'vitest';
import { ImageError, type ImageErrorReason } from '../content/error.js';
import { parseConfig, parseIndex, parseManifest } from './document.js';
import { chainIds } from './image.js';
import { layerCompression, MEDIA_TYPE } from './media-type.js';
import { formatPlatform, hostPlatform, parsePlatform, selectPlatform } from './platform.js';

const digest = `sha256:${'a'.repeat(64)}`;
const descriptor = { mediaType: MEDIA_TYPE.manifest, digest, size: 7 };
const manifest = { schemaVersion: 2, config: descriptor, layers: [descriptor] };
const config = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [digest] } };
const json = (value: unknown) => Buffer.from(JSON.stringify(value));
const reason = (act: () => unknown): ImageErrorReason | undefined => {
  try {
    act();
  } catch (error) {
    if (!ImageError.is(error)) throw error;
    return error.reason;
  }
  return undefined;
};

describe('documents', () => {
  it('are taken as everybody writes them', () => {
    expect(parseManifest(json(manifest), MEDIA_TYPE.manifest).layers).toHaveLength(1);
    expect(parseIndex(json({ schemaVersion: 2, manifests: null }))).toMatchObject({ manifests: [] });
    // Docker writes null for what is not there, and what nobody knows stays.
    const old = { ...config, config: { Cmd: null, Entrypoint: 'sh', Labels: null, Volumes: { '/v': {} } }, more: [1] };
    expect(parseConfig(json(old))).toMatchObject({ config: { Entrypoint: ['sh'], Volumes: { '/v': {} } }, more: [1] });
    expect(parseConfig(json({ rootfs: config.rootfs }))).toMatchObject({ os: 'linux', architecture: 'amd64' });
  });

  const wrong: [name: string, reason: ImageErrorReason, act: () => unknown][] = [
    ['no JSON', 'badDocument', () => parseManifest(Buffer.from('{"a":'))],
    ['no UTF-8', 'badDocument', () => parseManifest(Buffer.from([0x22, 0xff, 0x22]))],
    ['no object', 'badDocument', () => parseManifest(json([]))],
    ['null', 'badDocument', () => parseConfig(json(null))],
    ['too much', 'tooLarge', () => parseManifest(Buffer.alloc(5 << 20, ' '))],
    ['depth', 'badDocument', () => parseManifest(Buffer.from('['.repeat(1 << 20)))],
    ['version 1', 'unsupported', () => parseManifest(json({ schemaVersion: 1, fsLayers: [] }))],
    ['an index as manifest', 'ambiguous', () => parseManifest(json({ ...manifest, mediaType: MEDIA_TYPE.index }))],
    ['both', 'ambiguous', () => parseManifest(json({ ...manifest, manifests: [] }))],
    ['both, as index', 'ambiguous', () => parseIndex(json({ ...manifest, manifests: [descriptor] }))],
    [
      'another type than announced',
      'ambiguous',
      () =>
        parseManifest(
          json({ ...manifest, mediaType: MEDIA_TYPE.manifest }),
          'application/vnd.docker.distribution.manifest.v2+json',
        ),
    ],
    ['keys that Go takes for one', 'ambiguous', () => parseManifest(json({ ...manifest, Layers: [] }))],
    ['no config', 'badDocument', () => parseManifest(json({ schemaVersion: 2, layers: [] }))],
    [
      'a digest that leads out',
      'badName',
      () => parseManifest(json({ ...manifest, config: { ...descriptor, digest: 'sha256:../../x' } })),
    ],
    [
      'another algorithm',
      'unsupported',
      () => parseManifest(json({ ...manifest, config: { ...descriptor, digest: 'md5:00' } })),
    ],
    [
      'a negative size',
      'badDocument',
      () => parseManifest(json({ ...manifest, layers: [{ ...descriptor, size: -1 }] })),
    ],
    [
      'a size as text',
      'badDocument',
      () => parseManifest(json({ ...manifest, layers: [{ ...descriptor, size: '7' }] })),
    ],
    ['many layers', 'tooLarge', () => parseManifest(json({ ...manifest, layers: Array(20_000).fill(0) }))],
    ['layers that are none', 'badDocument', () => parseManifest(json({ ...manifest, layers: 'abc' }))],
    [
      'a diffID that is none',
      'badName',
      () => parseConfig(json({ ...config, rootfs: { type: 'layers', diff_ids: ['x'] } })),
    ],
    ['no rootfs', 'badDocument', () => parseConfig(json({ os: 'linux' }))],
    ['numbers in Env', 'badDocument', () => parseConfig(json({ ...config, config: { Env: [1] } }))],
    ['labels that are no text', 'badDocument', () => parseConfig(json({ ...config, config: { Labels: { a: 1 } } }))],
    ['history that is none', 'badDocument', () => parseConfig(json({ ...config, history: ['x'] }))],
  ];
  for (const [name, expected, act] of wrong) {
    it(`are refused: ${name}`, () => expect(reason(act)).toBe(expected));
  }
});

describe('chainIDs', () => {
  it('are those of the specification', () => {
    // Computed with sha256sum(1): printf '%s %s' …
    const [a, b] = [`sha256:${'a'.repeat(64)}`, `sha256:${'b'.repeat(64)}`];
    expect(chainIds([a, b])).toEqual([a, 'sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c']);
    expect(chainIds([])).toEqual([]);
  });
});

describe('media types', () => {
  it('of layers tell the compression', () => {
    const of = (type: string) => layerCompression(`application/vnd.${type}`);
    expect(of('oci.image.layer.v1.tar')).toBe('none');
    expect(of('oci.image.layer.v1.tar+gzip')).toBe('gzip');
    expect(of('oci.image.layer.v1.tar+zstd')).toBe('zstd');
    expect(of('oci.image.layer.nondistributable.v1.tar+gzip')).toBe('gzip');
    expect(of('docker.image.rootfs.diff.tar.gzip')).toBe('gzip');
    expect(of('docker.image.rootfs.diff.tar')).toBe('none');
    for (const type of ['oci.image.layer.v1.tar+xz', 'oci.image.config.v1+json', 'oci.image.layer.v1.tar+gzip+x']) {
      expect(of(type)).toBeUndefined();
    }
  });
});

describe('platforms', () => {
  const of = (text?: string, i = 0) => ({ ...descriptor, size: i, ...(text ? { platform: parsePlatform(text) } : {}) });
  const pick = (wanted: string, ...there: string[]) => selectPlatform(there.map(of), parsePlatform(wanted)).size;

  it('are written in several ways', () => {
    expect(formatPlatform(parsePlatform('aarch64'))).toBe('linux/arm64');
    expect(formatPlatform(parsePlatform('Linux/ARM/v7'))).toBe('linux/arm/v7');
    expect(hostPlatform().os).toBe('linux');
    for (const bad of ['', '/', 'a/b/c/d', 'linux/', 'li nux/amd64', '../x']) {
      expect(reason(() => parsePlatform(bad))).toBe('badName');
    }
  });

  it('are found exactly, or the best that runs', () => {
    expect(pick('amd64', 'linux/arm64', 'linux/amd64', 'windows/amd64')).toBe(1);
    expect(pick('arm64', 'linux/arm/v7', 'linux/arm64/v8')).toBe(1);
    expect(pick('arm/v7', 'linux/arm/v5', 'linux/arm/v6', 'linux/arm64')).toBe(1);
    expect(pick('arm/v6', 'linux/arm/v7', 'linux/arm/v5')).toBe(1);
    expect(pick('amd64/v3', 'linux/amd64', 'linux/amd64/v2', 'linux/amd64/v4')).toBe(1);
    expect(reason(() => pick('arm/v5', 'linux/arm/v7'))).toBe('noPlatform');
    expect(reason(() => pick('amd64', 'unknown/unknown'))).toBe('noPlatform');
    expect(reason(() => pick('amd64'))).toBe('noPlatform');
    expect(selectPlatform([of()], parsePlatform('amd64')).size).toBe(0);
  });
});
