// Rows of @iso/unionfs, each measured in turn with its peer in one run, on a memory file system.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { changes, ImageLayout, importImages, LayerThread, openOverlay, openStore, unpackLayer } from '@iso/unionfs';
import { has } from '../test/machine.js';
import { compare, inARow, median, timed, unavailable } from './measure.js';

/** On a memory file system where there is one: a disk's write-back would be what is measured. */
async function scratch(use) {
  const folder = mkdtempSync('/dev/shm/iso-bench-');
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** 20,000 files of the sizes that a distribution has; about half of it can be compressed, as of programs. */
function makeFiles(folder) {
  const body = Buffer.alloc(4_000_000, 'the quick brown fox ');
  let seed = 1;
  for (let i = 0; i < body.length; i++) {
    seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
    if (i & 0x200) body[i] = seed >> 16;
  }
  for (let i = 0; i < 20_000; i++) {
    if (i % 20 === 0) mkdirSync(`${folder}/d${i / 20}`, { recursive: true });
    const size = i % 100 === 0 ? 200_000 : (i * 7919) % 24_000;
    const at = (i * 104_729) % (body.length - size);
    writeFileSync(`${folder}/d${Math.floor(i / 20)}/file-${i}`, body.subarray(at, at + size), {
      mode: i % 7 ? 0o644 : 0o755,
    });
  }
}

function unpack(rounds = 5) {
  return scratch(async (folder) => {
    mkdirSync(`${folder}/tree`);
    makeFiles(`${folder}/tree`);
    execFileSync('tar', ['-C', `${folder}/tree`, '-cf', `${folder}/a.tar`, '.']);
    const into = async (work) => {
      mkdirSync(`${folder}/out`);
      const took = await timed(() => work(`${folder}/out`));
      rmSync(`${folder}/out`, { recursive: true });
      return took;
    };
    const thread = new LayerThread();
    const ours = () => into((out) => unpackLayer(`${folder}/a.tar`, out, { thread }));
    const theirs = () =>
      into((out) => execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-xpf', `${folder}/a.tar`, '-C', out]));
    try {
      return await compare(rounds, ours, theirs, 'GNU tar -x; ours with both digests');
    } finally {
      await thread[Symbol.asyncDispose]();
    }
  });
}

async function unpackImage(rounds = 3) {
  if (process.getuid() !== 0 || !has('umoci')) return unavailable('umoci unpack (needs root and umoci)');
  return await scratch(async (folder) => {
    mkdirSync(`${folder}/tree`);
    makeFiles(`${folder}/tree`);
    const umoci = (...args) => execFileSync('umoci', args, { cwd: folder, stdio: 'ignore' });
    umoci('init', '--layout', 'image');
    umoci('new', '--image', 'image:a');
    umoci('insert', '--image', 'image:a', 'tree', '/');
    const blobs = execFileSync('sh', ['-c', 'ls -S image/blobs/sha256 | head -1'], { cwd: folder, encoding: 'utf8' });
    const layer = join(folder, 'image/blobs/sha256', blobs.trim());
    const clear = () => rmSync(`${folder}/out`, { recursive: true, force: true });
    const ours = async () => {
      clear();
      mkdirSync(`${folder}/out`);
      return timed(() => unpackLayer(layer, `${folder}/out`, { expect: { digest: `sha256:${blobs.trim()}` } }));
    };
    const theirs = () => {
      clear();
      return timed(() => umoci('unpack', '--image', 'image:a', 'out'));
    };
    return await compare(rounds, ours, theirs, 'umoci unpack');
  });
}

/** An image as an archive, of one layer with 280 MB of files, compressed 150. */
function makeImage(folder) {
  mkdirSync(`${folder}/tree`);
  makeFiles(`${folder}/tree`);
  const run = runner(folder);
  run('umoci', 'init', '--layout', 'image');
  run('umoci', 'new', '--image', 'image:a');
  run('umoci', 'insert', '--image', 'image:a', 'tree', '/');
  run('skopeo', '--insecure-policy', 'copy', '-q', 'oci:image:a', 'oci-archive:image.tar:a');
  for (const name of ['tree', 'image']) rmSync(`${folder}/${name}`, { recursive: true });
}

const runner =
  (cwd) =>
  (...args) =>
    execFileSync(args[0], args.slice(1), { cwd, stdio: ['ignore', 'ignore', 'inherit'] });

/** Ours: from the archive of an image to a snapshot that a container can lie on. */
async function importAndUnpack(folder) {
  for (const name of ['layout', 'out']) rmSync(`${folder}/${name}`, { recursive: true, force: true });
  return await timed(async () => {
    const layout = await ImageLayout.open(`${folder}/layout`, { create: true });
    const store = await openStore({ root: `${folder}/out` });
    await importImages(layout, `${folder}/image.tar`, { name: 'a', unpack: { store } });
    store.close();
  });
}

/** From an archive of an image to a container's root: theirs copies the blobs into a layout and unpacks that; ours does the same. */
async function importImage(rounds = 3) {
  if (process.getuid() !== 0 || !has('umoci') || !has('skopeo')) {
    return unavailable('skopeo copy and umoci unpack (needs root, skopeo and umoci)');
  }
  return await scratch(async (folder) => {
    makeImage(folder);
    const run = runner(folder);
    const theirs = () => {
      for (const name of ['other', 'bundle']) rmSync(`${folder}/${name}`, { recursive: true, force: true });
      return timed(() => {
        run('skopeo', '--insecure-policy', 'copy', '-q', 'oci-archive:image.tar:a', 'oci:other:a');
        run('umoci', 'unpack', '--image', 'other:a', 'bundle');
      });
    };
    return await compare(rounds, () => importAndUnpack(folder), theirs, 'skopeo copy and umoci unpack');
  });
}

/** The same against what podman and cri-o do: into a store of layers. */
async function importSkopeo(rounds = 3) {
  if (process.getuid() !== 0 || !has('umoci') || !has('skopeo')) {
    return unavailable('skopeo copy to containers-storage (needs root, skopeo and umoci)');
  }
  return await scratch(async (folder) => {
    makeImage(folder);
    const run = runner(folder);
    const theirs = () => {
      rmSync(`${folder}/storage`, { recursive: true, force: true });
      const target = `containers-storage:[overlay@${folder}/storage+${folder}/run]localhost/a:a`;
      // It leaves a mount of its directory behind.
      const apart = ['unshare', '--mount', '--propagation', 'private'];
      const words = ['--insecure-policy', 'copy', '-q', 'oci-archive:image.tar:a', target];
      return timed(() => run(...apart, 'skopeo', ...words));
    };
    return await compare(rounds, () => importAndUnpack(folder), theirs, 'skopeo copy to containers-storage');
  });
}

/** The same against containerd, in a mount namespace of its own. */
async function importContainerd(rounds = 3) {
  if (process.getuid() !== 0 || !['containerd', 'ctr', 'umoci', 'skopeo'].every(has)) {
    return unavailable('ctr image import (needs root, containerd, skopeo and umoci)');
  }
  return await scratch(async (folder) => {
    makeImage(folder);
    const theirs = async () => {
      const socket = `${folder}/containerd.sock`;
      const config = `version = 2\nroot = "${folder}/containerd"\nstate = "${folder}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]\naddress = "${socket}"\n`;
      writeFileSync(`${folder}/containerd.toml`, config);
      const words = ['--mount', '--propagation', 'private', 'containerd', '--config', `${folder}/containerd.toml`];
      const daemon = spawn('unshare', words, { stdio: 'ignore' });
      const ended = once(daemon, 'close');
      try {
        const ctr = (...args) => execFileSync('ctr', ['-a', socket, ...args], { stdio: 'ignore' });
        for (let i = 0; !existsSync(socket) && i < 500; i++) await sleep(20);
        ctr('version');
        return await timed(() => ctr('image', 'import', '--snapshotter', 'overlayfs', `${folder}/image.tar`));
      } finally {
        daemon.kill();
        await ended;
        for (const name of ['containerd', 'state', 'containerd.sock'])
          rmSync(`${folder}/${name}`, { recursive: true, force: true });
      }
    };
    return await compare(
      rounds,
      () => importAndUnpack(folder),
      theirs,
      'ctr image import, without the start of its daemon',
    );
  });
}

/** The most memory that a process has which imports and unpacks a layer of a gigabyte. */
async function importMemory() {
  if (process.getuid() !== 0) return unavailable('the limit for a layer of 1 GiB (needs root)');
  return await scratch(async (folder) => {
    const program = `
      import { ImageLayout, importImages, openStore, tarEnd, tarHeader, unpackImage } from '@iso/unionfs';
      async function* archive() {
        const bytes = Buffer.alloc(2 ** 20, 'the quick brown fox ');
        for (let i = 0; i < 1024; i++) {
          bytes.write(String(i));
          yield tarHeader({ path: Buffer.from('f' + i), type: 'file', mode: 0o644, uid: 0, gid: 0, size: bytes.length, mtime: 0n });
          yield bytes;
        }
        yield tarEnd();
      }
      const layout = await ImageLayout.open('${folder}/layout', { create: true });
      await importImages(layout, archive(), { name: 'a' });
      const store = await openStore({ root: '${folder}/store' });
      await unpackImage(await layout.image('a'), store);
      store.close();
      console.log(process.resourceUsage().maxRSS);`;
    const words = ['--input-type=module', '-e', program];
    const cwd = new URL('.', import.meta.url);
    const kibibytes = Number(execFileSync(process.execPath, words, { cwd, encoding: 'utf8' }));
    const peer = 200;
    const ours = kibibytes / 1024;
    return { ours, peer, peerName: 'the limit for a layer of 1 GiB', unit: 'MiB', ratio: ours / peer };
  });
}

/** The same layers by mount(2) in C, whose names are short; what opens ours is a part of it. */
function overlay(count) {
  return async (rounds = 20) => {
    if (process.getuid() !== 0 || !has('gcc')) return unavailable('mount(2) in C (needs root and gcc)');
    return await scratch(async (folder) => {
      const lower = Array.from({ length: count }, (_, i) => `${folder}/${i}`);
      for (const path of [...lower, ...['upper', 'work', 'merged'].map((name) => `${folder}/${name}`)]) mkdirSync(path);
      const binary = `${folder}/overlay`;
      execFileSync('gcc', ['-O2', '-o', binary, new URL('unionfs/overlay.c', import.meta.url).pathname]);
      const ours = () =>
        inARow(IN_A_ROW, () => {
          const start = performance.now();
          const fd = openOverlay({ lower, upper: `${folder}/upper`, work: `${folder}/work` });
          const took = performance.now() - start;
          fd.close();
          return took;
        });
      const theirs = () => {
        const said = execFileSync(binary, [folder, String(count), String(IN_A_ROW)], { encoding: 'utf8' });
        return median(said.trim().split('\n').map(Number));
      };
      return await compare(rounds, ours, theirs, 'mount(2) in C');
    });
  };
}

/** What one does in a row before it is the other's turn. */
const IN_A_ROW = 10;

async function diff(rounds = 5) {
  if (process.getuid() !== 0) return unavailable('a walk through both trees (needs root)');
  return await scratch(async (folder) => {
    for (const name of ['lower', 'upper', 'work', 'other']) mkdirSync(`${folder}/${name}`);
    makeFiles(`${folder}/lower`);
    execFileSync('cp', ['-a', `${folder}/lower/.`, `${folder}/other`]);
    const touch = (root) => {
      for (let i = 0; i < 300; i++) writeFileSync(`${root}/d${i}/file-${i * 20 + 1}`, `changed ${i}`);
    };
    const paths = { lower: [`${folder}/lower`], upper: `${folder}/upper`, work: `${folder}/work` };
    const mount = openOverlay(paths);
    touch(`/proc/self/fd/${mount.number}`);
    mount.close();
    touch(`${folder}/other`);
    const count = async (source) => {
      let found = 0;
      for await (const _ of changes(source)) found++;
      if (found < 300) throw new Error(`${found} changes`);
    };
    const ours = () => timed(() => count({ upper: paths.upper, lowers: paths.lower }));
    const theirs = () => timed(() => count({ before: paths.lower[0], after: `${folder}/other` }));
    return await compare(rounds, ours, theirs, 'a walk through both trees');
  });
}

export const rows = [
  { name: 'layer-unpack', target: 1.2, measure: unpack },
  { name: 'layer-unpack-gzip', target: 0.5, measure: unpackImage },
  { name: 'image-import', target: 0.5, measure: importImage },
  { name: 'image-import-skopeo', target: 0.5, measure: importSkopeo },
  { name: 'image-import-ctr', target: 0.5, measure: importContainerd },
  { name: 'import-memory', target: 1, measure: importMemory },
  ...[1, 10, 100, 500].map((count) => ({ name: `overlay-${count}`, target: 2, measure: overlay(count) })),
  { name: 'layer-diff', target: 0.02, measure: diff },
];
