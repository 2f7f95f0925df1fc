// Images that are unpacked while they come in: the same snapshots as afterwards, nothing by halves, nothing unchecked.
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { ImageError } from '../content/error.js';
import { StoreError } from '../store/error.js';
import { openStore } from '../store/open-store.js';
import type { Store } from '../store/store.js';
import { blob, layoutFiles, sha256, sketchImage, tar } from '../testing/image.js';
import { judge, warmUp } from '../testing/judge.js';
import type { ImageProgress } from './admit.js';
import { importImages } from './import.js';
import { ImageLayout } from './layout.js';
import { MEDIA_TYPE } from './media-type.js';
import { unpackImage } from './unpack.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
const at = (name: string) => join(folder, name);

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-arriving-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Layers that are worth two threads, on one another: what the upper ones hide and change, and no word on the root in those. */
const MUCH = randomBytes(9 << 20);
const layers = [
  tar(
    {
      path: './',
      type: 'directory',
      mode: 0o711,
      uid: 5,
      gid: 6,
      xattrs: new Map([['user.root', Buffer.from('own')]]),
    },
    { path: 'd', type: 'directory', mode: 0o750 },
    { path: 'd/below', content: 'below' },
    { path: 'gone', content: 'gone' },
    { path: 'much', content: MUCH },
  ),
  tar(
    { path: '.wh.gone' },
    { path: 'd', type: 'directory', mode: 0o700 },
    { path: 'd/.wh..wh..opq' },
    { path: 'd/own', content: 'own' },
  ),
  tar({ path: 'd', type: 'directory', mode: 0o700 }, { path: 'd/own', content: 'of the third' }),
];
const image = () => sketchImage(layers, { compression: 'none' });

async function stage(name: string, driver: 'overlay2' | 'vfs' = 'overlay2') {
  mkdirSync(at(name));
  const layout = await ImageLayout.open(at(`${name}/images`), { create: true });
  const store = await openStore({ root: at(`${name}/store`), driver, durability: 'none' });
  return { layout, store, path: at(`${name}/image.tar`) };
}

async function shown(store: Store, name: string) {
  using mount = await store.openMount(name, { readonly: true });
  // The root of a layer whose archive does not tell of it has the time at which it was made.
  return judge(`/proc/${process.pid}/fd/${mount.fd.number}/.`, ['dirtimes']);
}

async function failure(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Nothing has a name, nothing is half there. */
async function untouched({ layout, store }: { layout: ImageLayout; store: Store }): Promise<string[]> {
  expect(await layout.list()).toEqual([]);
  expect(await store.check()).toEqual([]);
  const names: string[] = [];
  for await (const { name, kind } of store.walk()) {
    expect(kind).toBe('committed');
    names.push(name);
  }
  return names;
}

describe.skipIf(!root)(`images that are unpacked while they come in${needs}`, () => {
  for (const driver of ['overlay2', 'vfs'] as const) {
    it(`show what they show when that is done afterwards, by ${driver}, and are read once`, async () => {
      const { layout, store, path } = await stage(`same-${driver}`, driver);
      await using _ = store;
      const { blobs, descriptor } = image();
      writeFileSync(path, tar(...layoutFiles(blobs, [descriptor])));
      const told: ImageProgress[] = [];
      const onProgress = (progress: ImageProgress) => void told.push(progress);
      await importImages(layout, path, { name: 'a', unpack: { store }, onProgress });
      const { chainId, layers: found } = await layout.image('a');
      // What was unpacked has been checked by that.
      expect(new Set(told.map(({ phase }) => phase))).toEqual(new Set(['copy', 'unpack']));
      expect(await store.check()).toEqual([]);
      expect((await store.stat(chainId as string)).depth).toBe(2);
      await using other = await openStore({ root: at(`same-${driver}/other`), driver: 'vfs', durability: 'none' });
      await unpackImage(await layout.image('a'), other);
      for (const { chainId: each } of found) expect(await shown(store, each)).toEqual(await shown(other, each));
      const top = await shown(store, chainId as string);
      expect(top['.']).toMatchObject({ mode: '0o711', uid: 5, gid: 6, xattrs: { 'user.root': '6f776e' } });
      expect(Object.keys(top)).not.toContain('"gone"');
      // Everything is there: nothing is unpacked again, and what comes is checked all the same.
      told.length = 0;
      await importImages(layout, path, { name: 'b', unpack: { store }, onProgress });
      expect(told.filter(({ phase }) => phase === 'unpack')).toEqual([]);
    });
  }

  it('are not let in by layers that are there already: what comes is checked', async () => {
    const { layout, store, path } = await stage('claims');
    await using _ = store;
    const good = image();
    writeFileSync(path, tar(...layoutFiles(good.blobs, [good.descriptor])));
    await importImages(layout, path, { name: 'a', unpack: { store } });
    await layout.untag('a');
    const bad = image();
    const changed = blob(bad.blobs, MEDIA_TYPE.layer, tar({ path: 'other', content: 'than its diffID says' }));
    const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config: bad.config };
    const descriptor = blob(bad.blobs, MEDIA_TYPE.manifest, { ...manifest, layers: [changed, ...bad.layers.slice(1)] });
    writeFileSync(path, tar(...layoutFiles(bad.blobs, [descriptor])));
    const error = await failure(importImages(layout, path, { name: 'bad', unpack: { store } }));
    expect(ImageError.is(error, 'wrongDigest'), String(error)).toBe(true);
    expect(await untouched({ layout, store })).toHaveLength(3);
  });

  for (const wrong of [0, 2]) {
    it(`leave nothing where layer ${wrong} is not what the config says, or is missing`, async () => {
      const stages = await stage(`wrong-${wrong}`);
      const { layout, store, path } = stages;
      await using _ = store;
      const diffIds = layers.map(sha256);
      diffIds[wrong] = sha256(Buffer.from('another'));
      const { blobs, descriptor } = sketchImage(layers, {
        compression: 'none',
        config: { rootfs: { type: 'layers', diff_ids: diffIds } },
      });
      writeFileSync(path, tar(...layoutFiles(blobs, [descriptor])));
      const error = await failure(importImages(layout, path, { name: 'a', unpack: { store } }));
      expect((error as { code?: string }).code, String(error)).toBe('ERR_ARCHIVE_DIGEST');
      expect((await untouched(stages)).length).toBeLessThanOrEqual(wrong);
      const missing = image();
      missing.blobs.delete(missing.layers[wrong]?.digest as string);
      writeFileSync(path, tar(...layoutFiles(missing.blobs, [missing.descriptor])));
      const other = await stage(`missing-${wrong}`);
      await using __ = other.store;
      const gone = await failure(importImages(other.layout, path, { name: 'a', unpack: { store: other.store } }));
      expect(ImageError.is(gone, 'notFound'), String(gone)).toBe(true);
      expect((await untouched(other)).length).toBeLessThanOrEqual(wrong);
    });
  }

  it('of more layers than can lie on one another are refused before one is unpacked', async () => {
    const stages = await stage('many');
    const { layout, store, path } = stages;
    await using _ = store;
    const many = Array.from({ length: 501 }, (_, i) => tar({ path: `f${i}` }));
    const { blobs, descriptor } = sketchImage(many, { compression: 'none' });
    writeFileSync(path, tar(...layoutFiles(blobs, [descriptor])));
    const error = await failure(importImages(layout, path, { name: 'a', unpack: { store } }));
    expect(ImageError.is(error, 'tooLarge'), String(error)).toBe(true);
    expect(await untouched(stages)).toEqual([]);
    await importImages(layout, path, { name: 'a' });
    const later = await failure(layout.image('a').then((many) => unpackImage(many, store)));
    expect(ImageError.is(later, 'tooLarge'), String(later)).toBe(true);
  });

  it('are not taken for whole where something was left out, also not in a copy', { timeout: 60_000 }, async () => {
    const { layout, store, path } = await stage('left-out');
    store.close();
    const { blobs, descriptor } = sketchImage([
      tar({ path: 'd', type: 'directory' }),
      tar({ path: 'null', type: 'character', device: { major: 1, minor: 3 } }, { path: 'f' }),
    ]);
    writeFileSync(path, tar(...layoutFiles(blobs, [descriptor])));
    await importImages(layout, path, { name: 'a' });
    // Devices cannot be made in a user namespace.
    const script = `import('@iso/unionfs').then(async ({ ImageLayout, openStore, unpackImage }) => {
      const image = await (await ImageLayout.open('${at('left-out/images')}')).image('a');
      const store = await openStore({ root: '${at('left-out/users')}', driver: 'vfs', durability: 'none' });
      for (const unsupported of ['warn', 'warn', 'error']) {
        await unpackImage(image, store, { unsupported }).then(() => console.log('taken'), (error) => console.log(error.reason, error.code));
      }
      store.close();
    })`;
    const command = ['-Urm', process.execPath, ...fromSources, '-e', script];
    expect(execFileSync('unshare', command, { encoding: 'utf8' })).toBe('taken\ntaken\nincomplete ERR_STORE\n');
    const image = await layout.image('a');
    const [below, top] = image.layers.map(({ chainId }) => chainId) as [string, string];
    await using users = await openStore({ root: at('left-out/users'), durability: 'none' });
    await using copy = await openStore({ root: at('left-out/copy'), driver: 'overlay2', durability: 'none' });
    await users.copy(top, copy);
    for (const other of [users, copy]) {
      expect((await other.stat(top)).labels).toEqual({ 'iso.left-out': '1' });
      expect((await other.stat(below)).labels).toEqual({});
      const error = await failure(unpackImage(image, other));
      expect(StoreError.is(error, 'incomplete'), String(error)).toBe(true);
      await unpackImage(image, other, { unsupported: 'warn' });
    }
    // As it says: remove it, unpack it here, and it is whole.
    await copy.remove(top);
    await unpackImage(image, copy);
    expect(Object.keys(await shown(copy, top))).toContain('"null"');
  });

  it('are given up with the signal, in the middle', async () => {
    const stages = await stage('given-up');
    const { layout, store, path } = stages;
    await using _ = store;
    const { blobs, descriptor } = image();
    writeFileSync(path, tar(...layoutFiles(blobs, [descriptor])));
    const controller = new AbortController();
    const onProgress = ({ phase }: ImageProgress) => phase === 'unpack' && controller.abort(new Error('enough'));
    const { signal } = controller;
    const error = await failure(importImages(layout, path, { name: 'a', unpack: { store }, signal, onProgress }));
    expect(String(error)).toBe('Error: enough');
    expect(await untouched(stages)).toHaveLength(0);
  });
});

describe.skipIf(!root)(`a snapshot whose parent comes late${needs}`, () => {
  const reason = async (act: Promise<unknown>) => {
    const error = await failure(act);
    return StoreError.is(error) ? error.reason : (error as { code?: string } | undefined)?.code;
  };

  it('lies on it once it is committed, and only then', async () => {
    const { store } = await stage('late');
    await using _ = store;
    expect(store.takesLate).toBe(true);
    const temporary = true;
    await store.prepare('base', {});
    {
      using mount = await store.openMount('base');
      const path = `/proc/self/fd/${mount.fd.number}`;
      chmodSync(path, 0o751);
      writeFileSync(`${path}/f`, 'below');
    }
    await store.prepare('top', { late: true, temporary });
    expect(await reason(store.commit('top', 'top'))).toBe('ERR_INVALID_ARG_VALUE');
    expect(await reason(store.commit('top', 'top', { parent: 'base' }))).toBe('notCommitted');
    expect(await reason(store.commit('top', 'top', { parent: 'none' }))).toBe('notFound');
    await store.commit('base', 'base');
    expect(await reason(store.commit('top', 'top', { parent: 'base' }))).toBe(undefined);
    expect(await reason(store.remove('base'))).toBe('hasChildren');
    const top = await shown(store, 'top');
    expect([top['.']?.mode, Object.keys(top)]).toEqual(['0o751', ['.', '"f"']]);
    await store.prepare('box', { parent: 'top' });
    expect(await reason(store.commit('box', 'box', { parent: 'base' }))).toBe('ERR_INVALID_ARG_VALUE');
    expect(await reason(store.prepare('a', { late: true }))).toBe('ERR_INVALID_ARG_VALUE');
    expect(await reason(store.prepare('a', { late: true, temporary, parent: 'top' }))).toBe('ERR_INVALID_ARG_VALUE');
    expect(await store.check()).toEqual([]);
  });

  it('is refused where layers are copies', async () => {
    const { store } = await stage('late-vfs', 'vfs');
    await using _ = store;
    expect(store.takesLate).toBe(false);
    expect(await reason(store.prepare('a', { late: true, temporary: true }))).toBe('unsupported');
  });
});
