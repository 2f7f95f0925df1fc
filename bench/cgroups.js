// Rows on cgroups: ours beside libcontainer's Go code as Debian packages its sources, and beside C that does as little as can be.
import { execFileSync, spawn as nodeSpawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Cgroup, detect } from '@iso/cgroups';
import { spawn } from '@iso/process';
import { has } from '../test/machine.js';
import { compare, median, together, unavailable } from './measure.js';

const gopath = '/usr/share/gocode';
const libcontainer = `${gopath}/src/github.com/opencontainers/runc/libcontainer/cgroups`;
const source = (name) => new URL(`cgroups/${name}`, import.meta.url).pathname;
const parent = `iso-bench-${process.pid}`;

/** A program that answers a line with numbers. */
function asking(binary, args) {
  const child = nodeSpawn(binary, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8');
  const told = () =>
    new Promise((resolve, reject) => {
      const gone = (code) => reject(new Error(`${binary} ended with ${code}`));
      child.once('exit', gone);
      child.stdout.once('data', (text) => {
        child.off('exit', gone);
        resolve(text.split(' ').map(Number));
      });
    });
  return {
    told,
    ask: (line) => {
      child.stdin.write(`${line}\n`);
      return told();
    },
    close: () => child.kill(),
  };
}

/** The group's directories as libcontainer names them. */
function directoriesOf(group) {
  if (detect().kind === 'unified') return [`unified=${group.path()}`];
  const v1 = ['cpu', 'cpuacct', 'memory', 'pids', 'io'];
  return v1.map((name) => `${name === 'io' ? 'blkio' : name}=${group.path(name)}`);
}

const go = {
  missing: () => (has('go') && existsSync(libcontainer) ? undefined : 'needs its Debian packages'),
  build(folder) {
    const binary = join(folder, 'peer');
    const env = {
      ...process.env,
      GO111MODULE: 'off',
      GOPATH: gopath,
      CGO_ENABLED: '0',
      GOCACHE: join(folder, 'cache'),
    };
    execFileSync('go', ['build', '-o', binary, source('peer.go')], { env, stdio: 'inherit' });
    return binary;
  },
};

const c = (name) => ({
  missing: () => (has('gcc') ? undefined : 'gcc is missing'),
  build(folder) {
    const binary = join(folder, 'peer');
    execFileSync('gcc', ['-O2', '-o', binary, source(name)]);
    return binary;
  },
});

/** Builds the peer, makes a group and removes both. */
async function withPeer(peer, peerName, work) {
  const missing = process.getuid() === 0 ? peer.missing() : 'needs root';
  if (missing) return unavailable(`${peerName} (${missing})`);
  const folder = mkdtempSync(join(tmpdir(), 'iso-bench-'));
  const group = await Cgroup.create('peer', { parent });
  try {
    return await work(group, peer.build(folder));
  } finally {
    await group[Symbol.asyncDispose]();
    for (const { mount } of detect().hierarchies) {
      if (existsSync(`${mount}/${parent}`)) execFileSync('rmdir', [`${mount}/${parent}`]);
    }
    rmSync(folder, { recursive: true });
  }
}

/** Ours beside a program that is told how often, and answers with nanoseconds. */
async function beside(rounds, count, ours, binary, args, line, peerName) {
  const peer = asking(binary, args);
  try {
    const theirs = async () => (await peer.ask(`${line}${count}`))[0] / 1e6;
    return await compare(rounds, () => together(count, ours), theirs, peerName);
  } finally {
    peer.close();
  }
}

const parts = { only: ['cpu', 'memory', 'pids', 'io'] };

const stats = (rounds = 20, peerName = "Go libcontainer's GetStats") =>
  withPeer(go, peerName, (group, binary) =>
    beside(rounds, 300, () => group.stats(parts), binary, directoriesOf(group), 'stats ', peerName),
  );

/** The very files that our statistics keep open, read by C without looking at what they say. */
const statsInC = (mode, peerName, rounds = 20) =>
  withPeer(c('read.c'), peerName, (group, binary) => {
    group.stats(parts);
    const files = readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        const path = readlinkSync(`/proc/self/fd/${fd}`);
        return path.includes(`${parent}/`) && /\.[a-z_.]+$/.test(path.split('/').pop()) ? [path] : [];
      } catch {
        return [];
      }
    });
    return beside(rounds, 300, () => group.stats(parts), binary, files, `${mode} `, peerName);
  });

const limits = {
  memory: { max: 64 * 2 ** 20, swap: { max: 0 } },
  pids: { max: 64 },
  cpu: { max: { quotaUs: 50_000, periodUs: 100_000 }, weight: 59 },
};

async function createAndRemove(i) {
  const job = await Cgroup.create(`ours-${i}`, { parent, limits });
  await job.remove();
}

const create = (rounds = 10, peerName = 'Go libcontainer: the same') =>
  withPeer(go, peerName, (group, binary) =>
    beside(rounds, 50, createAndRemove, binary, directoriesOf(group), 'create ', peerName),
  );

const createInC = (rounds = 10, peerName = 'the same directories and writes in C, none read back') =>
  withPeer(c('create.c'), peerName, (group, binary) => {
    const beside_ = (path) => path.replace(/[^/]+$/, 'c');
    const { hierarchies } = detect();
    const places = hierarchies
      .map(({ mount }) => `${mount}/${parent}/${group.name}`)
      .filter((path) => existsSync(path));
    const writes = group
      .plan(limits)
      .map(({ controller, file, value }) => `${beside_(group.path(controller))}/${file}=${value}`);
    return beside(rounds, 50, createAndRemove, binary, [...places.map(beside_), ...writes], '', peerName);
  });

const spawnInC = (rounds = 20, peerName = 'the same calls in C') =>
  withPeer(c('spawn.c'), peerName, (group, binary) => {
    const { hierarchies, unified } = detect();
    const v1 = hierarchies
      .filter(({ version }) => version === 1)
      .map(({ mount }) => `${mount}/${parent}/${group.name}/tasks`)
      .filter((path) => existsSync(path));
    const ours = async () => {
      const child = await spawn('/bin/true', [], { stdio: 'ignore', env: {}, confine: [group] });
      await child.exited;
    };
    return beside(rounds, 10, ours, binary, [unified === undefined ? '-' : group.path(), ...v1], '', peerName);
  });

const spawnThenMove = (rounds = 10, peerName = 'Go libcontainer: started, then moved by Apply') =>
  withPeer(go, peerName, (group, binary) => {
    // The peer's program must stay until it was moved.
    const ours = async () => {
      const child = await spawn('/bin/cat', [], { stdio: 'ignore', env: {}, confine: [group] });
      await child.exited;
    };
    return beside(rounds, 10, ours, binary, directoriesOf(group), 'spawn ', peerName);
  });

/** As many as the program has. */
const GROUPS = 32;

/**
 * From a cause until it is told of, beside a loop of poll(2): in many groups one after the other, so that who waits is not woken from
 * a long sleep, in which the processor forgets everything. The median of a round.
 *
 * @param type - the event, which is the name of a line of cgroup.events, too
 * @param order - what the program is told that is the cause, of the groups' path without their number, and of the round
 * @param value - the one that is awaited; of none, each
 */
const latency = (type, order, value, rounds = 64, peerName = 'a loop of poll(2) in C') =>
  withPeer(c('events.c'), peerName, async (_, binary) => {
    if (detect().unified === undefined) return unavailable(`${peerName} (v1 alone has no such events)`);
    // Names of groups end in what tells ours from others': the programs know them by links.
    const pathOf = (who) => join(dirname(binary), who);
    const make = (who) =>
      Promise.all(
        Array.from({ length: GROUPS }, async (_, i) => {
          const one = await Cgroup.create(`${who}-${i}`, { parent, controllers: [] });
          symlinkSync(one.path(), `${pathOf(who)}${i}`);
          return one;
        }),
      );
    const [groups, others] = [await make('ours'), await make('theirs')];
    const cause = asking(binary, []);
    const watcher = asking(binary, ['watch', pathOf('theirs'), type, ...(value ? [value] : [])]);
    const feeds = groups.map((one) => one.events({ types: [type] }));
    let told = () => {};
    const times = new Map();
    const listening = feeds.map(async (feed, i) => {
      for await (const event of feed) {
        if (value && event[type] !== (value === '1')) continue;
        times.set(i, Number(process.hrtime.bigint()));
        if (times.size === GROUPS) told(groups.map((_, place) => times.get(place)));
      }
    });
    const ours = () =>
      new Promise((resolve) => {
        times.clear();
        told = resolve;
      });
    const measured = (path, waiting) => {
      let round = 0;
      return async () => {
        const seen = waiting();
        const began = await cause.ask(order(path, ++round));
        return median((await seen).map((time, i) => (time - began[i]) / 1e6));
      };
    };
    try {
      return await compare(rounds, measured(pathOf('ours'), ours), measured(pathOf('theirs'), watcher.told), peerName);
    } finally {
      await Promise.all(feeds.map((feed) => feed.return()));
      await Promise.all(listening);
      cause.close();
      watcher.close();
      await Promise.all([...groups, ...others].map((one) => one.remove()));
    }
  });

/** The last process of a group ends; the time is its own. */
const eventLatency = (rounds) => latency('populated', (path) => `leave ${path}`, '0', rounds);

/** As little as can be between cause and event: a write that freezes or thaws a group where nothing lives. */
const writeLatency = (rounds) => latency('frozen', (path, round) => `freeze ${path} ${round % 2}`, undefined, rounds);

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
  { name: 'cgroup-create-c', target: 3, measure: createInC },
  { name: 'cgroup-spawn', target: 0.5, measure: spawnThenMove },
  { name: 'cgroup-spawn-c', target: 1.15, measure: spawnInC },
  { name: 'cgroup-event', target: 1.5, measure: eventLatency },
  { name: 'cgroup-event-write', target: 2.5, measure: writeLatency },
];
