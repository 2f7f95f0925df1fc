// Processes that import, name, unname and collect one layout at once, and are killed at any moment: whatever has a name is whole, and
// nothing is in the way of the next. ISO_LONG=1 does it 200 times.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { layoutFiles, sketchImage, tar } from '../testing/image.js';
import { importImages } from './import.js';
import { ImageLayout } from './layout.js';

const rounds = process.env.ISO_LONG ? 200 : 3;
let folder = '';
const at = (name: string) => join(folder, name);
const IMAGES = 4;

/** A process that works until it is killed; says when it begins. */
const code = `
  const [layoutUrl, importUrl, folder] = process.argv.slice(1);
  const { ImageLayout } = await import(layoutUrl);
  const { importImages } = await import(importUrl);
  const layout = await ImageLayout.open(folder + '/images', { create: true });
  console.log('begins');
  for (let i = 0; ; i = Math.floor(Math.random() * ${IMAGES})) {
    const name = 'image-' + i;
    await importImages(layout, folder + '/' + i + '.tar', { name });
    await (await layout.image(name)).verify();
    if (Math.random() < 0.5) await layout.untag('image-' + Math.floor(Math.random() * ${IMAGES}));
    if (Math.random() < 0.5) await layout.gc();
  }`;

function start(): ChildProcess {
  const urls = ['./layout.ts', './import.ts'].map((file) => new URL(file, import.meta.url).href);
  const words = [...fromSources, '--input-type=module', '-e', code, ...urls, folder];
  return spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-crash-'));
  const shared = tar({ path: 'shared', content: Buffer.alloc(300_000, 'shared') });
  for (let i = 0; i < IMAGES; i++) {
    const own = tar({ path: 'own', content: Buffer.alloc(200_000, `own ${i}`) });
    const { blobs, descriptor } = sketchImage([shared, own], { compression: i % 2 ? 'none' : 'gzip' });
    writeFileSync(at(`${i}.tar`), tar(...layoutFiles(blobs, [descriptor])));
  }
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a layout of many processes', () => {
  it(`is whole after each of ${rounds} kills`, { timeout: rounds * 30_000 }, async () => {
    // One survives another's death, and must not notice it; an image that somebody unnames in between is none of its business.
    const failures: string[] = [];
    for (let round = 0; round < rounds; round++) {
      const children = [start(), start()];
      for (const child of children) {
        child.stderr?.on('data', (text: Buffer) => {
          if (!/notFound|no image|there is no blob/.test(String(text))) failures.push(String(text));
        });
      }
      await Promise.all(children.map((child) => once(child.stdout as NodeJS.ReadableStream, 'data')));
      for (const child of children) {
        await setTimeout(Math.random() * 150);
        const exited = child.exitCode === null ? once(child, 'exit') : undefined;
        child.kill('SIGKILL');
        await exited;
      }
      const layout = await ImageLayout.open(at('images'), { create: true });
      for (const { name } of await layout.list()) await (await layout.image(name as string)).verify();
      for await (const { digest } of layout.content.list()) await layout.content.verify(digest);
      // Nothing is in the way: everything can come in, and what is left over goes.
      if (round % 10 === 2) {
        for (let i = 0; i < IMAGES; i++) await importImages(layout, at(`${i}.tar`), { name: `image-${i}` });
        await layout.gc();
        expect(readdirSync(at('images/.iso/partial'))).toEqual([]);
        let blobs = 0;
        for await (const _ of layout.content.list()) blobs++;
        // A layer of all four, compressed and not, and of each its own, its config and its manifest.
        expect(blobs).toBe(2 + 3 * IMAGES);
      }
    }
    expect(failures.filter((text) => /Error/.test(text))).toEqual([]);
  });
});
