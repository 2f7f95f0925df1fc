// Rows of @iso/unionfs, each measured in turn with its peer in one run, on a memory file system.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { changes, openOverlay, unpackLayer } from '@iso/unionfs';
import { has } from '../test/machine.js';
import { median, unavailable } from './measure.js';

async function compare(rounds, ours, theirs, peerName) {
  const times = { ours: [], theirs: [] };
  for (let i = -1; i < rounds; i++) {
    for (const [who, work] of [
      ['ours', ours],
      ['theirs', theirs],
    ]) {
      const own = await work();
      if (i >= 0) times[who].push(own);
    }
  }
  const [a, b] = [median(times.ours), median(times.theirs)];
  return { ours: a, peer: b, peerName, unit: 'ms', ratio: a / b };
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** On a memory file system where there is one: a disk's write-back would be what is measured. */
async function scratch(use) {
  const folder = mkdtempSync('/dev/shm/iso-bench-');
  try {
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** 20,000 files of the sizes that a distribution has. */
function makeFiles(folder) {
  const body = Buffer.alloc(200_000, 'the quick brown fox ');
  for (let i = 0; i < 20_000; i++) {
    if (i % 20 === 0) mkdirSync(`${folder}/d${i / 20}`, { recursive: true });
    const size = i % 100 === 0 ? 200_000 : (i * 7919) % 24_000;
    writeFileSync(`${folder}/d${Math.floor(i / 20)}/file-${i}`, body.subarray(0, size), {
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
    const ours = () => into((out) => unpackLayer(`${folder}/a.tar`, out));
    const theirs = () =>
      into((out) => execFileSync('tar', ['--xattrs', '--xattrs-include=*', '-xpf', `${folder}/a.tar`, '-C', out]));
    return await compare(rounds, ours, theirs, 'GNU tar -x; ours with both digests');
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

async function overlay400(rounds = 20) {
  if (process.getuid() !== 0) return unavailable('the limit of the design (needs root)');
  return await scratch(async (folder) => {
    const lower = Array.from({ length: 400 }, (_, i) => `${folder}/layer-${i}`);
    for (const path of [...lower, `${folder}/upper`, `${folder}/work`]) mkdirSync(path);
    const mount = () => openOverlay({ lower, upper: `${folder}/upper`, work: `${folder}/work` });
    const times = [];
    for (let i = -3; i < rounds; i++) {
      const start = performance.now();
      const fd = mount();
      if (i >= 0) times.push(performance.now() - start);
      fd.close();
    }
    return { ours: median(times), peer: 5, peerName: 'the limit of the design', unit: 'ms', ratio: median(times) / 5 };
  });
}

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
  { name: 'overlay-400-layers', target: 1, measure: overlay400 },
  { name: 'layer-diff', target: 0.02, measure: diff },
];
