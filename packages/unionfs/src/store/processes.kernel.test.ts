// Several processes on one store, and the end of some of them.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MountTree } from '@iso/mounts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { openStore } from './open-store.js';
import type { Store } from './store.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
const kills = process.env.ISO_LONG ? 200 : 4;
let folder = '';
let memory: MountTree | undefined;

beforeAll(() => {
  if (!root) return;
  memory = MountTree.create('tmpfs');
  // By a name that other processes have for it too.
  folder = `/proc/${process.pid}/fd/${memory.fd.number}`;
});
afterAll(() => memory?.close());

/** A process that uses a store, and what it said so far. */
class User {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  #errors = '';

  constructor(place: string, driver: string, name: string, rounds: number, durability = 'none') {
    const script = new URL('../testing/store-user.ts', import.meta.url).pathname;
    const args = [...fromSources, script, place, driver, name, String(rounds), durability];
    this.child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let rest = '';
    this.child.stdout?.on('data', (chunk: Buffer) => {
      const parts = (rest + chunk.toString()).split('\n');
      rest = parts.pop() ?? '';
      this.lines.push(...parts);
    });
    this.child.stderr?.on('data', (chunk: Buffer) => (this.#errors += chunk.toString()));
  }

  /** Waits until it said something. */
  async said(line: string): Promise<void> {
    while (!this.lines.includes(line)) {
      if (this.child.exitCode !== null) throw new Error(`it ended: ${this.#errors}`);
      await sleep(2);
    }
  }

  async end(signal?: NodeJS.Signals): Promise<void> {
    const closed = once(this.child, 'close');
    if (signal) this.child.kill(signal);
    await closed;
    if (!signal) expect(this.#errors).toBe('');
  }

  /** Names that it committed, and did not begin to remove. */
  kept(): string[] {
    const names = new Set<string>();
    for (const line of this.lines) {
      if (line.startsWith('+ ')) names.add(line.slice(2));
      if (line.startsWith('- ')) names.delete(line.slice(2));
    }
    return [...names];
  }

  /** Names that it began to remove last: they may be there or not. */
  leaving(): string[] {
    const kept = new Set(this.kept());
    return this.lines
      .filter((line) => line.startsWith('- '))
      .map((line) => line.slice(2))
      .filter((name) => !kept.has(name));
  }
}

const FILES = 3;

/** Fails where a committed snapshot does not show its own files and those of all that it lies on, whole. */
async function whole(store: Store): Promise<string[]> {
  const names: string[] = [];
  for await (const { name, kind, parent } of store.walk()) {
    if (kind !== 'committed') continue;
    names.push(name);
    let depth = 1;
    for (let at = parent; at; at = (await store.stat(at)).parent) depth++;
    using mount = await store.openMount(name);
    const path = `/proc/self/fd/${mount.fd.number}`;
    const files = readdirSync(path);
    expect(files.length, name).toBe(depth * FILES);
    for (const file of files) {
      const [, owner = '', number] = /^(.*)-(\d)$/.exec(file) ?? [];
      const text = `${owner} ${number} `.repeat(1 + ((owner.length + Number(number)) % 700));
      expect(readFileSync(join(path, file), 'utf8') === text, `${name}: ${file}`).toBe(true);
    }
  }
  return names;
}

describe.skipIf(!root)(`processes${needs}`, () => {
  for (const driver of process.env.ISO_LONG ? ['overlay2', 'vfs'] : ['overlay2']) {
    it(`four at once lose nothing of each other, with ${driver}`, { timeout: 120_000 }, async () => {
      const place = mkdtempSync(join(folder, 'race-'));
      const users = ['a', 'b', 'c', 'd'].map((name) => new User(place, driver, name, process.env.ISO_LONG ? 100 : 15));
      try {
        await Promise.all(users.map((user) => user.said('done')));
        await using store = await openStore({ root: place });
        expect(store.driver).toBe(driver);
        const expected = users.flatMap((user) => user.kept());
        expect(expected.length).toBeGreaterThan(8);
        await store.gc({ roots: [] });
        // What snapshots of theirs lie on is there too.
        expect(await whole(store)).toEqual(expect.arrayContaining(expected));
        expect(await store.check()).toEqual([]);
        writeFileSync(join(place, 'end'), '');
        await Promise.all(users.map((user) => user.end()));
        await store.gc({ roots: [] });
        for (const name of ['layers', 'snapshots', 'holds', 'locks', 'leases'])
          expect(readdirSync(join(place, name)), name).toEqual([]);
      } finally {
        for (const { child } of users) child.kill('SIGKILL');
      }
    });
  }

  it(`some are killed at any time: ${kills} times`, { timeout: kills * 20_000 }, async () => {
    let seen = 0;
    const start = (round: number) => {
      const place = mkdtempSync(join(folder, 'kill-'));
      const durability = round % 3 ? 'none' : 'commit';
      const driver = round % 2 ? 'vfs' : 'overlay2';
      return { place, users: ['a', 'b'].map((name) => new User(place, driver, `${name}${round}`, 1000, durability)) };
    };
    for (let round = 0; round * 2 < kills; round++) {
      const { place, users } = start(round);
      try {
        await Promise.all(users.map((user) => user.said('ready')));
        await sleep(Math.random() * 400);
        await users[0]?.end('SIGKILL');
        await sleep(Math.random() * 200);
        // The lease of the first is gone: what was its own may go from now on.
        await users[1]?.end('SIGKILL');
      } finally {
        for (const { child } of users) child.kill('SIGKILL');
      }
      await using store = await openStore({ root: place });
      seen += (await whole(store)).length;
      for (const { kind } of await store.check()) expect(['unfinished', 'abandoned', 'dangling']).toContain(kind);
      await store.check({ repair: true });
      expect(await store.check()).toEqual([]);
      const names = await whole(store);
      expect(names).toEqual(expect.arrayContaining(users[1]?.kept() ?? []));
      await store.gc({ roots: names });
      for await (const { name, kind } of store.walk()) if (kind !== 'committed') await store.remove(name);
      const left = (await whole(store)).length;
      for (const name of ['layers', 'snapshots', 'holds'])
        expect(readdirSync(join(place, name)).length, name).toBe(left);
      rmSync(place, { recursive: true });
    }
    expect(seen).toBeGreaterThan(kills / 2);
  });
});

describe.skipIf(!root)(`a mount that outlives who made it${needs}`, () => {
  it('keeps its snapshot from being removed, committed and mounted again', { timeout: 120_000 }, async () => {
    const place = mkdtempSync(join(folder, 'outlive-'));
    const target = mkdtempSync(join(tmpdir(), 'iso-target-'));
    const script = `${target}.mts`;
    // A mount namespace that a process of its own holds.
    const sleeper = spawn('unshare', ['-m', '--propagation', 'private', 'sh', '-c', 'echo; exec sleep 100'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      await once(sleeper.stdout, 'data');
      await using store = await openStore({ root: place, driver: 'overlay2', durability: 'none' });
      await store.prepare('below-work');
      await store.commit('below', 'below-work');
      await store.prepare('box', { parent: 'below' });
      const index = new URL('../index.ts', import.meta.url).href;
      writeFileSync(
        script,
        `import { openStore } from ${JSON.stringify(index)};
         const store = await openStore({ root: ${JSON.stringify(place)} });
         const box = await store.mount('box', ${JSON.stringify(target)});
         if (box.readonly) throw new Error('read-only');
         process.kill(process.pid, 'SIGKILL');`,
      );
      const run = [...fromSources, script];
      const into = ['-t', String(sleeper.pid), '-m', `--wd=${process.cwd()}`, process.execPath, ...run];
      const { signal, stderr } = spawnSync('nsenter', into, { encoding: 'utf8' });
      expect([signal, stderr]).toEqual(['SIGKILL', '']);
      expect(readFileSync(`/proc/${sleeper.pid}/mountinfo`, 'utf8')).toContain(target);

      await expect(store.remove('box')).rejects.toMatchObject({ reason: 'inUse' });
      await expect(store.commit('new', 'box')).rejects.toMatchObject({ reason: 'inUse' });
      await expect(store.openMount('box')).rejects.toMatchObject({ reason: 'inUse' });
      const ended = once(sleeper, 'close');
      sleeper.kill('SIGKILL');
      await ended;
      // The namespace goes a little after its last process.
      for (let i = 0; i < 100 && (await store.remove('box').catch(() => undefined)) === undefined; i++) await sleep(20);
      expect(await store.has('box')).toBe(false);
      expect(existsSync(join(place, 'layers'))).toBe(true);
    } finally {
      sleeper.kill('SIGKILL');
      rmSync(target, { recursive: true });
      rmSync(script, { force: true });
    }
  });
});

describe.skipIf(!root)(`a disk that is full${needs}`, () => {
  for (const driver of ['overlay2', 'vfs'] as const) {
    it(`says so whatever is done, and loses nothing, with ${driver}`, { timeout: 60_000 }, async () => {
      using memory = MountTree.create('tmpfs', { parameters: { size: '3m', nr_inodes: '400', mode: '0700' } });
      const place = `/proc/${process.pid}/fd/${memory.fd.number}`;
      await using store = await openStore({ root: place, driver, durability: 'none' });
      await store.prepare('base-work');
      {
        using mount = await store.openMount('base-work');
        writeFileSync(`/proc/self/fd/${mount.fd.number}/f`, 'x'.repeat(200_000));
      }
      await store.commit('base', 'base-work');
      const ballast = join(place, 'ballast');
      const reasons = new Set<string>();
      const most = process.env.ISO_LONG ? 60 : 14;
      for (let i = 0; i < most; i++) {
        // A little more room each time.
        const { bavail, bsize } = statfsSync(place);
        writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail - Math.floor((i * 120) / most)) * bsize));
        const name = `new-${i}`;
        try {
          await store.prepare(name, { parent: 'base' });
          {
            using mount = await store.openMount(name);
            writeFileSync(`/proc/self/fd/${mount.fd.number}/g`, 'y'.repeat(20_000));
          }
          await store.commit(`${name} done`, name, { labels: { long: 'l'.repeat(3000) } });
          reasons.add('it worked');
        } catch (error) {
          const { reason, code } = error as { reason?: string; code?: string };
          reasons.add(reason ?? code ?? String(error));
        }
        rmSync(ballast);
        expect(await store.check()).toEqual([]);
        for await (const snapshot of store.walk()) {
          using mount = await store.openMount(snapshot.name, { readonly: true });
          const path = `/proc/self/fd/${mount.fd.number}`;
          expect(readFileSync(`${path}/f`, 'utf8')).toBe('x'.repeat(200_000));
          if (snapshot.kind === 'committed' && snapshot.parent)
            expect(readFileSync(`${path}/g`, 'utf8')).toBe('y'.repeat(20_000));
        }
        await store.gc({ roots: ['base'] });
        for await (const { name, kind } of store.walk()) if (kind === 'active') await store.remove(name);
      }
      expect(reasons).toContain('noSpace');
      expect(reasons).toContain('it worked');
      for (const reason of reasons) expect(['noSpace', 'it worked', 'ENOSPC']).toContain(reason);
    });
  }
});
