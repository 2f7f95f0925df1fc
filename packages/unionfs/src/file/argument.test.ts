// From programs without types: what is given instead of what is wanted is told, and nothing is done.
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as unionfs from '../index.js';

// biome-ignore lint/suspicious/noExplicitAny: what no type would let through
const loose = unionfs as any;
let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-argument-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const wrong: Record<string, () => unknown> = {
  'ImageLayout.open()': () => loose.ImageLayout.open(),
  'ImageLayout.open({})': () => loose.ImageLayout.open({ directory: folder }),
  'parseReference(5)': () => loose.parseReference(5),
  'importImages(PATH)': () => loose.importImages(folder),
  'exportImages(NAME)': () => loose.exportImages('x', { format: 'rootfs' }).next(),
  'exportImages([NAME])': () => loose.exportImages(['x'], { format: 'rootfs' }).next(),
  'exportImages([])': () => loose.exportImages([]).next(),
  'copyImage(PATHS)': () => loose.copyImage('a', 'b', 'c'),
  'unpackImage(NAME)': () => loose.unpackImage('debian', {}),
  'pullImage(NAME)': () => loose.pullImage('debian'),
  'pushImage(NAME)': () => loose.pushImage('debian'),
  'buildImage()': () => loose.buildImage(),
  'buildImage of no steps': () => loose.buildImage([{ from: 'scratch' }], {}),
  'buildImage of nothing as a step': () => loose.buildImage([{ from: 'scratch', steps: [null] }], {}),
  'buildImage without options': () => loose.buildImage([{ from: 'scratch', steps: [] }]),
  'buildImage without a store': () => loose.buildImage([{ from: 'scratch', steps: [] }], { layout: { content: {} } }),
  'unpackLayer()': () => loose.unpackLayer(),
  'unpackLayer(BUFFER)': () => loose.unpackLayer(Buffer.alloc(1024), folder),
  'unpackLayer to nowhere': () => loose.unpackLayer('/dev/null'),
  'changes(PATH)': () => loose.changes(folder).next(),
  'writeLayer()': () => loose.writeLayer().next(),
  'overlay2()': () => loose.overlay2(),
  'vfs(5)': () => loose.vfs(5),
  'openDriver(NAME)': () => loose.openDriver('auto'),
  'probeDrivers()': () => loose.probeDrivers(),
};
for (const [call, act] of Object.entries(wrong)) {
  it(`refuses ${call}`, async () => {
    const error = await Promise.resolve()
      .then(act)
      .catch((error: unknown) => error);
    expect(error).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_ARG_VALUE' });
    expect(readdirSync(folder)).toEqual([]);
  });
}

it('refuses what is no name or image of a layout', async () => {
  const layout = await loose.ImageLayout.open(join(folder, 'images'), { create: true });
  const calls = [
    () => layout.image(),
    () => layout.image(5),
    () => layout.find(null),
    () => layout.tag(5, {}),
    () => layout.tag('x'),
    () => layout.tag('x', 'debian'),
    () => layout.untag(),
    () => loose.importImages(layout),
    () => loose.importImages(layout, Buffer.alloc(3)),
    () => loose.pullImage(layout),
  ];
  for (const act of calls) {
    await expect(Promise.resolve().then(act), String(act)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  }
});
