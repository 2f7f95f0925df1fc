// Stores that somebody damaged, and what check() makes of them; copies between drivers, with Python as the judge; sizes, with du.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MountTree } from '@iso/mounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { judge, makeTree, warmUp } from '../testing/judge.js';
import { openStore } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const type = 'btrfs';
const btrfs = spawnSync('sh', ['-c', `command -v mkfs.${type}`]).status === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-check-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inside = async <T>(store: Store, name: string, act: (path: string) => T): Promise<T> => {
  using mount = await store.openMount(name);
  return act(`/proc/${process.pid}/fd/${mount.fd.number}`);
};
const layer = async (store: Store, name: string, parent?: string) => {
  await store.prepare('work', { ...(parent ? { parent } : {}), labels: { of: name } });
  await inside(store, 'work', (path) => writeFileSync(join(path, name), name));
  await store.commit(name, 'work');
};
const names = async (store: Store) => {
  const list: string[] = [];
  for await (const { name } of store.walk()) list.push(name);
  return list.sort();
};

describe.skipIf(!root)(`check${needs}`, () => {
  /** A store of a chain a, b, c with a box on top, and of d. */
  const damaged = async (damage: (place: string, layers: Record<string, string>) => void) => {
    const place = mkdtempSync(join(folder, 'store-'));
    const layers: Record<string, string> = {};
    {
      await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
      await layer(store, 'a');
      await layer(store, 'b', 'a');
      await layer(store, 'c', 'b');
      await store.prepare('box', { parent: 'c' });
      await layer(store, 'd');
      for await (const { name, layer } of store.walk()) layers[name] = layer;
      expect(await store.check()).toEqual([]);
    }
    damage(place, layers);
    const store = await openStore({ root: place, durability: 'none' });
    const found = await store.check();
    const again = await store.check({ repair: true });
    expect(again.map(({ kind, about }) => `${kind} ${about}`)).toEqual(
      found.map(({ kind, about }) => `${kind} ${about}`),
    );
    expect(again.every(({ repaired }) => repaired)).toBe(true);
    expect(await store.check()).toEqual([]);
    return { place, store, kinds: found.map(({ kind, about }) => `${kind} ${about}`) };
  };

  it('mends the record of a layer from those above', async () => {
    for (const text of ['', '{"version":1', '\0'.repeat(300), '[]', 'null', '{"version":1,"name":"b"}']) {
      const { store, kinds } = await damaged((place) => writeFileSync(join(place, 'snapshots/b'), text));
      await using _ = store;
      expect(kinds).toEqual(['record b']);
      expect(await names(store)).toEqual(['a', 'b', 'box', 'c', 'd']);
      expect(await inside(store, 'box', (path) => readdirSync(path))).toEqual(['a', 'b', 'c']);
    }
    const { store, kinds } = await damaged((place) => rmSync(join(place, 'snapshots/b')));
    await using _ = store;
    expect(kinds).toEqual(['parent c']);
    expect(await inside(store, 'b', (path) => readdirSync(path))).toEqual(['a', 'b']);
  });

  it('removes what cannot be mended, and nothing else', async () => {
    {
      const { store, kinds } = await damaged((place, { d }) =>
        rmSync(join(place, 'layers', String(d)), { recursive: true }),
      );
      await using _ = store;
      expect(kinds).toEqual(['layer d']);
      expect(await names(store)).toEqual(['a', 'b', 'box', 'c']);
    }
    {
      const { place, store } = await damaged((place, { b }) =>
        rmSync(join(place, 'layers', String(b)), { recursive: true }),
      );
      await using _ = store;
      expect(await names(store)).toEqual(['a', 'd']);
      expect(readdirSync(join(place, 'layers')).length).toBe(2);
    }
    {
      const { place, store } = await damaged((place) => writeFileSync(join(place, 'snapshots/box'), 'x'));
      await using _ = store;
      expect(await names(store)).toEqual(['a', 'b', 'c', 'd']);
      expect(readdirSync(join(place, 'layers')).length).toBe(4);
    }
  });

  it('says of what it only found what would be done', async () => {
    const place = mkdtempSync(join(folder, 'store-'));
    await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
    await layer(store, 'd');
    rmSync(join(place, 'snapshots/d'));
    const said = async (repair: boolean) => {
      const problems = await store.check({ repair });
      return [
        problems.map(({ kind, message, repaired }) => [kind, message, repaired]),
        readdirSync(join(place, 'layers')).length,
      ];
    };
    const found = [[['dangling', 'no snapshot has this layer; with repair: removed', false]], 1];
    expect([await said(false), await said(false)]).toEqual([found, found]);
    expect(await said(true)).toEqual([[['dangling', 'no snapshot has this layer; removed', true]], 0]);
    expect(await said(false)).toEqual([[], 0]);
  });

  it('gives a layer one owner', async () => {
    const { store, kinds } = await damaged((place, { a }) => {
      const record = JSON.parse(readFileSync(join(place, 'snapshots/box'), 'utf8')) as Record<string, unknown>;
      writeFileSync(
        join(place, 'snapshots/thief'),
        JSON.stringify({ ...record, name: 'thief', layer: a, parent: null, below: [] }),
      );
    });
    await using _ = store;
    expect(kinds).toEqual(['shared thief']);
    expect(await inside(store, 'a', (path) => readdirSync(path))).toEqual(['a']);
  });

  it('leaves a store alone whose records it cannot read, until it is asked to mend', async () => {
    const place = mkdtempSync(join(folder, 'store-'));
    await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
    await layer(store, 'a');
    await store.prepare('box', { parent: 'a' });
    const record = join(place, 'snapshots/box');
    renameSync(record, `${folder}/box`);
    writeFileSync(record, 'x');
    await using other = await openStore({ root: place });
    await expect(other.stat('box')).rejects.toMatchObject({ reason: 'corrupt' });
    await expect(other.prepare('box')).rejects.toMatchObject({ reason: 'corrupt' });
    await expect(other.gc({ roots: 'a' })).rejects.toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
    expect(await other.gc({ roots: ['a'] })).toMatchObject({ dangling: [] });
    renameSync(`${folder}/box`, record);
    expect(await other.check()).toEqual([]);
    expect(await inside(other, 'box', (path) => readdirSync(path))).toEqual(['a']);
  });
});

describe.skipIf(!root)(`copies${needs}`, () => {
  it('make the same tree with any driver, and back', { timeout: 60_000 }, async () => {
    await using first = await openStore({ root: join(folder, 'first'), driver: 'overlay2', durability: 'none' });
    await first.prepare('work');
    await inside(first, 'work', (path) => makeTree(join(path, 'tree'), 5, 120));
    await first.commit('base', 'work', { labels: { a: 'b' } });
    await first.prepare('box', { parent: 'base' });
    await inside(first, 'box', (path) => {
      rmSync(join(path, 'tree', readdirSync(join(path, 'tree')).sort()[0] as string), { recursive: true });
      writeFileSync(join(path, 'new'), 'new');
    });
    await using second = await openStore({ root: join(folder, 'second'), driver: 'vfs', durability: 'none' });
    await using third = await openStore({ root: join(folder, 'third'), driver: 'overlay2', durability: 'none' });
    expect(await first.copy('box', second)).toEqual(['base', 'box']);
    expect(await first.copy('box', second)).toEqual([]);
    expect(await second.copy('box', third)).toEqual(['base', 'box']);
    expect(await third.stat('base')).toMatchObject({ kind: 'committed', labels: { a: 'b' } });
    const seen = [];
    for (const store of [first, second, third]) seen.push(await inside(store, 'box', (path) => judge(`${path}/.`)));
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
    for (const store of [first, second, third]) expect(await store.check()).toEqual([]);
  });
});

describe.skipIf(!root)(`usage${needs}`, () => {
  it('is what du says, of the layer alone', async () => {
    const place = join(folder, 'usage');
    await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
    await store.prepare('work');
    await inside(store, 'work', (path) => {
      writeFileSync(join(path, 'f'), Buffer.alloc(300_000, 1));
      execFileSync('ln', [join(path, 'f'), join(path, 'g')]);
      execFileSync('truncate', ['-s', '50M', join(path, 'hole')]);
    });
    await store.commit('base', 'work');
    await store.prepare('box', { parent: 'base' });
    await inside(store, 'box', (path) => writeFileSync(join(path, 'new'), Buffer.alloc(70_000, 1)));
    execFileSync('sync', ['-f', place]);
    for (const name of ['base', 'box']) {
      const { layer } = await store.stat(name);
      const du = (...more: string[]) =>
        Number(
          execFileSync('du', ['-s', ...more, join(place, 'layers', layer, 'diff')], { encoding: 'utf8' }).split(
            '\t',
          )[0],
        );
      const usage = await store.usage(name);
      expect(usage).toEqual({ bytes: du('--block-size=1'), inodes: du('--inodes'), exclusive: usage.bytes });
    }
  });

  const tool = btrfs ? '' : ' [needs mkfs.btrfs]';
  it.skipIf(!btrfs)(
    `counts blocks that snapshots share once, and a store lives on btrfs${tool}`,
    { timeout: 60_000 },
    async () => {
      const image = join(folder, 'btrfs.img');
      writeFileSync(image, '');
      truncateSync(image, 256 << 20);
      execFileSync(`mkfs.${type}`, ['-q', image]);
      const device = execFileSync('losetup', ['--find', '--show', image], { encoding: 'utf8' }).trim();
      try {
        using mount = MountTree.create(type, { source: device });
        const place = `/proc/${process.pid}/fd/${mount.fd.number}/store`;
        mkdirSync(place);
        await using store = await openStore({ root: place, driver: 'btrfs' });
        await store.prepare('work');
        await inside(store, 'work', (path) => writeFileSync(join(path, 'f'), Buffer.alloc(4 << 20, 1)));
        await store.commit('base', 'work');
        await store.prepare('box', { parent: 'base' });
        await inside(store, 'box', (path) => writeFileSync(join(path, 'new'), Buffer.alloc(1 << 20, 1)));
        execFileSync('sync', ['-f', place]);
        const { bytes, exclusive } = await store.usage('box');
        expect(bytes).toBeGreaterThanOrEqual(5 << 20);
        expect(exclusive).toBeGreaterThanOrEqual(1 << 20);
        expect(exclusive).toBeLessThan(2 << 20);
        await store.view('look', { parent: 'base' });
        expect(await inside(store, 'look', (path) => readdirSync(path))).toEqual(['f']);
        await store.remove('base', { recursive: true });
        expect(await store.check()).toEqual([]);
        expect(readdirSync(join(place, 'layers'))).toEqual([]);
      } finally {
        execFileSync('losetup', ['--detach', device]);
      }
    },
  );
});
