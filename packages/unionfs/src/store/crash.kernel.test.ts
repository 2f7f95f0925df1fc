// A process that dies at each of its changes of the disk, and a disk that is full at each: the store is never wrong, and is mended.
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MountTree } from '@iso/mounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { killedAt, withoutRoom } from '../testing/faulty.js';
import { StoreError } from './error.js';
import { openStore } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';

let memory: MountTree | undefined;

beforeAll(() => {
  if (!root) return;
  memory = MountTree.create('tmpfs');
  folder = `/proc/${process.pid}/fd/${memory.fd.number}`;
});
afterAll(() => memory?.close());

/** Every place under ISO_LONG; else every second one, or seventh where a driver is slow. */
const step = (driver: 'overlay2' | 'vfs') => (process.env.ISO_LONG ? 1 : driver === 'overlay2' ? 2 : 7);

const open = (place: string, driver: 'overlay2' | 'vfs') => openStore({ root: place, driver, durability: 'none' });

const inside = async <T>(store: Store, name: string, act: (path: string) => T): Promise<T> => {
  using mount = await store.openMount(name);
  return act(`/proc/self/fd/${mount.fd.number}`);
};

/** A snapshot that holds one file, which says its name. */
const layer = async (store: Store, name: string, parent?: string, temporary = false) => {
  await store.prepare(`${name}-work`, { ...(parent ? { parent } : {}), temporary });
  await inside(store, `${name}-work`, (path) => writeFileSync(join(path, name), name));
  await store.commit(name, `${name}-work`);
};

/** What is done, and what a store that holds base, top on it, and loose may hold afterwards. */
const acts: Record<string, { act(store: Store): Promise<unknown>; gone: string[]; come: string[] }> = {
  'prepare and commit': { act: (store) => layer(store, 'new', 'top'), gone: [], come: ['new', 'new-work'] },
  'prepare and commit of a temporary one': {
    act: (store) => layer(store, 'new', 'top', true),
    gone: [],
    come: ['new', 'new-work'],
  },
  view: { act: (store) => store.view('look', { parent: 'top' }), gone: [], come: ['look'] },
  update: { act: (store) => store.update('base', { labels: { a: 'b' } }), gone: [], come: [] },
  'remove recursively': {
    act: (store) => store.remove('base', { recursive: true }),
    gone: ['base', 'top', 'box'],
    come: [],
  },
  gc: { act: (store) => store.gc({ roots: ['base'] }), gone: ['loose'], come: [] },
  lease: { act: async (store) => (await store.lease('loose')).close(), gone: [], come: [] },
};

const all = ['base', 'box', 'loose', 'top'];

/** Every snapshot shows what it must; the names that may be there are, and no other. */
const sound = async (store: Store, gone: string[], come: string[]) => {
  const names: string[] = [];
  for await (const snapshot of store.walk()) {
    names.push(snapshot.name);
    const shown = await inside(store, snapshot.name, (path) =>
      readdirSync(path).map((file) => readFileSync(join(path, file), 'utf8')),
    );
    const chain = snapshot.parent === 'base' ? ['base'] : snapshot.parent === 'top' ? ['base', 'top'] : [];
    const own = snapshot.kind === 'committed' ? [snapshot.name] : [];
    if (snapshot.name === 'new-work') expect([chain, ['base', 'new', 'top']]).toContainEqual(shown.sort());
    else expect(shown.sort(), snapshot.name).toEqual([...chain, ...own].sort());
  }
  for (const name of names) expect([...all, ...come]).toContain(name);
  for (const name of all) if (!gone.includes(name)) expect(names).toContain(name);
  return names;
};

const fresh = async (driver: 'overlay2' | 'vfs') => {
  const place = mkdtempSync(join(folder, 'store-'));
  await using store = await open(place, driver);
  await layer(store, 'base');
  await layer(store, 'top', 'base');
  await layer(store, 'loose');
  await store.prepare('box', { parent: 'top' });
  return place;
};

for (const driver of ['overlay2', 'vfs'] as const) {
  describe.skipIf(!root)(`a store of ${driver}${needs}`, () => {
    for (const [name, { act, gone, come }] of Object.entries(acts)) {
      it(`is whole when a process is killed at any change of: ${name}`, { timeout: 60_000 }, async () => {
        let points = 0;
        for (let n = 1, died = true; died; n += step(driver)) {
          const place = await fresh(driver);
          died = await killedAt(n, async () => {
            await using store = await open(place, driver);
            await act(store);
          });
          if (died) points++;
          await using store = await open(place, driver);
          await sound(store, gone, come);
          for (const { kind, repaired } of await store.check()) {
            expect(['unfinished', 'abandoned', 'dangling']).toContain(kind);
            expect(repaired).toBe(false);
          }
          // Either way of mending leaves the same.
          if (points % 2) await store.cleanup();
          else await store.check({ repair: true });
          expect(await store.check(), `at ${n}`).toEqual([]);
          const names = await sound(store, gone, come);
          const views = names.filter((it) => it === 'look').length;
          expect(readdirSync(join(place, 'layers')).length).toBe(names.length - views);
          expect(readdirSync(join(place, 'holds')).length).toBe(names.length);
          expect(readdirSync(join(place, 'snapshots')).length).toBe(names.length);
          rmSync(place, { recursive: true });
        }
        expect(points).toBeGreaterThan(0);
      });

      it(`is whole when the disk is full at any step of: ${name}`, { timeout: 60_000 }, async () => {
        let points = 0;
        for (let n = 1, full = true; full; n += step(driver)) {
          const place = await fresh(driver);
          let caught: unknown;
          await using store = await open(place, driver);
          await withoutRoom(n, () => act(store).catch((error) => (caught = error))).then((reached) => (full = reached));
          if (full) points++;
          if (caught !== undefined) expect(StoreError.is(caught, 'noSpace'), String(caught)).toBe(true);
          await sound(store, gone, come);
          // What was to be removed may have to wait for room.
          for (const { kind } of await store.check()) expect(kind).toBe('dangling');
          await store.cleanup();
          expect(await store.check()).toEqual([]);
          const names = await sound(store, gone, come);
          const views = names.filter((it) => it === 'look').length;
          expect(readdirSync(join(place, 'layers')).length).toBe(names.length - views);
          rmSync(place, { recursive: true });
        }
        expect(points).toBeGreaterThan(0);
      });
    }
  });
}
