// Layers with a quota: what stat(1) and dd(1) say inside.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { openStore } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const loops = existsSync('/dev/loop-control') && spawnSync('sh', ['-c', `command -v mkfs.${'ext4'}`]).status === 0;
const needs = !root ? ' [needs root]' : loops ? '' : ' [needs loop devices and mkfs.ext4]';
const MEBI = 1 << 20;
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-quota-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inside = async <T>(store: Store, name: string, act: (path: string) => T, readonly = false): Promise<T> => {
  using mount = await store.openMount(name, readonly ? { readonly } : {});
  return act(`/proc/${process.pid}/fd/${mount.fd.number}`);
};

describe.skipIf(needs !== '')(`quota${needs}`, () => {
  it('is not given to a layer whose root could not have the owner of the one below', async () => {
    const place = join(folder, 'owner');
    {
      await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
      await store.prepare('work');
      await inside(store, 'work', (path) => chownSync(`${path}/.`, 7, 8));
      await store.commit('base', 'work');
    }
    const script = `import('@iso/unionfs').then(async ({ openStore }) => {
      const store = await openStore({ root: process.argv[1], durability: 'none' });
      const made = store.prepare('box', { parent: 'base', quota: { bytes: ${8 * MEBI} } });
      await made.then(() => console.log('made'), (error) => console.log(error.code, error.syscall));
      store.close();
    })`;
    const without = ['--inh-caps=-chown', '--bounding-set=-chown'];
    const command = [...without, process.execPath, ...fromSources, '-e', script, place];
    expect(execFileSync('setpriv', command, { encoding: 'utf8' })).toBe('EPERM fchown\n');
  });

  for (const driver of ['overlay2', 'vfs'] as const) {
    it(`limits a writable layer, as the file system inside shows, with ${driver}`, async () => {
      const place = join(folder, driver);
      await using store = await openStore({ root: place, driver, durability: 'none' });
      await store.prepare('work');
      await inside(store, 'work', (path) => {
        writeFileSync(join(path, 'below'), Buffer.alloc(12 * MEBI, 1));
        writeFileSync(join(path, 'gone'), 'x');
        execFileSync('mkdir', ['-m', '711', join(path, 'd')]);
        execFileSync('touch', [join(path, 'd/f')]);
      });
      await store.commit('base', 'work');
      const box = await store.prepare('box', { parent: 'base', quota: { bytes: 8 * MEBI } });
      expect(box.quota).toEqual({ bytes: 8 * MEBI });
      await inside(store, 'box', (path) => {
        expect(readFileSync(join(path, 'below')).length).toBe(12 * MEBI);
        const [block, blocks] = execFileSync('stat', ['-f', '-c', '%S %b', `${path}/.`], { encoding: 'utf8' }).split(
          ' ',
        );
        const size = Number(block) * Number(blocks);
        expect(size).toBeLessThanOrEqual(8 * MEBI);
        expect(size).toBeGreaterThan(5 * MEBI);
        const dd = spawnSync('dd', ['if=/dev/zero', `of=${path}/big`, 'bs=1M', 'count=20'], { encoding: 'utf8' });
        expect(dd.stderr).toContain('No space left on device');
        const { bavail, bsize } = statfsSync(path);
        expect(bavail * bsize).toBeLessThan(MEBI);
        rmSync(join(path, 'big'));
        rmSync(join(path, 'gone'));
        execFileSync('rm', ['-r', join(path, 'd')]);
        execFileSync('mkdir', [join(path, 'd')]);
        writeFileSync(join(path, 'new'), 'new');
      });
      // Again, and by two at once: one file system all the time.
      {
        using writing = await store.openMount('box');
        writeFileSync(`/proc/self/fd/${writing.fd.number}/more`, 'more');
        await inside(store, 'box', (path) => expect(readFileSync(join(path, 'more'), 'utf8')).toBe('more'), true);
        const kinds: string[] = [];
        for await (const { kind, path } of store.changes('box')) if (path.length) kinds.push(`${kind} ${path}`);
        expect(kinds.sort()).toEqual(['add more', 'add new', 'delete d/f', 'delete gone', 'modify d']);
        expect((await store.usage('box')).bytes).toBeLessThan(MEBI);
      }
      await store.commit('done', 'box');
      expect(readdirSync(join(place, 'images'))).toEqual([]);
      expect((await store.stat('done')).quota).toBeUndefined();
      await store.prepare('above', { parent: 'done', quota: { bytes: 4 * MEBI, inodes: 64 } });
      await inside(store, 'above', (path) => {
        expect(readdirSync(path).sort()).toEqual(['below', 'd', 'more', 'new']);
        expect(readdirSync(join(path, 'd'))).toEqual([]);
        expect(() => {
          for (let i = 0; i < 100; i++) writeFileSync(join(path, `f${i}`), '');
        }).toThrow(/ENOSPC/);
      });
      expect(await store.check()).toEqual([]);
      await store.remove('base', { recursive: true });
      for (const name of ['layers', 'images', 'holds']) expect(readdirSync(join(place, name)), name).toEqual([]);
    });
  }

  it('is refused where it cannot be kept', async () => {
    await using store = await openStore({ root: join(folder, 'refused'), driver: 'overlay2', durability: 'none' });
    for (const bytes of [0, -1, 1000, Number.NaN, 1.5 * MEBI + 0.5]) {
      await expect(store.prepare('x', { quota: { bytes } })).rejects.toThrow(TypeError);
    }
    await store.prepare('work');
    await store.commit('base', 'work');
    const view = store.view('x', { parent: 'base', quota: { bytes: MEBI } });
    await expect(view).rejects.toMatchObject({ reason: 'unsupported' });
    const { PATH } = process.env;
    process.env.PATH = folder;
    try {
      await expect(store.prepare('x', { quota: { bytes: MEBI } })).rejects.toMatchObject({ reason: 'unsupported' });
    } finally {
      process.env.PATH = PATH;
    }
    expect(await store.check()).toEqual([]);
    expect(await store.has('x')).toBe(false);
  });
});
