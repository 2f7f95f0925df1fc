// Images in and out, and what should not come in. No privilege: nothing is unpacked here.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { inspect } from 'node:util';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ImageError } from '../content/error.js';
import { ArchiveError } from '../tar/error.js';
import { readTar } from '../tar/read.js';
import { entries, forged, pax, type Sketch } from '../testing/archive.js';
import { blob, layoutFiles, type Sketched, sha256, sketchImage, tar } from '../testing/image.js';
import { commitImage } from './compose.js';
import { copyImage, exportImages } from './export.js';
import { type ImportOptions, importImages } from './import.js';
import { ImageLayout, NAME } from './layout.js';
import { MEDIA_TYPE } from './media-type.js';

let folder = '';
let layout: ImageLayout;
const at = (name: string) => join(folder, name);
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-images-'));
  layout = await ImageLayout.open(at('images'), { create: true, durable: false });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const one = tar({ path: 'a', content: 'first' }, { path: 'd', type: 'directory' });
const two = tar({ path: 'd/b', content: 'second' }, { path: '.wh.a' });
const named = (descriptor: object, name: string) => ({ ...descriptor, annotations: { [NAME.tag]: name } });
async function* bytes(...parts: Uint8Array[]) {
  for (const part of parts) for (let i = 0; i < part.length; i += 10_000) yield part.subarray(i, i + 10_000);
}
const bring = (sketches: readonly Sketch[], options?: ImportOptions) =>
  importImages(layout, bytes(tar(...sketches)), options);
const docker = (image: Sketched, change: object = {}, more: Sketch[] = []): Sketch[] => [
  ...image.layers.map(({ digest }, i) => ({ path: `${i}/layer.tar`, content: image.blobs.get(digest) as Buffer })),
  { path: 'config.json', content: image.blobs.get(image.config.digest) as Buffer },
  {
    path: 'manifest.json',
    content: JSON.stringify([
      { Config: 'config.json', RepoTags: ['a/b:1'], Layers: image.layers.map((_, i) => `${i}/layer.tar`), ...change },
    ]),
  },
  ...more,
];
async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
/** What was thrown, by its reason or code. */
async function why(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    if (ImageError.is(error)) return error.reason;
    if (error instanceof ArchiveError) return error.code;
    return error;
  }
  return undefined;
}
async function contentOf(source: AsyncIterable<Uint8Array>): Promise<Map<string, Buffer>> {
  const files = new Map<string, Buffer>();
  for await (const entry of readTar(source)) {
    const parts: Buffer[] = [];
    for await (const part of entry.content) parts.push(Buffer.from(part));
    files.set(String(entry.path), Buffer.concat(parts));
  }
  return files;
}

describe('slips that the types catch, and others do not', () => {
  const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });

  it('are refused: a format that there is not', async () => {
    await importImages(layout, bytes(one), { name: 'x' });
    const out = exportImages([await layout.image('x')], { format: 'oci' as 'rootfs' });
    await expect(out.next()).rejects.toThrow(refused);
  });

  it('are refused: a platform as text', async () => {
    const platform = 'linux/arm64' as unknown as NonNullable<ImportOptions['platform']>;
    await expect(importImages(layout, bytes(one), { name: 'x', platform })).rejects.toThrow(refused);
    await expect(layout.image('x', { platform })).rejects.toThrow(refused);
  });
});

describe('an archive of an image layout', () => {
  it('comes in, and goes out with the same blobs', async () => {
    const image = sketchImage([one, two]);
    const { format, images } = await bring(layoutFiles(image.blobs, [named(image.descriptor, 'x:1')]));
    expect([format, images]).toEqual([
      'oci-archive',
      [{ name: 'x:1', descriptor: expect.objectContaining(image.descriptor) }],
    ]);
    const opened = await layout.image('x:1');
    expect(opened.id).toBe(image.config.digest);
    expect(opened.layers.map(({ diffId }) => diffId)).toEqual(image.diffIds);
    expect(opened.config.config?.Cmd).toEqual(['sh']);
    expect(opened.history.map((step) => step.created_by)).toEqual(['step 0', 'step 1']);
    await opened.verify();
    for (const text of [image.descriptor.digest, image.config.digest, image.config.digest.slice(7, 19)]) {
      expect((await layout.image(text)).digest).toBe(image.descriptor.digest);
    }
    const out = () => exportImages([{ name: 'x:1', image: opened }], { format: 'oci-archive' });
    const files = await contentOf(out());
    for (const [digest, content] of image.blobs) {
      expect(files.get(`blobs/${digest.replace(':', '/')}`)?.equals(content)).toBe(true);
    }
    const again = await ImageLayout.open(at('again'), { create: true });
    expect((await importImages(again, out())).images[0]?.name).toBe('x:1');
    const twice = [Buffer.concat(await collect(out())), Buffer.concat(await collect(out()))];
    expect(twice[0]?.equals(twice[1] as Buffer)).toBe(true);
  });

  it('may be compressed, and be a directory', async () => {
    const image = sketchImage([one, two]);
    const files = layoutFiles(image.blobs, [named(image.descriptor, 'x')]);
    await importImages(layout, bytes(gzipSync(tar(...files))));
    expect((await layout.image('x')).digest).toBe(image.descriptor.digest);
    for (const { path, content } of files) {
      mkdirSync(dirname(at(`dir/${path}`)), { recursive: true });
      writeFileSync(at(`dir/${path}`), content ?? '');
    }
    const other = await ImageLayout.open(at('other'), { create: true });
    expect((await importImages(other, at('dir'))).format).toBe('oci');
    expect((await other.image('x')).digest).toBe(image.descriptor.digest);
    // Nothing was written to where it came from.
    expect(readdirSync(at('dir')).sort()).toEqual(['blobs', 'index.json', 'oci-layout']);
  });

  it('holds images of several platforms', async () => {
    const blobs = new Map<string, Buffer>();
    const of = (architecture: string, content: string) => {
      const image = sketchImage([one, tar({ path: 'arch', content })], { config: { architecture } });
      for (const [digest, part] of image.blobs) blobs.set(digest, part);
      return { ...image.descriptor, platform: { os: 'linux', architecture } };
    };
    const manifests = [of('amd64', 'a'), of('arm64', 'b')];
    const attestation = blob(blobs, MEDIA_TYPE.manifest, {
      schemaVersion: 2,
      config: blob(blobs, 'application/vnd.example.config', {}),
      layers: [blob(blobs, 'application/vnd.in-toto+json', {})],
    });
    manifests.push({ ...attestation, platform: { os: 'unknown', architecture: 'unknown' } });
    const index = blob(blobs, MEDIA_TYPE.index, { schemaVersion: 2, manifests });
    await bring(layoutFiles(blobs, [named(index, 'many')]));
    const arm = await layout.image('many', { platform: { os: 'linux', architecture: 'arm64' } });
    expect(arm.platform.architecture).toBe('arm64');
    expect(await why(layout.image('many', { platform: { os: 'linux', architecture: 's390x' } }))).toBe('noPlatform');
    expect((await layout.roots()).size).toBe(2);
    expect(await layout.gc()).toEqual([]);

    // One of them alone: nothing of the other comes.
    const slim = await ImageLayout.open(at('slim'), { create: true });
    const platform = { os: 'linux', architecture: 'arm64' };
    const copied = await copyImage(layout, 'many', slim, { platform, name: 'arm' });
    expect(copied.descriptor.digest).toBe(arm.digest);
    expect((await collect(slim.content.list())).length).toBe(1 + 1 + 1 + 2);
    await copyImage(layout, 'many', slim);
    expect((await slim.image('many', { platform: { os: 'linux', architecture: 'amd64' } })).layers).toHaveLength(2);
  });
});

describe('what docker save writes', () => {
  it('comes in, and goes out with the same layers and config', async () => {
    const image = sketchImage([one, two], { compression: 'none' });
    const { format, images } = await bring(docker(image, { RepoTags: ['a/b:1', 'debian'] }));
    expect(format).toBe('docker-archive');
    expect(images.map(({ name }) => name)).toEqual(['docker.io/a/b:1', 'docker.io/library/debian:latest']);
    const opened = await layout.image('docker.io/a/b:1');
    expect(opened.id).toBe(image.config.digest);
    expect(opened.layers.map(({ diffId }) => diffId)).toEqual(image.diffIds);
    const files = await contentOf(
      exportImages(
        [
          { name: 'docker.io/a/b:1', image: opened },
          { name: 'b:2', image: opened },
        ],
        { format: 'docker-archive' },
      ),
    );
    expect([...files.values()].some((file) => file.equals(one))).toBe(true);
    expect([...files.values()].some((file) => file.equals(two))).toBe(true);
    const [saved] = JSON.parse(String(files.get('manifest.json'))) as [{ Config: string; RepoTags: string[] }];
    expect(saved.RepoTags).toEqual(['docker.io/a/b:1', 'docker.io/library/b:2']);
    expect(sha256(files.get(saved.Config) as Buffer)).toBe(image.config.digest);
  });

  it('goes out by names that docker loads, or not at all', async () => {
    await bring(docker(sketchImage([one]), { RepoTags: ['a/b:1'] }));
    const image = await layout.image('docker.io/a/b:1');
    const save = (name: string) => contentOf(exportImages([{ name, image }], { format: 'docker-archive' }));
    const list = JSON.parse(String((await save('b')).get('manifest.json'))) as [{ RepoTags: string[] }];
    expect(list[0].RepoTags).toEqual(['docker.io/library/b:latest']);
    for (const name of ['UPPER', 'a b', `a/b:1@${image.digest}`]) {
      expect([name, await why(save(name))]).toEqual([name, 'badName']);
    }
  });

  it('has links for layers, compressed layers, layers twice, and no names', async () => {
    const image = sketchImage([one, one, two]);
    const [first, , third] = image.layers.map(({ digest }) => image.blobs.get(digest) as Buffer);
    const { images } = await bring([
      {
        path: 'manifest.json',
        content: JSON.stringify([{ Config: './c', RepoTags: null, Layers: ['1/l', '2/l', '3/l'] }]),
      },
      { path: '1/l', type: 'symlink', linkpath: '../store/one' },
      { path: '2/l', type: 'symlink', linkpath: '../1/l' },
      { path: '3/l', type: 'link', linkpath: 'store/three' },
      { path: 'store/one', content: first as Buffer },
      { path: './store/three', content: third as Buffer },
      { path: 'c', content: image.blobs.get(image.config.digest) as Buffer },
    ]);
    expect(images).toEqual([{ descriptor: expect.objectContaining({ mediaType: MEDIA_TYPE.manifest }) }]);
    const opened = await layout.image(image.config.digest);
    expect(opened.layers.map(({ compression }) => compression)).toEqual(['gzip', 'gzip', 'gzip']);
    await opened.verify();
    // Uncompressed again, they are what the config says.
    const files = await contentOf(exportImages([opened], { format: 'docker-archive' }));
    expect([...files.values()].filter((file) => file.equals(one))).toHaveLength(1);
  });
});

describe('a root file system', () => {
  it('becomes an image of one layer, its archive as it is', async () => {
    for (const archive of [one, gzipSync(one)]) {
      const name = sha256(archive);
      const config = { Cmd: ['/bin/sh'] };
      expect((await importImages(layout, bytes(archive), { name, config })).format).toBe('rootfs');
      const image = await layout.image(name);
      expect(image.layers[0]).toMatchObject({ diffId: sha256(one), descriptor: { digest: sha256(archive) } });
      expect(image.config.config).toEqual(config);
      // Other programs show when each step was made.
      const { created } = image.config;
      expect(Date.now() - Date.parse(created as string)).toBeLessThan(60_000);
      expect(image.history).toEqual([{ created, created_by: 'iso import' }]);
    }
    const created = new Date(1_700_000_000_000);
    const digests = ['x', 'y'].map(async (name) => {
      await importImages(layout, bytes(one), { name, created });
      return (await layout.image(name)).digest;
    });
    expect(new Set(await Promise.all(digests)).size).toBe(1);
  });

  it('may have files that are called like those of images', async () => {
    const files = [{ path: 'manifest.json', content: '{"name":"an extension of a browser"}' }, { path: 'index.json' }];
    expect((await bring(files, { name: 'x' })).format).toBe('rootfs');
    expect((await bring([{ path: 'manifest.json', content: '[{"a":1}]' }], { name: 'y' })).format).toBe('rootfs');
  });
});

describe('an image layout', () => {
  it('names, takes names away, and collects what has none', async () => {
    const image = sketchImage([one, two]);
    await bring(layoutFiles(image.blobs, [named(image.descriptor, 'a')]));
    await layout.tag('b', await layout.image('a'));
    await layout.tag('b', await layout.image('a'));
    expect((await layout.list()).map(({ name }) => name)).toEqual(['a', 'b']);
    expect(await layout.untag('a')).toEqual(['a']);
    expect(await layout.untag('a')).toEqual([]);
    expect(await layout.gc()).toEqual([]);
    expect(await why(layout.image('a'))).toBe('notFound');
    expect(await layout.untag('b')).toEqual(['b']);
    expect((await layout.gc({ dryRun: true })).length).toBe(4);
    expect((await layout.gc()).length).toBe(4);
    expect(await collect(layout.content.list())).toEqual([]);
    expect(await why(layout.tag('c', image.descriptor))).toBe('notFound');
    expect(await why(layout.tag('', image.descriptor))).toBe('badName');
    expect(await why(ImageLayout.open(at('nowhere')))).toBe('badArchive');
    expect(existsSync(at('nowhere'))).toBe(false);
  });

  it('tells what may have been meant', async () => {
    await importImages(layout, bytes(one), { name: 'docker.io/library/debian:12' });
    const error = await layout.image('docker.io/library/debain:12').catch((error: unknown) => error);
    expect(error).toMatchObject({ reason: 'notFound', hint: 'there is docker.io/library/debian:12' });
    expect(await layout.image('other').catch((error: unknown) => error)).not.toHaveProperty('hint');
  });

  it('loses no name when many write at once', async () => {
    const image = sketchImage([one]);
    await bring(layoutFiles(image.blobs, [named(image.descriptor, 'a')]));
    const layouts = await Promise.all(Array.from({ length: 10 }, () => ImageLayout.open(at('images'))));
    await Promise.all(layouts.map((other, i) => other.tag(`n${i}`, image.descriptor)));
    expect((await layout.list()).length).toBe(11);
  });

  it('takes a new layer on an image, the same one each time', async () => {
    const image = sketchImage([one]);
    await bring(layoutFiles(image.blobs, [named(image.descriptor, 'a')]));
    const base = await layout.image('a');
    const created = new Date(1_700_000_000_000);
    const made = await commitImage(layout, bytes(two), { base, created, createdBy: 'a test', config: { Cmd: ['x'] } });
    const same = await commitImage(layout, bytes(two), { base, created, createdBy: 'a test', config: { Cmd: ['x'] } });
    expect(made.digest).toBe(same.digest);
    expect(made.layers.map(({ diffId }) => diffId)).toEqual([sha256(one), sha256(two)]);
    expect(made.config.config).toEqual({ Env: ['PATH=/bin'], Cmd: ['x'] });
    expect(made.history.at(-1)).toEqual({ created: created.toISOString(), created_by: 'a test' });
    await made.verify();
  });
});

describe('progress and giving up', () => {
  it('tells of every blob, to its end', async () => {
    const image = sketchImage([one, two]);
    const seen = new Map<string, number>();
    await bring(layoutFiles(image.blobs, [named(image.descriptor, 'a')]), {
      onProgress: ({ phase, digest, bytes, size }) => {
        expect(bytes).toBeLessThanOrEqual(size);
        if (phase === 'copy') seen.set(digest, bytes);
      },
    });
    for (const [digest, content] of image.blobs) expect(seen.get(digest)).toBe(content.length);
  });

  it('leaves when it is told to, also while nothing comes', async () => {
    const reason = new Error('enough');
    const stop = new AbortController();
    async function* stuck() {
      yield one.subarray(0, 100);
      await new Promise(() => {});
    }
    const failed = why(importImages(layout, stuck(), { signal: stop.signal }));
    setTimeout(() => stop.abort(reason), 20);
    expect(await failed).toBe(reason);
    expect(readdirSync(at('images/.iso/partial'))).toEqual([]);
    expect(await why(bring([{ path: 'a' }], { signal: AbortSignal.abort(reason) }))).toBe(reason);
    // What cannot be read again is not waited for.
    execFileSync('mkfifo', [at('fifo')]);
    expect(await why(importImages(layout, at('fifo')))).toBe('badArchive');
  });
});

describe('an image that should not come in', () => {
  const good = () => sketchImage([one, two]);
  const oci = (image: Sketched, more: Sketch[] = []) => [
    ...layoutFiles(image.blobs, [named(image.descriptor, 'evil')]),
    ...more,
  ];
  const replaced = (image: Sketched, digest: string, content: Buffer) => {
    image.blobs.set(digest, content);
    return oci(image);
  };
  const lies = (field: 'size' | 'mediaType', value: unknown) => {
    const image = good();
    return layoutFiles(image.blobs, [named({ ...image.descriptor, [field]: value }, 'evil')]);
  };
  const deepIndex = () => {
    const image = good();
    let inner = image.descriptor;
    for (let i = 0; i < 10; i++) inner = blob(image.blobs, MEDIA_TYPE.index, { schemaVersion: 2, manifests: [inner] });
    return layoutFiles(image.blobs, [named(inner, 'evil')]);
  };
  const bomb = (layer: Buffer) => oci(sketchImage([layer]));
  const link = (path: string, linkpath: string): Sketch => ({ path, type: 'symlink', linkpath });

  const corpus: [name: string, expected: string, parts: () => (Sketch | Buffer)[], options?: ImportOptions][] = [
    ['a layer of other bytes', 'wrongSize', () => replaced(good(), good().layers[0]?.digest ?? '', Buffer.from('x'))],
    [
      'a layer of as many other bytes',
      'wrongDigest',
      () => {
        const image = good();
        const { digest = '', size = 0 } = image.layers[0] ?? {};
        return replaced(image, digest, Buffer.alloc(size));
      },
    ],
    [
      'a manifest of other bytes',
      'wrongDigest',
      () => {
        const image = good();
        return replaced(image, image.descriptor.digest, Buffer.alloc(image.descriptor.size, ' '));
      },
    ],
    [
      'a config of other bytes',
      'wrongDigest',
      () => {
        const image = good();
        return replaced(image, image.config.digest, Buffer.alloc(image.config.size, ' '));
      },
    ],
    [
      'a diffID of another layer',
      'wrongDigest',
      () =>
        oci(sketchImage([one, two], { config: { rootfs: { type: 'layers', diff_ids: [sha256(two), sha256(one)] } } })),
    ],
    [
      'fewer diffIDs',
      'badDocument',
      () => oci(sketchImage([one, two], { config: { rootfs: { type: 'layers', diff_ids: [sha256(one)] } } })),
    ],
    [
      'a missing layer',
      'notFound',
      () => {
        const image = good();
        image.blobs.delete(image.layers[1]?.digest ?? '');
        return oci(image);
      },
    ],
    ['a missing manifest', 'notFound', () => layoutFiles(new Map(), [named(good().descriptor, 'evil')])],
    ['a wrong size', 'wrongSize', () => lies('size', 10)],
    ['a manifest called an index', 'ambiguous', () => lies('mediaType', MEDIA_TYPE.index)],
    ['something called a manifest', 'unsupported', () => lies('mediaType', 'text/html')],
    ['a huge manifest', 'tooLarge', () => lies('size', 1 << 30)],
    [
      'a huge index',
      'tooLarge',
      () => [
        { path: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
        { path: 'index.json', content: Buffer.alloc(5 << 20, ' ') },
      ],
    ],
    ['indexes without end', 'tooLarge', deepIndex],
    [
      'another version',
      'unsupported',
      () => [
        { path: 'oci-layout', content: '{"imageLayoutVersion":"9"}' },
        { path: 'index.json', content: '{}' },
      ],
    ],
    [
      'a digest that leads out',
      'badName',
      () => layoutFiles(new Map(), [named({ ...good().descriptor, digest: 'sha256:../../../etc/passwd' }, 'evil')]),
    ],
    [
      'a type of layer that nobody knows',
      'unsupported',
      () => oci(sketchImage([one], { manifest: { layers: [{ mediaType: 'text/x', digest: sha256(one), size: 1 }] } })),
    ],
    [
      'compression that is another',
      'ERR_ARCHIVE_COMPRESSION',
      () => {
        const image = sketchImage([one], { compression: 'none' });
        const layers = image.layers.map((layer) => ({ ...layer, mediaType: `${MEDIA_TYPE.layer}+gzip` }));
        return oci(sketchImage([one], { compression: 'none', manifest: { layers } }));
      },
    ],
    ['zeros without end', 'ERR_ARCHIVE_LIMIT', () => bomb(Buffer.alloc(40 << 20)), { limits: { archive: 1 << 20 } }],
    [
      'a large blob',
      'tooLarge',
      () => oci(sketchImage([Buffer.alloc(100_000)], { compression: 'none' })),
      { limits: { blob: 50_000 } },
    ],
    [
      'many files',
      'ERR_ARCHIVE_LIMIT',
      () => Array.from({ length: 30 }, (_, i) => ({ path: `f${i}` })),
      { limits: { entries: 20 } },
    ],
    [
      'a blob twice',
      'ambiguous',
      () => {
        const image = good();
        return oci(image, [{ path: `./blobs/${image.config.digest.replace(':', '/')}`, content: 'other' }]);
      },
    ],
    ['an index twice', 'ambiguous', () => oci(good(), [{ path: 'index.json', content: '{"schemaVersion":2}' }])],
    [
      'an index as a link',
      'notFound',
      () => [
        { path: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
        link('index.json', '/blobs/i'),
        { path: 'blobs/i', content: '{"schemaVersion":2,"manifests":[]}' },
      ],
    ],
    ['no image at all', 'notFound', () => layoutFiles(new Map(), [])],
    ['a header that is none', 'ERR_ARCHIVE_HEADER', () => [Buffer.alloc(512, 'x')]],
    ['a name that leads out', 'ERR_ARCHIVE_PATH', () => oci(good(), [{ path: '../x' }])],
    [
      'an archive that ends early',
      'ERR_ARCHIVE_TRUNCATED',
      () => [entries({ path: 'x', content: 'y'.repeat(9000) }).subarray(0, 1024)],
    ],
    ['a long extended header', 'ERR_ARCHIVE_LIMIT', () => [pax({ path: 'x'.repeat(2 << 20) }), { path: 'x' }]],
    [
      'a layer elsewhere, of docker',
      'badArchive',
      () => docker(good(), { Layers: ['../../../etc/passwd', '1/layer.tar'] }),
    ],
    ['an absolute layer, of docker', 'notFound', () => docker(good(), { Layers: ['/etc/passwd', '1/layer.tar'] })],
    ['a config elsewhere, of docker', 'badArchive', () => docker(good(), { Config: '0/../../config.json' })],
    [
      'a layer by a link that leads out',
      'badArchive',
      () => docker(good(), { Layers: ['l', '1/layer.tar'] }, [link('l', '../../etc/passwd')]),
    ],
    [
      'a layer by an absolute link',
      'notFound',
      () => docker(good(), { Layers: ['l', '1/layer.tar'] }, [link('l', '/etc/passwd')]),
    ],
    [
      'links that lead round',
      'badArchive',
      () => docker(good(), { Layers: ['l', '1/layer.tar'] }, [link('l', 'm'), link('m', 'l')]),
    ],
    ['a link to itself', 'badArchive', () => docker(good(), { Layers: ['l', '1/layer.tar'] }, [link('l', 'l')])],
    [
      'layers in another order, of docker',
      'wrongDigest',
      () => docker(good(), { Layers: ['1/layer.tar', '0/layer.tar'] }),
    ],
    ['too few layers, of docker', 'badDocument', () => docker(good(), { Layers: ['0/layer.tar'] })],
    ['a layer twice, of docker', 'ambiguous', () => docker(good(), {}, [{ path: '0/layer.tar', content: 'other' }])],
    ['a name that is none, of docker', 'badName', () => docker(good(), { RepoTags: ['../..:x'] })],
    [
      'names that are no text, of docker',
      'ambiguous',
      () => docker(good(), {}, [{ path: 'manifest.json', content: '[{"Config":1}]' }]),
    ],
    [
      'a sparse layer, of docker',
      'badArchive',
      () => [
        ...docker(good(), { Layers: ['s', '1/layer.tar'] }),
        pax({ 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '9000' }),
        forged({ path: 's', content: '1\n0\n1\n'.padEnd(512, '\0').concat('x') }, () => {}),
      ],
    ],
    [
      'what is no JSON, of docker',
      'badDocument',
      () => docker(good(), {}).map((part) => (part.path === 'manifest.json' ? { ...part, content: '[{' } : part)),
    ],
    ['an archive of old docker', 'unsupported', () => [{ path: 'repositories', content: '{}' }]],
  ];
  for (const [name, expected, parts, options] of corpus) {
    it(name, async () => {
      const archive = Buffer.concat([
        ...parts().map((part) => (Buffer.isBuffer(part) ? part : entries(part))),
        Buffer.alloc(1024),
      ]);
      expect(await why(importImages(layout, bytes(archive), options))).toBe(expected);
      expect(await layout.list()).toEqual([]);
      expect(readdirSync(at('images/.iso/partial'))).toEqual([]);
      expect(readdirSync(folder)).toEqual(['images']);
      // Blobs that were right may stay, and go when they are collected.
      await layout.gc();
      expect(await collect(layout.content.list())).toEqual([]);
    });
  }

  it('a directory with blobs that are no files', async () => {
    const image = good();
    for (const { path, content } of oci(image)) {
      mkdirSync(dirname(at(`dir/${path}`)), { recursive: true });
      writeFileSync(at(`dir/${path}`), content ?? '');
    }
    const layer = at(`dir/blobs/${image.layers[0]?.digest.replace(':', '/')}`);
    rmSync(layer);
    symlinkSync('/dev/zero', layer);
    expect(await why(importImages(layout, at('dir')))).toBe('notFound');
    rmSync(layer);
    symlinkSync('/etc/passwd', layer);
    expect(await why(importImages(layout, at('dir')))).toBe('notFound');
    expect(await layout.list()).toEqual([]);
  });

  it.each(['oci-layout', 'index.json', 'blobs', 'blobs/sha256', 'each blob'])(
    'a directory that leads out by a link: %s',
    async (link) => {
      const image = good();
      for (const { path, content } of oci(image)) {
        mkdirSync(dirname(at(`dir/${path}`)), { recursive: true });
        writeFileSync(at(`dir/${path}`), content ?? '');
      }
      const moved =
        link === 'each blob' ? readdirSync(at('dir/blobs/sha256')).map((name) => `blobs/sha256/${name}`) : [link];
      mkdirSync(at('out'));
      for (const [i, name] of moved.entries()) {
        renameSync(at(`dir/${name}`), at(`out/${i}`));
        symlinkSync(at(`out/${i}`), at(`dir/${name}`));
      }
      expect(await why(importImages(layout, at('dir')))).toBe(
        link.startsWith('oci') || link.startsWith('index') ? 'badArchive' : 'notFound',
      );
      expect(await layout.list()).toEqual([]);
    },
  );

  it('tells nothing of what is no document', async () => {
    mkdirSync(at('dir'));
    for (const name of ['oci-layout', 'index.json']) {
      writeFileSync(at(`dir/${name}`), 'root:x:0:0:secret');
      const error = await importImages(layout, at('dir')).catch((caught: unknown) => caught);
      expect(ImageError.is(error, 'badDocument')).toBe(true);
      expect(inspect(error)).not.toMatch(/root|secret/);
      writeFileSync(at('dir/oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    }
  });

  it('finds what went bad after it came in', async () => {
    const image = good();
    await bring(oci(image));
    const path = layout.content.path(image.layers[0]?.digest as string);
    const content = readFileSync(path);
    content[20] = (content[20] as number) ^ 1;
    rmSync(path);
    writeFileSync(path, content);
    const bad = await layout.image('evil');
    expect(['wrongDigest', 'ERR_ARCHIVE_COMPRESSION']).toContain(await why(bad.verify()));
    for (const format of ['oci-archive', 'docker-archive'] as const) {
      const failed = await why(collect(exportImages([bad], { format })));
      expect(['wrongDigest', 'ERR_ARCHIVE_COMPRESSION']).toContain(failed);
    }
  });
});
