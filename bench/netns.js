// Rows of @iso/netns: `ip` works on namespaces of its own, in a mount namespace of its own.
import { spawn, spawnSync } from 'node:child_process';
import { NetNS } from '@iso/netns';
import { has } from '../test/machine.js';
import { compare, inARow, timed, unavailable } from './measure.js';

const ready = process.getuid() === 0 && has('ip');

/** A Node program that does what one does without this package: it executes `ip`. It times itself. */
const program = `
  const { execFileSync } = require('node:child_process');
  const ip = ([args, input]) => execFileSync('ip', args, { input, stdio: ['pipe', 'ignore', 'inherit'] });
  execFileSync('mount', ['-t', 'tmpfs', 'run', '/run']);
  for (const name of ['a', 'b']) {
    ip([['netns', 'add', name]]);
    ip([['-n', name, 'link', 'set', 'lo', 'up']]);
  }
  require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const start = performance.now();
    for (const command of JSON.parse(line)) ip(command);
    const took = performance.now() - start;
    ip([['-n', 'a', 'link', 'del', 'v0']]);
    console.log(took);
  });`;

function ipFromNode() {
  const child = spawn('unshare', ['-mn', process.execPath, '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8');
  return {
    time: (commands) =>
      new Promise((resolve) => {
        child.stdout.once('data', (text) => resolve(Number(text)));
        child.stdin.write(`${JSON.stringify(commands)}\n`);
      }),
    close: () => new Promise((resolve) => child.once('exit', resolve).stdin.end()),
  };
}

const commands = {
  a: ['link add v0 type veth peer name v1 netns b', 'addr add 10.0.0.1/24 dev v0', 'link set v0 up'],
  b: ['addr add 10.0.0.2/24 dev v1', 'link set v1 up', 'route add default via 10.0.0.1'],
};

async function veth(rounds, peerName, theirs) {
  if (!ready) return unavailable(peerName);
  const a = NetNS.create();
  const b = NetNS.create();
  const peer = ipFromNode();
  const ours = () => {
    const start = performance.now();
    a.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', netns: b } });
    b.rtnl.links.set('v1', { up: true });
    a.rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/24' });
    b.rtnl.addresses.create({ link: 'v1', address: '10.0.0.2/24' });
    b.rtnl.routes.create({ dst: 'default', gateway: '10.0.0.1' });
    const took = performance.now() - start;
    a.rtnl.links.remove('v0');
    return took;
  };
  try {
    return await compare(
      rounds,
      () => inARow(3, ours),
      () => inARow(3, () => peer.time(theirs)),
      peerName,
    );
  } finally {
    await peer.close();
    a.close();
    b.close();
  }
}

const vethByCommands = (rounds = 40) =>
  veth(
    rounds,
    'six ip commands, executed from Node',
    ['a', 'b'].flatMap((ns) => commands[ns].map((command) => [['-n', ns, ...command.split(' ')]])),
  );

const vethByBatch = (rounds = 40) =>
  veth(
    rounds,
    'ip -batch, one for each namespace, executed from Node',
    ['a', 'b'].map((ns) => [['-n', ns, '-batch', '-'], `${commands[ns].join('\n')}\n`]),
  );

/** The same namespace, read by both. */
async function dump(rounds, fill, ours, args) {
  const peerName = `ip ${args} and JSON.parse`;
  if (!ready) return unavailable(peerName);
  const ns = NetNS.create();
  try {
    fill(ns.rtnl);
    const net = `--net=/proc/${process.pid}/fd/${ns.fd.number}`;
    // Entering the namespace is not part of it.
    const run = (command) => spawnSync('nsenter', [net, ...command], { maxBuffer: 2 ** 28, encoding: 'utf8' }).stdout;
    const theirs = async () =>
      (await timed(() => void JSON.parse(run(['ip', ...args.split(' ')])))) - (await timed(() => void run(['true'])));
    return await compare(
      rounds,
      () => inARow(5, () => void ours(ns.rtnl)),
      () => inARow(3, theirs),
      peerName,
    );
  } finally {
    ns.close();
  }
}

const routeDump = (rounds = 20) =>
  dump(
    rounds,
    (rtnl) => {
      rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
      rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/16' });
      const link = rtnl.links.index('v0');
      rtnl.batch(() => {
        for (let i = 0; i < 10_000; i++)
          rtnl.routes.create({ dst: `11.0.${i >> 8}.${i & 255}`, gateway: '10.0.0.2', link, metric: i });
      });
    },
    (rtnl) => rtnl.routes.list({ family: 4, table: 'main' }),
    '-j -4 route',
  );

const linkDump = (rounds = 20) =>
  dump(
    rounds,
    (rtnl) => {
      rtnl.batch(() => {
        for (let i = 0; i < 500; i++) rtnl.links.create({ kind: 'veth', name: `v${i}`, peer: { name: `w${i}` } });
      });
    },
    (rtnl) => rtnl.links.list({ stats: true }),
    '-j -s -d link',
  );

export const rows = [
  { name: 'netns-veth', target: 0.06, measure: vethByCommands },
  { name: 'netns-veth-batch', target: 0.2, measure: vethByBatch },
  { name: 'netns-route-dump', target: 0.1, measure: routeDump },
  { name: 'netns-link-dump', target: 0.35, measure: linkDump },
];
