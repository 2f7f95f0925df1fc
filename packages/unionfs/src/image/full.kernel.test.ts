// A file system that is full: a typed error at every stage, and everything that was there is there.
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { MountTree } from '@iso/mounts';
import { Fd, KernelError, O } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildImage } from '../build/build.js';
import { ImageError } from '../content/error.js';
import { writeAll } from '../file/call.js';
import { StoreError } from '../store/error.js';
import { openStore } from '../store/open-store.js';
import { layoutFiles, sketchImage, tar } from '../testing/image.js';
import { warmUp } from '../testing/judge.js';
import { commitImage } from './compose.js';
import { copyImage, type ExportOptions, exportImages } from './export.js';
import { importImages } from './import.js';
import { ImageLayout } from './layout.js';
import { unpackImage } from './unpack.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-full-'));
  await warmUp();
}, 60_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const MEGA = 1 << 20;
/** A build says of which step it is the cause. */
function isFull(error: unknown): boolean {
  if (ImageError.is(error, 'badStep')) return isFull(error.cause);
  return KernelError.is(error, 'ENOSPC') || StoreError.is(error, 'noSpace');
}

/** What something throws. */
async function failure(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
    return undefined;
  } catch (error) {
    return error;
  }
}

describe('a full file system', () => {
  it.skipIf(!root)(`is a typed error at every stage, and harms nothing${needs}`, { timeout: 120_000 }, async () => {
    const of = (...sizes: number[]) =>
      sketchImage(
        sizes.map((size, i) => tar({ path: `f${i}`, content: Buffer.alloc(size, `${size} ${i}`) })),
        { compression: 'none' },
      );
    const [little, much] = [of(10_000, 20_000), of(MEGA, 2 * MEGA)];
    const path = join(folder, 'much.tar');
    writeFileSync(path, tar(...layoutFiles(much.blobs, [much.descriptor])));
    async function* bytes() {
      yield tar(...layoutFiles(little.blobs, [little.descriptor]));
    }
    async function* stream() {
      for (let i = 0; i < 80; i++) yield Buffer.alloc(65536, i);
    }
    using mount = MountTree.create('tmpfs', { parameters: { size: String(6 * MEGA) } });
    const place = `/proc/${process.pid}/fd/${mount.fd.number}`;
    const layout = await ImageLayout.open(join(place, 'images'), { create: true });
    await importImages(layout, bytes(), { name: 'little' });
    const base = await layout.image('little');
    mkdirSync(join(place, 'store'));
    await using store = await openStore({ root: join(place, 'store'), driver: 'vfs' });
    const whole = async () => {
      expect((await layout.list()).map(({ name }) => name)).toEqual(['little']);
      await base.verify();
      expect(readdirSync(join(place, 'images/.iso/partial'))).toEqual([]);
      for await (const { digest } of layout.content.list()) await layout.content.verify(digest);
    };
    // The room that is left gets less, so that every write is the one that fails.
    for (let left = 3.3 * MEGA; left > 0; left -= 700_000) {
      const ballast = join(place, 'ballast');
      fill(ballast, left);
      const works = [
        () => importImages(layout, path, { name: 'much' }),
        () => commitImage(layout, stream(), { base, compression: 'none' }),
      ];
      for (const work of works) {
        const error = await failure(work);
        if (error !== undefined) expect(isFull(error), String(error)).toBe(true);
        else await layout.untag('much');
        rmSync(ballast);
        await whole();
        await layout.gc();
        fill(ballast, left);
      }
      rmSync(ballast);
    }
    await importImages(layout, path, { name: 'much' });
    const image = await layout.image('much');
    const failed = await failure(() => unpackImage(image, store));
    expect(isFull(failed), String(failed)).toBe(true);
    expect(await store.check()).toEqual([]);
    await image.verify();
    // What was whole stays, and is not there twice.
    for await (const { kind, name } of store.walk())
      expect([kind, name]).toEqual(['committed', image.layers[0]?.chainId]);
    await layout.untag('much');
    await layout.gc();
    await store.gc({ roots: await layout.roots() });
    expect(await unpackImage(base, store)).toBe(base.chainId);
  });

  it.skipIf(!root)(
    `ends a build and an export with a typed error, and harms nothing${needs}`,
    { timeout: process.env.ISO_LONG ? 1_200_000 : 120_000 },
    async () => {
      using mount = MountTree.create('tmpfs', { parameters: { size: String(8 * MEGA) } });
      const place = `/proc/${process.pid}/fd/${mount.fd.number}`;
      const layout = await ImageLayout.open(join(place, 'images'), { create: true });
      const { blobs, descriptor } = sketchImage([tar({ path: 'f', content: Buffer.alloc(MEGA, 'f') })], {
        compression: 'none',
      });
      async function* bytes() {
        yield tar(...layoutFiles(blobs, [descriptor]));
      }
      await importImages(layout, bytes(), { name: 'base' });
      const base = await layout.image('base');
      mkdirSync(join(place, 'store'));
      await using store = await openStore({ root: join(place, 'store'), driver: 'overlay2' });
      await unpackImage(base, store);
      const context = mkdtempSync(join(folder, 'context-'));
      // Of bytes that nothing makes fewer.
      writeFileSync(join(context, 'large'), randomBytes(MEGA));
      const build = () =>
        buildImage(
          [{ from: 'base', steps: [{ copy: ['large'], to: '/copied' }, { run: 'write' }, { env: { A: 'b' } }] }],
          {
            layout,
            store,
            context: { directory: context },
            cache: join(place, 'cache'),
            noCache: true,
            execute: async ({ root }) => {
              using file = Fd.open(`/proc/self/fd/${root.number}/written`, { flags: O.WRONLY | O.CREAT, mode: 0o644 });
              writeAll(file.number, randomBytes(MEGA));
              return { code: 0 };
            },
          },
        );
      const other = await ImageLayout.open(join(place, 'other'), { create: true });
      const file = join(place, 'export');
      const save = (format: ExportOptions['format']) => writeFile(file, exportImages([base], { format }));
      const temporary = process.env.TMPDIR;
      const arriving = join(folder, 'arriving.tar');
      const more = sketchImage([
        tar({ path: 'g', content: randomBytes(MEGA / 2) }),
        tar({ path: 'h', content: randomBytes(MEGA / 2) }),
      ]);
      writeFileSync(arriving, tar(...layoutFiles(more.blobs, [more.descriptor])));
      const works: [name: string, work: () => Promise<unknown>][] = [
        ['build', build],
        ['import and unpack', () => importImages(layout, arriving, { name: 'arriving', unpack: { store } })],
        ['copy to a layout', () => copyImage(layout, 'base', other)],
        ['oci-archive', () => save('oci-archive')],
        ['docker-archive', () => save('docker-archive')],
        ['rootfs', () => save('rootfs')],
      ];
      const many = Array.from({ length: 20 }, (_, i) => 5 - i / 4);
      const rooms = (process.env.ISO_LONG ? many : [5, 1.5, 0.6]).map((room) => room * MEGA);
      const ballast = join(place, 'ballast');
      const ends = new Map<string, Set<string>>();
      try {
        // What is exported as files is unpacked there before.
        process.env.TMPDIR = place;
        for (const left of rooms) {
          for (const [name, work] of works) {
            fill(ballast, left);
            const error = await failure(work);
            // Of a file that this test writes, Node says it.
            const full = isFull(error) || (error as NodeJS.ErrnoException | undefined)?.code === 'ENOSPC';
            if (error !== undefined) expect(full, `${name}: ${error}`).toBe(true);
            ends.set(name, (ends.get(name) ?? new Set()).add(error ? 'full' : 'worked'));
            for (const path of [ballast, file]) rmSync(path, { force: true });
            expect(readdirSync(place).filter((entry) => entry.startsWith('iso-'))).toEqual([]);
            for (const one of [layout, other]) {
              for (const { name: tag } of await one.list())
                if (tag !== 'base' || one === other) await one.untag(tag as string);
              await one.gc();
              const partial = join(one.content.directory, '.iso/partial');
              expect(existsSync(partial) ? readdirSync(partial) : []).toEqual([]);
              for await (const { digest } of one.content.list()) await one.content.verify(digest);
            }
            await base.verify();
            expect(await store.check()).toEqual([]);
            await store.gc({ roots: await layout.roots() });
            const stays = [];
            for await (const snapshot of store.walk()) stays.push([snapshot.kind, snapshot.name]);
            expect(stays).toEqual([['committed', base.chainId]]);
          }
        }
      } finally {
        if (temporary === undefined) delete process.env.TMPDIR;
        else process.env.TMPDIR = temporary;
      }
      // Each had enough room once, and too little.
      for (const [name] of works)
        expect([name, [...(ends.get(name) ?? [])].sort()]).toEqual([name, ['full', 'worked']]);
    },
  );
});

/** Takes all room but so many bytes. */
function fill(path: string, left: number): void {
  const { bavail, bsize } = statfsSync(dirname(path));
  writeFileSync(path, Buffer.alloc(Math.max(0, bavail * bsize - left)));
}
