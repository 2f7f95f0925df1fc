// Rows on cgroups: ours beside libcontainer's Go code as Debian packages its sources, and beside C that only reads.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cgroup, detect } from '@iso/cgroups';
import { has } from '../test/machine.js';
import { median, unavailable } from './measure.js';

const gopath = '/usr/share/gocode';
const libcontainer = `${gopath}/src/github.com/opencontainers/runc/libcontainer/cgroups`;
const source = (name) => new URL(`cgroups/${name}`, import.meta.url).pathname;
const parent = `iso-bench-${process.pid}`;

/** Ours, theirs, theirs, ours, …: a drift of the machine meets both. Milliseconds of one piece of work. */
async function compare(rounds, count, ours, theirs, peerName) {
  const times = { ours: [], theirs: [] };
  const measure = {
    ours: async () => {
      const start = performance.now();
      for (let i = 0; i < count; i++) await ours(i);
      return (performance.now() - start) / count;
    },
    theirs: async () => (await theirs(count)) / 1e6,
  };
  for (let round = -2; round < rounds; round++) {
    for (const who of round % 2 ? ['theirs', 'ours'] : ['ours', 'theirs']) {
      const time = await measure[who]();
      if (round >= 0) times[who].push(time);
    }
  }
  const result = { ours: median(times.ours), peer: median(times.theirs) };
  return { ...result, peerName, unit: 'ms', ratio: result.ours / result.peer };
}

/** A program that answers a line with a number. */
function asking(binary, args) {
  const child = spawn(binary, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8');
  return {
    ask: (line) =>
      new Promise((resolve, reject) => {
        const gone = (code) => reject(new Error(`${binary} ended with ${code}`));
        child.once('exit', gone);
        child.stdout.once('data', (text) => {
          child.off('exit', gone);
          resolve(Number(text));
        });
        child.stdin.write(`${line}\n`);
      }),
    close: () => child.kill(),
  };
}

/** The group's directories as libcontainer names them. */
function directoriesOf(group) {
  if (detect().kind === 'unified') return [`unified=${group.path()}`];
  const v1 = ['cpu', 'cpuacct', 'memory', 'pids', 'io'];
  return v1.map((name) => `${name === 'io' ? 'blkio' : name}=${group.path(name)}`);
}

async function withPeer(build, work, peerName) {
  if (process.getuid() !== 0) return unavailable(`${peerName} (needs root)`);
  const folder = mkdtempSync(join(tmpdir(), 'iso-bench-'));
  const group = await Cgroup.create('peer', { parent });
  try {
    return await work(build(folder), group);
  } finally {
    await group[Symbol.asyncDispose]();
    for (const { mount } of detect().hierarchies) {
      if (existsSync(`${mount}/${parent}`)) execFileSync('rmdir', [`${mount}/${parent}`]);
    }
    rmSync(folder, { recursive: true });
  }
}

function buildGo(folder) {
  const binary = join(folder, 'peer');
  const env = { ...process.env, GO111MODULE: 'off', GOPATH: gopath, CGO_ENABLED: '0', GOCACHE: join(folder, 'cache') };
  execFileSync('go', ['build', '-o', binary, source('peer.go')], { env, stdio: 'inherit' });
  return binary;
}

function buildC(folder) {
  const binary = join(folder, 'peer');
  execFileSync('gcc', ['-O2', '-o', binary, source('peer.c')]);
  return binary;
}

const goName = "Go libcontainer's GetStats";

async function stats(rounds = 20) {
  if (!has('go') || !existsSync(libcontainer)) return unavailable(`${goName} (needs its Debian packages)`);
  return withPeer(
    buildGo,
    async (binary, group) => {
      const peer = asking(binary, directoriesOf(group));
      const parts = { only: ['cpu', 'memory', 'pids', 'io'] };
      try {
        return await compare(
          rounds,
          300,
          () => group.stats(parts),
          (count) => peer.ask(`stats ${count}`),
          goName,
        );
      } finally {
        peer.close();
      }
    },
    goName,
  );
}

/** The very files that our statistics keep open, read by C without looking at what they say. */
async function statsInC(mode, peerName, rounds = 20) {
  if (!has('gcc')) return unavailable(`${peerName} (gcc is missing)`);
  return withPeer(
    buildC,
    async (binary, group) => {
      const parts = { only: ['cpu', 'memory', 'pids', 'io'] };
      group.stats(parts);
      const files = readdirSync('/proc/self/fd').flatMap((fd) => {
        try {
          const path = readlinkSync(`/proc/self/fd/${fd}`);
          return path.includes(`${parent}/`) && /\.[a-z_.]+$/.test(path.split('/').pop()) ? [path] : [];
        } catch {
          return [];
        }
      });
      const peer = asking(binary, files);
      try {
        return await compare(
          rounds,
          300,
          () => group.stats(parts),
          (count) => peer.ask(`${mode} ${count}`),
          peerName,
        );
      } finally {
        peer.close();
      }
    },
    peerName,
  );
}

async function create(rounds = 10) {
  const name = 'Go libcontainer: the same';
  if (!has('go') || !existsSync(libcontainer)) return unavailable(`${name} (needs its Debian packages)`);
  const limits = {
    memory: { max: 64 * 2 ** 20, swap: { max: 0 } },
    pids: { max: 64 },
    cpu: { max: { quotaUs: 50_000, periodUs: 100_000 }, weight: 59 },
  };
  return withPeer(
    buildGo,
    async (binary, group) => {
      const peer = asking(binary, directoriesOf(group));
      const ours = async (i) => {
        const job = await Cgroup.create(`ours-${i}`, { parent, limits });
        await job.remove();
      };
      try {
        return await compare(rounds, 50, ours, (count) => peer.ask(`create ${count}`), name);
      } finally {
        peer.close();
      }
    },
    name,
  );
}

export const rows = [
  { name: 'cgroup-stats', target: 0.3, measure: stats },
  {
    name: 'cgroup-stats-c-open',
    target: 1,
    measure: (rounds) => statsInC('o', 'the same files in C, opened each time', rounds),
  },
  {
    name: 'cgroup-stats-c',
    target: 3,
    measure: (rounds) => statsInC('c', 'the same files in C, kept open, unread', rounds),
  },
  { name: 'cgroup-create', target: 2, measure: create },
];
