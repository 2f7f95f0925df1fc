// One object a row: `measure()` runs ours and theirs in turn and returns medians in milliseconds.
import { execFileSync, spawn as nodeSpawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { run as runContainer } from '@iso/container';
import { namespaces } from '@iso/namespaces';
import { spawn } from '@iso/process';
import { defaultProfile, Profile } from '@iso/seccomp';
import { has } from '../test/machine.js';
import { rows as cgroups } from './cgroups.js';
import { options, startCrun } from './crun.js';
import { compare, inARow, median, unavailable } from './measure.js';
import { rows as netns } from './netns.js';
import { rows as network } from './network.js';
import { rows as unionfs } from './unionfs.js';

/** What one does in a row before it is the other's turn. */
const IN_A_ROW = 10;

async function spawnConfined(rounds = 40) {
  if (!has('gcc')) return unavailable('the same calls in C (gcc is missing)');
  const folder = mkdtempSync(join(tmpdir(), 'iso-bench-'));
  try {
    const binary = join(folder, 'baseline');
    execFileSync('gcc', ['-O2', '-o', binary, new URL('baseline.c', import.meta.url).pathname]);
    const part = namespaces({
      mount: 'new',
      pid: 'new',
      uts: { hostname: 'box' },
      ipc: 'new',
      net: 'new',
      cgroup: 'new',
    });
    // The C program times each itself: its own start is not part of it.
    const ours = () =>
      inARow(IN_A_ROW, async () => {
        const child = await spawn('/bin/true', [], { stdio: 'ignore', env: {}, confine: [part] });
        await child.exited;
      });
    const theirs = () =>
      median(
        execFileSync(binary, [String(IN_A_ROW)], { encoding: 'utf8' })
          .trim()
          .split('\n')
          .map(Number),
      );
    return await compare(rounds, ours, theirs, 'the same namespaces in C');
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function spawnPlain(rounds = 20) {
  const ours = async () => {
    const child = await spawn('/bin/true', [], { stdio: 'ignore' });
    await child.exited;
  };
  const theirs = () =>
    new Promise((resolve, reject) => {
      nodeSpawn('/bin/true', [], { stdio: 'ignore' })
        .on('exit', () => resolve())
        .on('error', reject);
    });
  return compare(
    rounds,
    () => inARow(IN_A_ROW, ours),
    () => inARow(IN_A_ROW, theirs),
    "Node's child_process.spawn",
  );
}

/** Beside crun, which is given the same container. */
async function besideCrun(rounds, profile, filter, lap) {
  if (process.getuid() !== 0 || !has('crun')) return unavailable('crun run (needs root and crun)');
  const peer = await startCrun(profile);
  const one = async () => {
    const box = await runContainer({ ...options, seccomp: profile ?? 'unconfined', command: ['/bin/true'] });
    await box.exited;
  };
  try {
    const [ours, theirs] = lap(one, peer);
    return await compare(rounds, ours, theirs, `${peer.name} run of the same container, ${filter}`);
  } finally {
    await peer.close();
  }
}

const oneByOne = (one, peer) => [() => inARow(IN_A_ROW, one), () => inARow(IN_A_ROW, () => peer.run(1, 1))];

function manyAtOnce(one, peer) {
  const [count, lanes] = [200, 16];
  const ours = async () => {
    let left = count;
    const lane = async () => {
      while (left-- > 0) await one();
    };
    await Promise.all(Array.from({ length: lanes }, lane));
  };
  return [ours, () => peer.run(count, lanes)];
}

/** Docker's default profile as Debian's podman hands it to crun: with the machine's other architectures, which ours refuses. */
const dockers = '/usr/share/containers/seccomp.json';
const withDockers = (rounds, lap) =>
  existsSync(dockers)
    ? besideCrun(rounds, Profile.read(dockers), "by docker's profile", lap)
    : unavailable(`crun run (${dockers} is missing)`);

async function rssPerContainer() {
  // So many that the slack of the heap, some MiB, is little to each.
  const count = 400;
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const rss = () => {
    gc();
    return process.memoryUsage().rss;
  };
  const start = () => runContainer({ root: '/', command: ['sleep', '600'], stdio: 'ignore' });
  const boxes = [];
  // The first ones grow the heap of JavaScript to the size that it keeps.
  for (let i = 0; i < 300; i++) boxes.push(await start());
  const before = rss();
  for (let i = 0; i < count; i++) boxes.push(await start());
  const each = Math.max(0, (rss() - before) / count / 1024);
  await Promise.all(boxes.map((box) => box[Symbol.asyncDispose]()));
  return { ours: each, peer: 64, peerName: 'the limit of the design', unit: 'KiB', ratio: each / 64 };
}

export const rows = [
  { name: 'spawn-confined', target: 1.15, measure: spawnConfined },
  { name: 'spawn-plain', target: 0.75, measure: spawnPlain },
  { name: 'container-run', target: 0.35, measure: (rounds = 10) => withDockers(rounds, oneByOne) },
  { name: 'container-run-200', target: 0.35, measure: (rounds = 3) => withDockers(rounds, manyAtOnce) },
  {
    name: 'container-run-native',
    target: 0.7,
    measure: (rounds = 10) => besideCrun(rounds, defaultProfile, 'by a filter for one architecture', oneByOne),
  },
  {
    name: 'container-run-unfiltered',
    target: 0.7,
    measure: (rounds = 10) => besideCrun(rounds, undefined, 'without a filter', oneByOne),
  },
  { name: 'rss-per-container', target: 1, measure: rssPerContainer },
  ...cgroups,
  ...netns,
  ...network,
  ...unionfs,
];
