// A virtual machine that loses its power while images are imported, unpacked and collected on its disk: the next one finds all that has a
// name as it was, and nothing that `check` does not mend. With ISO_LONG=1 only, twenty times.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { layoutFiles, sketchImage, tar } from '../testing/image.js';

const rounds = Number(process.env.ISO_POWER_OFFS ?? 20);
const IMAGES = 3;
const FILES = 40;
const repository = new URL('../../../..', import.meta.url).pathname;
const built = join(repository, 'packages/unionfs/dist/index.js');
const lacking = ['qemu-system-x86_64', 'mkfs.ext4'].filter(
  (tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0,
);
if (process.getuid?.() !== 0) lacking.unshift('root');
if (!existsSync(built)) lacking.push('the packages built');
// What else is lacking is no matter then.
if (!process.env.ISO_LONG) lacking.splice(0, lacking.length, 'ISO_LONG=1');
const needs = lacking.length ? ` [needs ${lacking.join(', ')}]` : '';
let folder = '';
const at = (name: string) => join(folder, name);

/** Looks at what the last one has left, says so, and then works until the power goes. */
const code = `
  import { readFileSync, writeFileSync } from 'node:fs';
  const [index, folder, disk, seed] = process.argv.slice(2);
  const iso = await import(index);
  const layout = await iso.ImageLayout.open(disk + '/images', { create: true });
  const store = await iso.openStore({ root: disk + '/store' });
  const shows = async (image) => {
    const mount = await store.openMount(await iso.unpackImage(image, store));
    const path = '/proc/self/fd/' + mount.fd.number;
    const number = readFileSync(path + '/number', 'utf8');
    for (let f = 0; f < ${FILES}; f++) {
      if (readFileSync(path + '/d/' + f, 'utf8') !== (number + ' ' + f + ' ').repeat(2000)) throw new Error('wrong content');
    }
    mount.close();
    return number;
  };
  const kinds = (await store.check()).map(({ kind }) => kind);
  const bad = kinds.filter((kind) => !['unfinished', 'abandoned', 'dangling'].includes(kind));
  if (bad.length) throw new Error('check says ' + bad);
  await store.check({ repair: true });
  if ((await store.check()).length) throw new Error('not mended');
  const names = [];
  for (const { name } of await layout.list()) {
    const image = await layout.image(name);
    await image.verify();
    if ('image-' + (await shows(image)) !== name) throw new Error(name + ' is another');
    names.push(name);
  }
  for await (const { digest } of layout.content.list()) await layout.content.verify(digest);
  const snapshots = [];
  for await (const { name } of store.walk()) snapshots.push(name);
  console.log(JSON.stringify({ sound: names.length, snapshots: snapshots.length, problems: kinds }));
  // From now on the power may go.
  setTimeout(() => writeFileSync('/proc/sysrq-trigger', 'b'), 200 + Number(seed) * 8000);
  for (let i = 0; ; i = (i + 1) % ${IMAGES}) {
    await iso.importImages(layout, folder + '/' + i + '.tar', { name: 'image-' + i });
    await shows(await layout.image('image-' + i));
    console.log('named ' + i);
    if (i === ${IMAGES} - 1) {
      await layout.untag('image-' + Math.floor(Math.random() * ${IMAGES}));
      await layout.gc();
      await store.gc({ roots: await layout.roots() });
    }
  }`;

interface Vm {
  runInVm(options: object): Promise<unknown>;
}

describe.skipIf(needs !== '')(`a machine without power${needs}`, () => {
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'iso-power-'));
    mkdirSync(at('shared'));
    for (let i = 0; i < IMAGES; i++) {
      const files = Array.from({ length: FILES }, (_, f) => ({ path: `d/${f}`, content: `${i} ${f} `.repeat(2000) }));
      const layers = [tar({ path: 'd', type: 'directory' }, ...files), tar({ path: 'number', content: String(i) })];
      const { blobs, descriptor } = sketchImage(layers, { compression: i % 2 ? 'none' : 'gzip' });
      writeFileSync(at(`shared/${i}.tar`), tar(...layoutFiles(blobs, [descriptor])));
    }
    writeFileSync(at('shared/guest.mjs'), code);
    writeFileSync(at('disk'), '');
    truncateSync(at('disk'), 128 << 20);
    execFileSync('mkfs.ext4', ['-q', '-F', at('disk')]);
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it(`has its images and its store, ${rounds} times`, { timeout: rounds * 180_000 }, async () => {
    const { runInVm } = (await import(join(repository, 'test/vm/vm.js'))) as Vm;
    const reports: { sound: number; snapshots: number; problems: string[] }[] = [];
    for (let round = 0; round <= rounds; round++) {
      let said = '';
      let wrong = '';
      const guest = [process.execPath, at('shared/guest.mjs'), built, at('shared'), '/mnt/disk', String(Math.random())];
      const script = 'mkdir -p /mnt/disk && mount -t ext4 "$ISO_DISK" /mnt/disk && exec "$@"';
      const lost = await runInVm({
        kernel: 'bookworm',
        command: ['sh', '-c', script, 'sh', ...guest],
        diskImage: at('disk'),
        results: at('shared'),
        timeoutMs: 170_000,
        onStdout: (chunk: Buffer) => (said += chunk),
        onStderr: (chunk: Buffer) => (wrong += chunk),
      }).then(
        () => 'ended',
        (error: { code?: string }) => error.code,
      );
      // The machine is gone without an exit of its command: that was the power.
      expect([round, lost, wrong]).toEqual([round, 'VM_CRASHED', '']);
      reports.push(JSON.parse(said.split('\n')[0] as string));
    }
    console.log(
      reports
        .map(({ sound, snapshots, problems }) => `${sound}/${snapshots}${problems.length ? `!${problems.join()}` : ''}`)
        .join(' '),
    );
    // Something was there to be lost.
    expect(reports.some(({ sound }) => sound > 0)).toBe(true);
  });
});
