// What a build fetches: from a server of its own on loopback; the files are judged by what is in the layer.
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { ImageError } from '../content/error.js';
import type { Image } from '../image/image.js';
import { ImageLayout } from '../image/layout.js';
import { openStore } from '../store/open-store.js';
import type { Store } from '../store/store.js';
import { readTar } from '../tar/read.js';
import { tar } from '../testing/image.js';
import { buildImage } from './build.js';
import type { BuildOptions } from './options.js';
import type { BuildStep } from './step.js';

const root = process.getuid?.() === 0;
const needs = root ? '' : ' [needs root]';
let folder = '';
let layout: ImageLayout;
let store: Store;
let server: Server;
let origin = '';
let asked: string[] = [];
const archive = tar({ path: 'inside', content: 'of an archive' });
const sha256 = (bytes: string | Buffer) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-fetched-'));
  layout = await ImageLayout.open(join(folder, 'images'), { create: true });
  store = await openStore({ root: join(folder, 'store'), driver: 'vfs', durability: 'none' });
  server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.push(path);
    if (path === '/a.tar') response.end(archive);
    else if (path === '/moved') response.writeHead(302, { location: '/file.txt' }).end();
    else if (path === '/short') {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half');
      setTimeout(() => response.destroy(), 20);
    } else if (path === '/never') response.write('waits');
    else if (path === '/silent') return;
    else if (/^\/(file\.txt|d\/|%2e%2e%2fup|dir%2Fup)/i.test(path)) {
      response.writeHead(200, { 'last-modified': 'Sat, 03 Oct 2020 10:00:00 GMT' }).end('fetched');
    } else response.writeHead(path === '/gone' ? 404 : 500).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(async () => {
  store.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

// One that was refused is not read to its end, and its connection stays for a while; one that was given up may still come in.
afterEach(async () => {
  for (let i = 0, open = 1; open > 0 && i < 100; i++) {
    server.closeAllConnections();
    await new Promise((resolve) => setTimeout(resolve, 20));
    open = await new Promise<number>((resolve) => server.getConnections((_, count) => resolve(count)));
  }
});

async function build(steps: BuildStep[], options: Partial<BuildOptions> = {}): Promise<Image> {
  asked = [];
  // Connections of its own, so that none is open after the test.
  const fetch: typeof globalThis.fetch = (address, init) =>
    globalThis.fetch(address, { ...init, headers: { connection: 'close' } });
  return await buildImage([{ from: 'scratch', steps }], { layout, store, fetch, ...options });
}

/** The files of the uppermost layer. */
async function files(image: Image): Promise<Record<string, unknown>> {
  const found: Record<string, unknown> = {};
  const { chainId } = image;
  for await (const { path, type, mode, uid, mtime, content } of readTar(store.writeLayer(chainId as string))) {
    const parts: Buffer[] = [];
    for await (const bytes of content) parts.push(bytes);
    if (type === 'file')
      found[path.toString()] = [mode.toString(8), uid, mtime, Buffer.concat(parts).toString('latin1')];
  }
  return found;
}

async function reason(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  if (!ImageError.is(error, 'badStep')) return String(error);
  return ImageError.is(error.cause) ? error.cause.reason : String(error.cause);
}

describe.skipIf(!root)(`an address in a step add${needs}`, () => {
  it('is fetched, by the name that it ends in or another, and never unpacked', async () => {
    const time = BigInt(Date.parse('2020-10-03T10:00:00Z')) * 1_000_000n;
    const fetched = ['600', 0, time, 'fetched'];
    expect(await files(await build([{ add: [`${origin}/file.txt?x=1#y`], to: '/d/' }]))).toEqual({
      'd/file.txt': fetched,
    });
    expect(await files(await build([{ add: [`${origin}/moved`], to: '/e/own', chmod: 0o755, chown: '7' }]))).toEqual({
      'e/own': ['755', 7, time, 'fetched'],
    });
    expect(await files(await build([{ add: [`${origin}/a.tar`, `${origin}/file.txt`], to: '/' }]))).toEqual({
      'a.tar': ['600', 0, 0n, archive.toString('latin1')],
      'file.txt': fetched,
    });
  });

  it('is known by its content, and by its checksum before it is fetched', async () => {
    const cache = join(folder, 'cache');
    mkdirSync(cache);
    const events: string[] = [];
    const options: Partial<BuildOptions> = { cache, onProgress: ({ state }) => void events.push(state) };
    const step = { add: [`${origin}/file.txt`], to: '/x' };
    await build([step], options);
    await build([step], options);
    expect([asked, events.filter((state) => state === 'cached')]).toEqual([['/file.txt'], ['cached']]);
    const checksum = sha256('fetched');
    const first = await build([{ ...step, checksum }], options);
    const again = await build([{ ...step, checksum }], options);
    expect([asked, again.digest]).toEqual([[], first.digest]);
    expect(await reason(build([{ ...step, checksum: sha256('other') }], options))).toBe('wrongDigest');
    expect(await reason(build([{ ...step, checksum: 'md5:0' }]))).toMatch(/unsupported|badName/);
    expect(await reason(build([{ add: [...step.add, ...step.add], to: '/', checksum }]))).toBe('badStep');
  });

  it('that says nothing, or never ends, is given up', async () => {
    for (const path of ['silent', 'never']) {
      const begun = performance.now();
      expect(await reason(build([{ add: [`${origin}/${path}`], to: '/d/' }], { fetchTimeout: 200 }))).toBe('network');
      expect(performance.now() - begun).toBeLessThan(5000);
    }
    const step = { add: [`${origin}/file.txt`], to: '/d/' };
    expect(await reason(build([step], { fetchLimit: 6 }))).toBe('tooLarge');
    await build([step], { fetchLimit: 7 });
    const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' });
    for (const value of [0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, '5' as unknown as number]) {
      await expect(build([step], { fetchTimeout: value })).rejects.toThrow(refused);
      await expect(build([step], { fetchLimit: value })).rejects.toThrow(refused);
    }
    expect(readdirSync(join(folder, 'images/.iso/partial'))).toEqual([]);
  });

  it('that cannot be fetched, or whose name means something else, is a typed error, and nothing stays', async () => {
    for (const [path, why] of [
      ['gone', 'notFound'],
      ['broken', 'network'],
      ['short', 'network'],
      ['d/', 'badStep'],
      ['%2e%2e%2fup', 'badStep'],
      ['dir%2Fup', 'badStep'],
    ] as const) {
      expect([path, await reason(build([{ add: [`${origin}/${path}`], to: '/d/' }]))]).toEqual([path, why]);
    }
    expect(await reason(build([{ add: ['http://127.0.0.1:1/x'], to: '/d/' }]))).toBe('network');
    expect(await reason(build([{ add: ['https://example.org/x.git'], to: '/d/' }]))).toBe('unsupported');
    const controller = new AbortController();
    setTimeout(() => controller.abort(new Error('enough')), 100);
    const { signal } = controller;
    expect(await reason(build([{ add: [`${origin}/never`], to: '/d/' }], { signal }))).toBe('Error: enough');
    expect(readdirSync(join(folder, 'images/.iso/partial'))).toEqual([]);
    expect(await store.check()).toEqual([]);
  });
});
