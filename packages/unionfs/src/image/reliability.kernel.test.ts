// Processes that import, unpack, use, commit and collect the images and the store of one place at once, and are killed at any moment:
// nothing that has a name is lost or other than it was, and nothing is left that `check` does not mend. ISO_LONG=1 kills 200 of them.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MountTree } from '@iso/mounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { openStore } from '../store/open-store.js';
import { layoutFiles, sketchImage, tar } from '../testing/image.js';
import { warmUp } from '../testing/judge.js';
import { importImages } from './import.js';
import { ImageLayout } from './layout.js';
import { unpackImage } from './unpack.js';

const root = process.getuid?.() === 0;
const long = process.env.ISO_LONG !== undefined;
const kills = long ? 200 : 2;
const IMAGES = 3;
let folder = '';
let memory: MountTree | undefined;
const at = (name: string) => join(folder, name);

/** What a process does until it is killed, or has done so many rounds; it says when it begins, what it has named, and what it unnames. */
const code = `
  import { readFileSync, writeFileSync, writeSync } from 'node:fs';
  const [index, folder, rounds] = process.argv.slice(1);
  const iso = await import(index);
  const layout = await iso.ImageLayout.open(folder + '/images', { create: true });
  const store = await iso.openStore({ root: folder + '/store', durability: 'none' });
  const say = (line) => writeSync(1, line + '\\n');
  say('begins');
  const below = (n) => Math.floor(Math.random() * n);
  const own = (i) => 'made-' + i + '-' + process.pid;
  // Another may take the name away, or be in the middle of the same.
  const others = (error) => {
    if (!iso.ImageError.is(error, 'notFound') && !iso.StoreError.is(error, 'inUse', 'hasChildren', 'notFound')) throw error;
  };
  for (let round = 0; round < Number(rounds); round++) {
    const i = below(${IMAGES});
    const open = [];
    try {
      open.push(await layout.content.hold());
      // Half of them are unpacked on their way in, and the layers side by side.
      const unpack = below(2) ? { unpack: { store, atOnce: 2 } } : {};
      await iso.importImages(layout, folder + '/' + i + '.tar', { name: 'image-' + i, ...unpack });
      const image = await layout.image('image-' + i);
      open.push(await store.lease(image.chainId));
      const parent = await iso.unpackImage(image, store, { atOnce: 2 });
      const box = 'box-' + process.pid + '-' + below(1e9);
      await store.prepare(box, { parent, temporary: true });
      {
        const mount = await store.openMount(box);
        open.push(mount);
        const path = '/proc/self/fd/' + mount.fd.number;
        if (readFileSync(path + '/own', 'utf8') !== ('own ' + i).repeat(20000)) throw new Error('other content of ' + i);
        writeFileSync(path + '/new', box);
        mount.close();
      }
      const made = await iso.commitImage(layout, store.writeLayer(box), { base: image });
      await layout.tag(own(i), made);
      say('+ ' + own(i));
      await store.remove(box);
    } catch (error) {
      others(error);
    } finally {
      for (const each of open.reverse()) each[Symbol.dispose]();
    }
    try {
      if (below(4) === 0) {
        const gone = own(below(${IMAGES}));
        say('- ' + gone);
        await layout.untag(gone);
      }
      if (below(3) === 0) await layout.gc();
      if (below(3) === 0) await store.gc({ roots: await layout.roots() });
    } catch (error) {
      others(error);
    }
  }
  store.close();`;

/** A process, and what it says. */
class Worker {
  readonly child: ChildProcess;
  readonly begun: Promise<unknown>;
  readonly closed: Promise<unknown>;
  #said = '';
  errors = '';

  constructor(rounds: number) {
    const index = new URL('../index.ts', import.meta.url).href;
    const words = [...fromSources, '--input-type=module', '-e', code, index, folder, String(rounds)];
    this.child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    const { stdout, stderr } = this.child;
    stdout?.on('data', (text: Buffer) => (this.#said += text));
    stderr?.on('data', (text: Buffer) => (this.errors += text));
    this.closed = once(this.child, 'close');
    this.begun = Promise.race([once(stdout as NodeJS.ReadableStream, 'data'), this.closed]);
  }

  async kill(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.closed;
  }

  /** Names that it has given, and did not begin to take away. */
  get kept(): string[] {
    const names = new Set<string>();
    for (const line of this.#said.split('\n').slice(0, -1)) {
      if (line.startsWith('+ ')) names.add(line.slice(2));
      if (line.startsWith('- ')) names.delete(line.slice(2));
    }
    return [...names];
  }
}

/**
 * All that has a name is what it says, and shows what it must.
 *
 * @param ended - processes whose names must be there; nobody needs those any more
 * @returns how many names there are
 */
async function sound(ended: readonly Worker[] = []): Promise<number> {
  const layout = await ImageLayout.open(at('images'), { create: true });
  for await (const { digest } of layout.content.list()) await layout.content.verify(digest);
  await using store = await openStore({ root: at('store'), durability: 'none' });
  for (const { kind } of await store.check()) expect(['unfinished', 'abandoned', 'dangling']).toContain(kind);
  await store.check({ repair: true });
  expect(await store.check()).toEqual([]);
  const names = await layout.list();
  expect(names.map(({ name }) => name)).toEqual(expect.arrayContaining(ended.flatMap(({ kept }) => kept)));
  for (const { name } of names) {
    const image = await layout.image(name as string);
    await image.verify();
    const chain = await unpackImage(image, store);
    using mount = await store.openMount(chain);
    const number = (name as string).split('-')[1];
    const path = `/proc/self/fd/${mount.fd.number}`;
    expect(readFileSync(join(path, 'own'), 'utf8') === `own ${number}`.repeat(20000), name).toBe(true);
    expect(readFileSync(join(path, 'shared'), 'latin1').length).toBe(100_000);
  }
  const pids = new Set(ended.map(({ child }) => String(child.pid)));
  for (const { name } of names) if (pids.has((name as string).split('-')[2] ?? '')) await layout.untag(name as string);
  return names.length;
}

/** Nothing is in the way: everything can come in again, and what nobody names goes. */
async function clear(): Promise<void> {
  const layout = await ImageLayout.open(at('images'), { create: true });
  for (let i = 0; i < IMAGES; i++) await importImages(layout, at(`${i}.tar`), { name: `image-${i}` });
  expect(await sound()).toBeGreaterThanOrEqual(IMAGES);
  for (const { name } of await layout.list()) await layout.untag(name as string);
  await layout.gc();
  await using store = await openStore({ root: at('store'), durability: 'none' });
  await store.gc({ roots: [] });
  for (const place of [
    'images/blobs/sha256',
    'images/.iso/partial',
    'store/layers',
    'store/snapshots',
    'store/holds',
    'store/leases',
  ]) {
    expect([place, readdirSync(at(place))]).toEqual([place, []]);
  }
}

beforeAll(async () => {
  if (!root) return;
  await warmUp();
  memory = MountTree.create('tmpfs');
  // By a name that other processes have for it too.
  folder = `/proc/${process.pid}/fd/${memory.fd.number}`;
  const shared = tar({ path: 'shared', content: Buffer.alloc(100_000, 'shared') });
  for (let i = 0; i < IMAGES; i++) {
    const own = tar({ path: 'own', content: `own ${i}`.repeat(20000) });
    const { blobs, descriptor } = sketchImage([shared, own], { compression: i % 2 ? 'none' : 'gzip' });
    writeFileSync(at(`${i}.tar`), tar(...layoutFiles(blobs, [descriptor])));
  }
}, 60_000);
afterAll(() => memory?.close());

describe.skipIf(!root)(`images and their store${root ? '' : ' [needs root]'}`, () => {
  it('lose nothing to two processes that import, run and collect at once', { timeout: 300_000 }, async () => {
    const workers = [new Worker(long ? 150 : 8), new Worker(long ? 150 : 8)];
    try {
      await Promise.all(workers.map(({ closed }) => closed));
      expect(workers.map(({ errors, child }) => [errors, child.exitCode])).toEqual([
        ['', 0],
        ['', 0],
      ]);
      expect(workers.flatMap(({ kept }) => kept).length).toBeGreaterThan(0);
      // Both have ended well: nothing needs mending.
      await using store = await openStore({ root: at('store'), durability: 'none' });
      expect(await store.check()).toEqual([]);
      await sound(workers);
      await clear();
    } finally {
      await Promise.all(workers.map((worker) => worker.kill()));
    }
  });

  it(`are whole after ${kills} kills of processes that use them at once`, {
    timeout: 120_000 + kills * 15_000,
  }, async () => {
    const workers: Worker[] = [];
    const ended: Worker[] = [];
    const begin = async () => {
      const worker = new Worker(Number.POSITIVE_INFINITY);
      workers.push(worker);
      await worker.begun;
    };
    const kill = async () => {
      const worker = workers.shift() as Worker;
      await worker.kill();
      expect(worker.errors).toBe('');
      ended.push(worker);
    };
    try {
      await Promise.all([begin(), begin()]);
      for (let killed = 0; killed < kills; killed++) {
        // The first layer alone takes as long as a thread takes to start.
        await sleep(Math.random() * (long ? 1500 : 300));
        await kill();
        // The other one goes on meanwhile.
        if (killed % 4 === 3) {
          await kill();
          killed++;
          await sound(ended.splice(0));
          await begin();
        }
        if (killed + 1 < kills) await begin();
      }
    } finally {
      await Promise.all(workers.map((worker) => worker.kill()));
    }
    expect(workers.map(({ errors }) => errors).join('')).toBe('');
    await sound([...ended, ...workers]);
    await clear();
  });
});
