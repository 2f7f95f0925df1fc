// Layers put together, and put on others, with Python as the judge.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { changeTree, judge, makeTree, warmUp } from '../testing/judge.js';
import { openStore } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-combine-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const inside = async <T>(store: Store, name: string, act: (path: string) => T): Promise<T> => {
  using mount = await store.openMount(name);
  return act(`/proc/${process.pid}/fd/${mount.fd.number}/.`);
};
const layer = async (store: Store, name: string, parent: string | undefined, act: (path: string) => void) => {
  await store.prepare('work', parent === undefined ? {} : { parent });
  await inside(store, 'work', act);
  await store.commit(name, 'work');
};

describe.skipIf(!root)(`squash and rebase${needs}`, () => {
  for (const driver of process.env.ISO_LONG ? (['overlay2', 'vfs'] as const) : (['overlay2'] as const)) {
    it(`show the same as what they are made of, with ${driver}`, { timeout: 60_000 }, async () => {
      await using store = await openStore({ root: join(folder, driver), driver, durability: 'none' });
      await layer(store, 'base', undefined, (path) => {
        makeTree(join(path, 'tree'), 11, 80);
        mkdirSync(join(path, 'd'));
        for (const file of ['a', 'b']) writeFileSync(join(path, 'd', file), file);
      });
      await layer(store, 'one', 'base', (path) => {
        const [command = '', ...args] = changeTree(join(path, 'tree'), 3, 25);
        execFileSync(command, args);
        rmSync(join(path, 'd'), { recursive: true });
      });
      // What one layer removes and another one makes again must not show what was there first.
      await layer(store, 'two', 'one', (path) => {
        mkdirSync(join(path, 'd'));
        writeFileSync(join(path, 'd/c'), 'c');
        chmodSync(join(path, 'd'), 0o700);
        renameSync(join(path, 'd/c'), join(path, 'd/e'));
      });
      await layer(store, 'three', 'two', (path) => {
        const [command = '', ...args] = changeTree(join(path, 'tree'), 4, 25);
        execFileSync(command, args);
      });
      const original = await inside(store, 'three', (path) => judge(path));
      const squashed = await store.squash('squashed', 'three', { base: 'base', labels: { a: 'b' } });
      expect(squashed).toMatchObject({ parent: 'base', depth: 1, kind: 'committed', labels: { a: 'b' } });
      expect(await inside(store, 'squashed', (path) => judge(path))).toEqual(original);
      expect((await store.squash('flat', 'three')).parent).toBeUndefined();
      expect(await inside(store, 'flat', (path) => judge(path))).toEqual(original);

      await layer(store, 'other', 'base', (path) => {
        writeFileSync(join(path, 'patch'), 'patch');
        writeFileSync(join(path, 'd/late'), 'late');
      });
      const { parent, depth } = await store.rebase('moved', 'two', { from: 'base', onto: 'other' });
      expect([parent, depth]).toEqual(['moved 1 of 2', 3]);
      await inside(store, 'moved', (path) => {
        expect(readFileSync(join(path, 'patch'), 'utf8')).toBe('patch');
        // Of the layer the kernel knows that d is hidden, of a copy what was in it.
        expect(readdirSync(join(path, 'd')).filter((name) => name !== 'late')).toEqual(['e']);
      });
      await expect(store.squash('x', 'other', { base: 'three' })).rejects.toMatchObject({ reason: 'notFound' });
      await expect(store.squash('flat', 'three')).rejects.toMatchObject({ reason: 'exists' });
      expect(await store.check()).toEqual([]);
    });
  }
});
