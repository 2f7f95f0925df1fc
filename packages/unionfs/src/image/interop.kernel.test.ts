// Other programs' images here, ours there, and back: every file must be what it was, by Python's account. With ISO_LONG=1 also a whole
// Debian (ISO_LONG=/a/tree takes that one).
import { execFileSync, spawnSync } from 'node:child_process';
import { createWriteStream, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packTree } from '../layer/pack.js';
import { openStore } from '../store/open-store.js';
import type { Store } from '../store/store.js';
import { type Judged, judge, makeTree, warmUp } from '../testing/judge.js';
import { commitImage } from './compose.js';
import { exportImages } from './export.js';
import { importImages } from './import.js';
import { ImageLayout } from './layout.js';
import { unpackImage } from './unpack.js';

const root = process.getuid?.() === 0;
const has = (tool: string) => spawnSync('sh', ['-c', `command -v ${tool}`]).status === 0;
const lacking = ['skopeo', 'umoci', 'podman'].filter((tool) => !has(tool));
const needs = root && !lacking.length ? '' : ` [needs root${lacking.map((tool) => `, ${tool}`).join('')}]`;
const long = process.env.ISO_LONG ?? '';
let folder = '';
/** Podman takes one of 50 characters at the most. */
let runroot = '';
const at = (name: string) => join(folder, name);
const run = (command: string) =>
  execFileSync('bash', ['-ec', command], { cwd: folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
/** Of podman all is in our folder; no configuration of the machine counts. */
const podman = () =>
  `podman --root ${at('podman')} --runroot ${runroot} --tmpdir ${at('podman-tmp')} --storage-driver vfs --cgroup-manager cgroupfs --events-backend none`;
/** A whole Debian takes minutes. */
const TIMEOUT = long ? 3_600_000 : 120_000;
const NAME = 'example.org/iso/tree:1';

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'iso-interop-'));
  runroot = mkdtempSync('/tmp/iso-run-');
  await warmUp();
}, 60_000);
afterAll(() => {
  for (const path of [folder, runroot]) rmSync(path, { recursive: true, force: true });
});

/** Go's archives lose attributes without a value, so nothing that went through Go has them. */
function throughGo(tree: Record<string, Judged>): Record<string, Judged> {
  const copy: Record<string, Judged> = {};
  for (const [name, file] of Object.entries(tree)) {
    const xattrs = Object.entries(file.xattrs as object).filter(([, value]) => value !== '');
    copy[name] = { ...file, xattrs: Object.fromEntries(xattrs) };
  }
  return copy;
}

/** A Debian of more than 20,000 files. */
function debootstrap(): string {
  const include = 'perl,git,python3,vim-runtime,manpages-dev,golang-src';
  run(`debootstrap --variant=minbase --include=${include} bookworm debian`);
  return at('debian');
}

/** The first few names that differ: a whole tree is no message. */
function expectSame(found: Record<string, Judged>, wanted: Record<string, Judged>, but: string[] = []): void {
  const names = new Set([...Object.keys(found), ...Object.keys(wanted)]);
  const differ = [...names].filter((name) => {
    return !but.includes(name) && JSON.stringify(found[name]) !== JSON.stringify(wanted[name]);
  });
  expect(differ.slice(0, 5).map((name) => [name, found[name], wanted[name]])).toEqual([]);
  expect(Object.keys(wanted).length).toBeGreaterThan(100);
}

async function contentOf(store: Store, name: string): Promise<Record<string, Judged>> {
  using mount = await store.openMount(name, { readonly: true });
  return judge(`/proc/${process.pid}/fd/${mount.fd.number}/.`);
}

const unpacked = async (layout: ImageLayout, name: string, store: Store) =>
  contentOf(store, await unpackImage(await layout.image(name), store));

async function roundTrip(tree: string, wanted: Record<string, Judged>): Promise<Record<string, number>> {
  const figures: Record<string, number> = {};
  let start = performance.now();
  const lap = (what: string) => {
    figures[what] = Math.round(performance.now() - start);
    start = performance.now();
  };
  const layout = await ImageLayout.open(at('ours'), { create: true });
  async function* archive() {
    yield* packTree(tree);
  }
  await importImages(layout, archive(), { name: NAME, config: { Cmd: ['sh'] } });
  lap('import of a tree');
  const image = await layout.image(NAME);
  const out = { name: NAME, image };
  await pipeline(exportImages([out], { format: 'docker-archive' }), createWriteStream(at('d.tar')));
  await pipeline(exportImages([out], { format: 'oci-archive' }), createWriteStream(at('o.tar')));
  lap('two exports');

  // Ours there: umoci's files, by both ways.
  run(`skopeo --insecure-policy copy -q docker-archive:d.tar oci:from-docker:x
       skopeo --insecure-policy copy -q oci-archive:o.tar oci:from-oci:x
       umoci unpack --image from-docker:x b1; umoci unpack --image from-oci:x b2`);
  const gone = throughGo(wanted);
  expectSame(judge(at('b1/rootfs')), gone);
  expectSame(judge(at('b2/rootfs')), gone);
  lap('skopeo, umoci');

  // Theirs here: skopeo's layout as a directory and as what docker saves, umoci's own layers.
  run(`skopeo --insecure-policy copy -q oci:from-docker:x docker-archive:again.tar:${NAME}
       umoci init --layout umoci; umoci new --image umoci:x; umoci unpack --image umoci:x b3
       cp -a b1/rootfs/. b3/rootfs/; umoci repack --image umoci:x b3
       umoci unpack --image umoci:x b4`);
  // What umoci archives is not all that was there (nanoseconds of links), so its own files are the measure.
  const umociHas = judge(at('b4/rootfs'));
  lap('skopeo, umoci again');
  for (const driver of ['overlay2', 'vfs'] as const) {
    await using store = await openStore({ root: at(`store-${driver}`), driver, durability: 'none' });
    for (const source of driver === 'vfs' ? ['again.tar'] : ['from-oci', 'umoci']) {
      const theirs = await ImageLayout.open(at(`from-${source}-${driver}`), { create: true, durable: false });
      const { images, format } = await importImages(theirs, at(source), { name: () => 'x' });
      expect([images.length, format]).toEqual([1, source === 'again.tar' ? 'docker-archive' : 'oci']);
      lap(`import of ${source}`);
      expectSame(await unpacked(theirs, 'x', store), source === 'umoci' ? umociHas : wanted);
      lap(`unpack of ${source} as ${driver}`);
      await theirs.image('x').then((same) => same.verify());
      rmSync(at(`from-${source}-${driver}`), { recursive: true });
    }
  }
  // A layout that is copied has the very blobs.
  const blobs = (name: string) => run(`cd ${name}/blobs/sha256 && sha256sum * | sort`);
  const copy = await ImageLayout.open(at('copy'), { create: true });
  await importImages(copy, at('from-oci'));
  expect(blobs('copy')).toBe(blobs('from-oci'));
  return figures;
}

/** What we have saved last, loaded by podman: its files, and what it saves of it. */
async function throughPodman(wanted: Record<string, Judged>): Promise<void> {
  run(`${podman()} load -q -i d.tar; ${podman()} image mount ${NAME} > mounted`);
  // Podman gives the root a time of its own.
  expectSame(judge(readFileSync(at('mounted'), 'utf8').trim()), throughGo(wanted), ['.']);
  run(`${podman()} save -q --format oci-archive -o po.tar ${NAME}
       ${podman()} save -q --format docker-archive -o pd.tar ${NAME}
       ${podman()} image umount -a`);
  await using store = await openStore({ root: at('store-podman'), driver: 'overlay2', durability: 'none' });
  for (const file of ['po.tar', 'pd.tar']) {
    const layout = await ImageLayout.open(at(`${file}.images`), { create: true });
    // Unpacked on its way in.
    const { images } = await importImages(layout, at(file), { unpack: { store } });
    expect(images.map(({ name }) => name)).toEqual([NAME]);
    expect((await layout.image(NAME)).config.config?.Cmd).toEqual(['sh']);
    expectSame(await unpacked(layout, NAME, store), wanted);
  }
  run(`${podman()} rmi -f ${NAME}`);
}

describe('images of other programs', () => {
  it.skipIf(needs !== '')(`are equal after skopeo and umoci, both ways${needs}`, { timeout: TIMEOUT }, async () => {
    if (long) {
      const debian = long === '1' ? debootstrap() : long;
      const wanted = judge(debian);
      expect(Object.keys(wanted).length).toBeGreaterThan(20_000);
      console.log(Object.keys(wanted).length, 'files, milliseconds of', await roundTrip(debian, wanted));
      await throughPodman(wanted);
      for (const name of readdirSync(folder)) if (name !== 'debian') rmSync(at(name), { recursive: true });
    }
    makeTree(at('tree'), 71, 250);
    await roundTrip(at('tree'), judge(at('tree')));
  });

  it.skipIf(needs !== '')(`are equal after podman, both ways${needs}`, { timeout: TIMEOUT }, async () => {
    await throughPodman(judge(at('tree')));
  });

  it.skipIf(needs !== '')(`a container's changes, on their base, are what umoci unpacks${needs}`, async () => {
    const layout = await ImageLayout.open(at('ours'));
    const base = await layout.image(NAME);
    await using store = await openStore({ root: at('store-commit'), driver: 'overlay2', durability: 'none' });
    const parent = await unpackImage(base, store);
    await store.prepare('box', { parent });
    {
      using mount = await store.openMount('box');
      const path = `/proc/${process.pid}/fd/${mount.fd.number}`;
      execFileSync('bash', [
        '-ec',
        'cd "$0"; rm -rf "$(ls | head -1)"; echo new > new; ln new hard; mkfifo pipe',
        path,
      ]);
    }
    const image = await commitImage(layout, store.writeLayer('box'), { base, createdBy: 'a test' });
    await layout.tag('changed', image);
    expect(image.layers).toHaveLength(2);
    run('umoci unpack --image ours:changed b5');
    expectSame(judge(at('b5/rootfs')), throughGo(await contentOf(store, 'box')));
    expectSame(await unpacked(layout, 'changed', store), await contentOf(store, 'box'));
    // What a store is to keep: both images, nothing else.
    await store.remove('box');
    expect((await store.gc({ roots: await layout.roots() })).removed).toEqual([]);
    await layout.untag('changed');
    expect((await store.gc({ roots: await layout.roots() })).removed).toEqual([image.chainId]);
    expect((await layout.gc()).length).toBe(3);
    // The files of it, without whiteouts.
    const flat = exportImages([base], { format: 'rootfs' });
    const again = await ImageLayout.open(at('flat'), { create: true });
    await importImages(again, flat, { name: 'flat' });
    expectSame(await unpacked(again, 'flat', store), await contentOf(store, parent));
  });

  it.skipIf(needs !== '')(`directories that a layer has no entries for are as below, as umoci's${needs}`, async () => {
    run(`mkdir -p l1/d/e l1/f l2/d/e; touch l1/f/{1..120} l2/d/e/new; setfattr -n user.a -v b l1/d; chown 7:8 l1/d
         chmod 2750 l1/d; chmod 700 l1/d/e; chmod 711 l1; touch -d @5.25 l1/d/e l1/d l1
         tar -C l1 --xattrs --xattrs-include='*' --format posix -cf l1.tar .; tar -C l2 --no-recursion -cf l2.tar d/e/new
         umoci init --layout bare; umoci new --image bare:x
         for layer in l1.tar l2.tar; do umoci raw add-layer --image bare:x $layer; done; umoci unpack --image bare:x b6`);
    const layout = await ImageLayout.open(at('bare-here'), { create: true });
    await importImages(layout, at('bare'), { name: () => 'x' });
    const image = await layout.image('x');
    const wanted = judge(at('b6/rootfs'));
    expect(wanted['"d/e"']).toMatchObject({ mode: '0o700' });
    for (const driver of ['overlay2', 'vfs'] as const) {
      for (const atOnce of [1, 2]) {
        await using store = await openStore({ root: at(`bare-${driver}-${atOnce}`), driver, durability: 'none' });
        const found = await contentOf(store, await unpackImage(image, store, { atOnce }));
        expectSame(found, wanted);
      }
    }
  });
});
