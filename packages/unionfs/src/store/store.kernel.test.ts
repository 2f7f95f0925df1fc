// One process and one store; what the machine says is asked of findmnt's file, of the directory, of other processes.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KernelError } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { archive, entries } from '../testing/archive.js';
import { unpackHere, warmUp } from '../testing/judge.js';
import { StoreError, type StoreReason } from './error.js';
import { openStore, type StoreOptions } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-store-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const reason = async (act: Promise<unknown>): Promise<StoreReason | string> => {
  try {
    await act;
    return 'it worked';
  } catch (error) {
    return StoreError.is(error) ? error.reason : String(error);
  }
};
const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
};
/** Runs in a mount of a snapshot. */
const inside = async <T>(store: Store, name: string, act: (path: string) => T): Promise<T> => {
  using mount = await store.openMount(name);
  return act(`/proc/self/fd/${mount.fd.number}`);
};
const base = async (store: Store, name = 'base', files: Record<string, string> = { f: 'below' }) => {
  await store.prepare(`${name}-work`);
  await inside(store, `${name}-work`, (path) => {
    for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
  });
  await store.commit(name, `${name}-work`);
};

for (const driver of ['overlay2', 'vfs'] as const) {
  describe.skipIf(!root)(`a store of ${driver}${needs}`, () => {
    const at = () => mkdtempSync(join(folder, `${driver}-`));

    it('prepares, writes, commits, and shows what was written below another', async () => {
      const place = at();
      await using store = await openStore({ root: place, driver, durability: 'none' });
      await base(store);
      expect(await store.prepare('box', { parent: 'base', labels: { a: 'b' } })).toMatchObject({
        name: 'box',
        kind: 'active',
        parent: 'base',
        depth: 1,
        labels: { a: 'b' },
      });
      await inside(store, 'box', (path) => {
        expect(readFileSync(join(path, 'f'), 'utf8')).toBe('below');
        writeFileSync(join(path, 'f'), 'above');
      });
      await store.view('look', { parent: 'base' });
      await inside(store, 'look', (path) => {
        expect(readFileSync(join(path, 'f'), 'utf8')).toBe('below');
        expect(() => writeFileSync(join(path, 'g'), '')).toThrow(/EROFS/);
      });
      expect((await all(store.changes('box'))).map((it) => `${it.kind} ${it.path}`)).toContain('modify f');
      expect((await all(store.walk())).map(({ name }) => name).sort()).toEqual(['base', 'box', 'look']);
      expect((await all(store.walk({ parent: 'base', kind: 'active' }))).map(({ name }) => name)).toEqual(['box']);
      expect((await all(store.walk({ labels: { a: 'c' } }))).length).toBe(0);
      expect((await store.update('box', { labels: { a: undefined, c: 'd' } })).labels).toEqual({ c: 'd' });

      expect(await reason(store.remove('base'))).toBe('hasChildren');
      expect(await store.remove('base', { recursive: true })).toEqual(expect.arrayContaining(['base', 'box', 'look']));
      for (const name of ['layers', 'snapshots', 'holds', 'locks', 'leases'])
        expect(readdirSync(join(place, name)), name).toEqual([]);
    });

    it('says why not', async () => {
      await using store = await openStore({ root: at(), driver, durability: 'none' });
      await base(store);
      await store.prepare('box', { parent: 'base' });
      const said = {
        exists: store.prepare('box'),
        notFound: store.prepare('x', { parent: 'nowhere' }),
        notCommitted: store.prepare('x', { parent: 'box' }),
        notActive: store.commit('x', 'base'),
        hasChildren: store.remove('base'),
      };
      for (const [expected, act] of Object.entries(said)) expect(await reason(act)).toBe(expected);
      expect(await reason(store.commit('base', 'box'))).toBe('exists');
      expect(await reason(store.stat('x'))).toBe('notFound');
      {
        using mount = await store.openMount('box');
        expect(mount.readonly).toBe(false);
        expect(await reason(store.openMount('box'))).toBe('inUse');
        expect(await reason(store.openLayer('box'))).toBe('inUse');
        expect(await reason(store.commit('x', 'box'))).toBe('inUse');
        expect(await reason(store.remove('box'))).toBe('inUse');
        using reader = await store.openMount('box', { readonly: true });
        expect(reader.readonly).toBe(true);
      }
      for (const name of ['', '\ud800', 'x'.repeat(5000)]) await expect(store.prepare(name)).rejects.toThrow(TypeError);
      // biome-ignore lint/suspicious/noExplicitAny: as programs without types call it
      const loose = store as any;
      const slips = [
        loose.prepare('x', 'base'),
        loose.prepare('x', null),
        loose.gc(),
        loose.gc({}),
        loose.applyLayer('box'),
      ];
      for (const slip of [...slips, loose.prepare('x', { labels: 'x' }), loose.update('box', { labels: null })]) {
        await expect(slip).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
      }
      expect(await reason(openStore({ root: at(), driver: 'btrfs' }))).toBe('unsupported');
      expect(await reason(openStore({ root: at(), driver, durability: 'none' }).then((it) => it.close()))).toBe(
        'it worked',
      );
    });

    it('takes any name, inside its directory', async () => {
      const place = at();
      const before = readdirSync(folder).sort();
      await using store = await openStore({ root: place, driver, durability: 'none' });
      const names = [
        '../../evil',
        '/etc/passwd',
        '..',
        '.',
        'a/b',
        'a\0b',
        'ü\n%41',
        '%',
        '~',
        'sha256:ab',
        '.new-1',
        'x'.repeat(4096),
      ];
      for (const name of names) await store.prepare(name);
      expect((await all(store.walk())).map(({ name }) => name).sort()).toEqual([...names].sort());
      expect(readdirSync(folder).sort()).toEqual(before);
      for (const name of names) await store.remove(name);
      expect(readdirSync(join(place, 'snapshots'))).toEqual([]);
    });

    it('unpacks a layer under another name, and collects what nobody needs', async () => {
      const place = at();
      await using store = await openStore({ root: place, driver, durability: 'none' });
      await store.prepare('unpacking', { temporary: true });
      const { diffId } = await store.applyLayer('unpacking', archive({ path: 'hello', content: 'hello' }));
      expect(diffId).toMatch(/^sha256:/);
      await store.commit('chain-1', 'unpacking', { labels: { diffId } });
      await store.prepare('unpacking', { parent: 'chain-1', temporary: true });
      await store.applyLayer('unpacking', archive({ path: '.wh.hello' }, { path: 'other' }));
      await store.commit('chain-2', 'unpacking');
      await store.view('look', { parent: 'chain-2' });
      expect(await inside(store, 'look', (path) => readdirSync(path))).toEqual(['other']);
      await store.remove('look');
      await base(store, 'loose');

      {
        using lease = await store.lease('loose');
        await lease.add('to come');
        expect(await store.gc({ roots: ['chain-2'] })).toMatchObject({ removed: [] });
      }
      expect(await store.gc({ roots: ['chain-2'], dryRun: true })).toMatchObject({ removed: ['loose'] });
      expect(await store.has('loose')).toBe(true);
      {
        using reading = await store.openMount('loose');
        expect(reading.readonly).toBe(true);
        expect(await store.gc({ roots: ['chain-2'] })).toMatchObject({ removed: [], inUse: ['loose'] });
      }
      await store.prepare('box', { parent: 'chain-1' });
      expect((await store.gc({ roots: [] })).removed).toEqual(['chain-2', 'loose']);
      expect((await all(store.walk())).map(({ name }) => name)).toEqual(['box', 'chain-1']);
    });

    it('keeps what lies below as it is, however many archives make a layer, and where one of them broke off', async () => {
      await using store = await openStore({ root: at(), driver, durability: 'none' });
      const directory = (path: string, mode: number) => ({ path, type: 'directory' as const, mode });
      await store.prepare('base-work');
      await store.applyLayer(
        'base-work',
        archive(directory('./', 0o711), directory('a', 0o700), directory('b', 0o750)),
      );
      await store.commit('base', 'base-work');
      async function* broken() {
        yield entries({ path: 'a/x' });
        throw new Error('connection lost');
      }
      const temporary = true;
      for (const late of store.takesLate ? [false, true] : [false]) {
        const name = `top ${late}`;
        await store.prepare('work', late ? { late, temporary } : { parent: 'base', temporary });
        await expect(store.applyLayer('work', broken())).rejects.toThrow('connection lost');
        await store.applyLayer('work', archive({ path: 'a/x' }, { path: 'n/x' }));
        await store.applyLayer('work', archive(directory('./', 0o701), directory('n', 0o770), { path: 'b/y' }));
        await store.applyLayer('work', archive({ path: 'b/z' }));
        await store.commit(name, 'work', late ? { parent: 'base' } : {});
        const found = await inside(store, name, (path) =>
          ['', 'a', 'b', 'n'].map((name) => `${name} ${(lstatSync(`${path}/${name}/.`).mode & 0o777).toString(8)}`),
        );
        expect(found).toEqual([' 701', 'a 700', 'b 750', 'n 770']);
      }
    });

    it('hides all that is below a layer of which somebody says so who unpacks by himself', async () => {
      await using store = await openStore({ root: at(), driver, durability: 'none' });
      await base(store);
      await store.prepare('work', { parent: 'base' });
      {
        using layer = await store.openLayer('work');
        const { directory, format } = layer;
        await unpackHere(archive({ path: '.wh..wh..opq' }, { path: 'own' }), directory, { format, base: layer.base });
      }
      await store.commit('top', 'work');
      expect(await inside(store, 'top', (path) => readdirSync(path))).toEqual(['own']);
    });

    it('gives up what was temporary when it is closed', async () => {
      const place = at();
      await using store = await openStore({ root: place, driver, durability: 'none' });
      {
        await using other = await openStore({ root: place });
        expect(other.driver).toBe(driver);
        await other.prepare('mine', { temporary: true });
        expect(await store.cleanup()).toMatchObject({ abandoned: [], dangling: [] });
        expect(await reason(store.prepare('mine'))).toBe('exists');
      }
      // Of a process that was killed: nobody holds its lock.
      writeFileSync(join(place, 'leases', 'dead'), '"mine"\n');
      using _lease = await store.lease('other');
      expect(await store.cleanup({ dryRun: true })).toMatchObject({ abandoned: ['mine'] });
      expect(readdirSync(join(place, 'leases')).length).toBe(2);
      expect(await store.cleanup()).toMatchObject({ abandoned: ['mine'] });
      expect(readdirSync(join(place, 'layers'))).toEqual([]);
      expect(readdirSync(join(place, 'leases')).length).toBe(1);
    });

    it('mounts on a directory', async () => {
      await using store = await openStore({ root: at(), driver, durability: 'none' });
      await base(store);
      await store.prepare('box', { parent: 'base' });
      const target = join(folder, `target-${driver}`);
      mkdirSync(target);
      {
        using mount = await store.mount('box', target);
        expect(readFileSync('/proc/self/mountinfo', 'utf8')).toContain(` ${target} `);
        writeFileSync(join(target, 'new'), 'new');
        expect(await reason(store.openMount('box'))).toBe('inUse');
        expect(mount.readonly).toBe(false);
      }
      expect(readdirSync(target)).toEqual([]);
      expect(await inside(store, 'box', (path) => readFileSync(join(path, 'new'), 'utf8'))).toBe('new');
    });
  });
}

describe('a store is opened', () => {
  const place = (name: string) => {
    const path = join(folder, name);
    mkdirSync(path, { mode: 0o700 });
    return path;
  };
  const said = async (options: unknown) => {
    const before = readdirSync('/proc/self/fd').length;
    const error = await openStore(options as StoreOptions).then(
      (store) => store.close(),
      (error: Error) => error,
    );
    expect(readdirSync('/proc/self/fd').length, 'descriptors').toBe(before);
    return error;
  };

  it.skipIf(!root)(`only where nobody else makes files, and not through links${needs}`, async () => {
    const open = place('open');
    chmodSync(open, 0o770);
    expect(await said({ root: open })).toMatchObject({
      reason: 'exposed',
      message: expect.stringMatching(/chmod go-w/),
    });
    const foreign = place('foreign');
    chownSync(foreign, 65534, 65534);
    expect(await said({ root: foreign })).toMatchObject({
      reason: 'exposed',
      message: expect.stringMatching(/belongs to user 65534/),
    });
    const outside = place('outside');
    for (const name of ['layers', 'images']) {
      const linked = place(`linked-${name}`);
      symlinkSync(outside, join(linked, name));
      expect(await said({ root: linked, driver: 'vfs' })).toMatchObject({
        reason: 'exposed',
        message: expect.stringMatching(/is a link/),
      });
    }
    const inside = place('inside');
    mkdirSync(join(inside, 'layers'));
    chmodSync(join(inside, 'layers'), 0o777);
    expect(await said({ root: inside })).toMatchObject({
      reason: 'exposed',
      message: expect.stringMatching(/inside\/layers can be written/),
    });
    expect(readdirSync(outside)).toEqual([]);
    // The way to it may be a link: it is the user's own words.
    symlinkSync(outside, join(folder, 'way'));
    expect(await said({ root: join(folder, 'way'), driver: 'vfs' })).toBeUndefined();
    const mistaken = {
      reason: 'unsupported',
      message: expect.stringMatching(/^the driver btrfs does not work here \(btrfs: /),
    };
    expect(await said({ root: place('other'), driver: 'btrfs' })).toMatchObject(mistaken);
  });

  it('with options, and not with what looks like some', async () => {
    const wrong = [
      '/path',
      undefined,
      null,
      {},
      { root: 5 },
      { root: 'relative' },
      { root: join(folder, 'x'), durability: 'no' },
    ];
    for (const options of [...wrong, { root: join(folder, 'x'), driver: 5 }, { root: join(folder, 'x'), driver: {} }]) {
      expect(await said(options)).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    }
    expect(existsSync(join(folder, 'x'))).toBe(false);
    const file = join(folder, 'file');
    writeFileSync(file, '');
    expect(KernelError.is(await said({ root: join(file, 'store') }), 'ENOTDIR')).toBe(true);
  });

  it.skipIf(!root)(`by a plain user with a word on how${needs}`, () => {
    const script = `import('@iso/unionfs').then(({ openStore }) => openStore({ root: process.argv[1] }))
      .catch((error) => console.log(error.reason, error.hint))`;
    const path = place('plain');
    for (const each of [folder, path]) chmodSync(each, 0o755);
    chownSync(path, 65534, 65534);
    const user = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
    const command = [...user, process.execPath, ...fromSources, '-e', script, path];
    const { stdout, stderr } = spawnSync('setpriv', command, { encoding: 'utf8' });
    expect(stdout, stderr).toBe('unsupported be root, or root of a user namespace: unshare -Urm node …\n');
  });
});
