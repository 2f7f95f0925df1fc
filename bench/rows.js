// One object a row: `measure()` runs ours and theirs in turn and returns medians in milliseconds.
import { execFileSync, spawn as nodeSpawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { run as runContainer } from '@iso/container';
import { namespaces } from '@iso/namespaces';
import { spawn } from '@iso/process';
import { has } from '../test/machine.js';
import { rows as cgroups } from './cgroups.js';
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

async function containerRun(rounds = 10) {
  if (process.getuid() !== 0 || !has('crun')) return unavailable('crun run (needs root and crun)');
  const peer = await startCrun();
  try {
    const ours = async () => {
      const box = await runContainer({
        root: '/',
        command: ['/bin/true'],
        stdio: 'ignore',
        memory: 256 * 2 ** 20,
        pidsLimit: 64,
      });
      await box.exited;
    };
    return await compare(
      rounds,
      () => inARow(IN_A_ROW, ours),
      () => inARow(IN_A_ROW, () => peer.run(1, 1)),
      'crun run',
    );
  } finally {
    await peer.close();
  }
}

async function containerRun200(rounds = 3) {
  if (process.getuid() !== 0 || !has('crun')) return unavailable('crun run (needs root and crun)');
  const peer = await startCrun();
  try {
    const ours = async () => {
      let left = 200;
      const lane = async () => {
        while (left-- > 0) {
          const box = await runContainer({
            root: '/',
            command: ['/bin/true'],
            stdio: 'ignore',
            memory: 256 * 2 ** 20,
            pidsLimit: 64,
          });
          await box.exited;
        }
      };
      await Promise.all(Array.from({ length: 16 }, lane));
    };
    return await compare(rounds, ours, () => peer.run(200, 16), 'crun run');
  } finally {
    await peer.close();
  }
}

/**
 * crun in a mount namespace of its own, without the v2 tree of a hybrid layout, on an overlay of the host's root that is
 * mounted once (ours mounts one for each container). bash times it without starting anything else for a single run.
 */
async function startCrun() {
  const folder = mkdtempSync(join(tmpdir(), 'iso-bench-'));
  execFileSync('crun', ['spec'], { cwd: folder });
  const file = join(folder, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8'));
  config.process.args = ['/bin/true'];
  config.process.terminal = false;
  config.root = { path: 'rootfs', readonly: false };
  config.linux.resources = { memory: { limit: 256 * 2 ** 20 }, pids: { limit: 64 } };
  writeFileSync(file, JSON.stringify(config));
  const script = `
    mkdir -p t rootfs && mount -t tmpfs t t && mkdir t/upper t/work
    umount /sys/fs/cgroup/unified 2>/dev/null
    mount -t overlay o -o lowerdir=/,upperdir=t/upper,workdir=t/work rootfs
    run='crun --root ${folder}/state run --bundle ${folder}'
    n=0
    while read count lanes; do
      n=$((n+1)) begin=\${EPOCHREALTIME/[.,]/}
      if [ $count = 1 ]; then $run iso-bench-$n </dev/null >/dev/null
      else seq $count | xargs -P $lanes -I% $run iso-bench-$n-% >/dev/null; fi
      echo $(( \${EPOCHREALTIME/[.,]/} - begin ))
    done`;
  const shell = nodeSpawn('unshare', ['-m', 'bash', '-c', script], { cwd: folder, stdio: ['pipe', 'pipe', 'inherit'] });
  shell.stdout.setEncoding('utf8');
  const ended = new Promise((resolve) => shell.on('exit', resolve));
  return {
    run: (count, lanes) => {
      const done = new Promise((resolve) => shell.stdout.once('data', (text) => resolve(Number(text) / 1e3)));
      shell.stdin.write(`${count} ${lanes}\n`);
      return Promise.race([done, ended.then(() => Promise.reject(new Error('the shell around crun has ended')))]);
    },
    close: async () => {
      shell.stdin.end();
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

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
  { name: 'container-run', target: 0.35, measure: containerRun },
  { name: 'container-run-200', target: 0.35, measure: containerRun200 },
  { name: 'rss-per-container', target: 1, measure: rssPerContainer },
  ...cgroups,
  ...netns,
  ...network,
  ...unionfs,
];
