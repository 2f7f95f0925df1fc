// Rows of networks: what a container pays for its own, in namespaces that play the host and the world outside.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { NetNS } from '@iso/netns';
import { BridgeNetwork, NameServer } from '@iso/netns/network';
import { has } from '../test/machine.js';
import { compare, timed, unavailable } from './measure.js';

const root = process.getuid() === 0;
const at = (ns) => `--net=/proc/${process.pid}/fd/${ns.fd.number}`;

/** Executes commands, one after the other, as a Node program without this package does; it times itself. */
function commandsFromNode(setup) {
  const program = `
    const { execFileSync } = require('node:child_process');
    const run = ([command, args, input]) => execFileSync(command, args, { input, stdio: ['pipe', 'ignore', 'inherit'] });
    execFileSync('mount', ['-t', 'tmpfs', 'run', '/run']);
    for (const command of ${JSON.stringify(setup)}) run(command);
    require('node:readline').createInterface({ input: process.stdin }).on('line', (line) => {
      const { measured, after } = JSON.parse(line);
      const start = performance.now();
      for (const command of measured) run(command);
      const took = performance.now() - start;
      for (const command of after) run(command);
      console.log(took);
    });`;
  const child = spawn('unshare', ['-mn', process.execPath, '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8');
  return {
    time: async (measured, after) => {
      child.stdin.write(`${JSON.stringify({ measured, after })}\n`);
      return Number((await once(child.stdout, 'data'))[0]);
    },
    close: () => new Promise((resolve) => child.once('exit', resolve).stdin.end()),
  };
}

const ip = (text) => ['ip', text.split(' ')];

/** A namespace with a link, its addresses and its way out, in a network. */
async function attach(rounds = 40) {
  const peerName = 'eight ip commands, executed from Node';
  if (!root || !has('ip')) return unavailable(peerName);
  const host = NetNS.create();
  const network = BridgeNetwork.create({ name: 'bench', host, subnets: ['10.50.0.0/16'] });
  const peer = commandsFromNode(
    ['link add br0 type bridge', 'addr add 10.50.0.1/16 dev br0', 'link set br0 up'].map(ip),
  );
  const ours = async () => {
    let box;
    const took = await timed(async () => {
      box = await NetNS.createAsync();
      await network.attach(box);
    });
    for (const endpoint of [...network.endpoints]) await endpoint.detach();
    box.close();
    return took;
  };
  const theirs = () =>
    peer.time(
      [
        'netns add b',
        'link add v0 type veth peer name eth0 netns b',
        'link set v0 master br0',
        'link set v0 up',
        '-n b link set lo up',
        '-n b addr add 10.50.0.2/16 dev eth0',
        '-n b link set eth0 up',
        '-n b route add default via 10.50.0.1',
      ].map(ip),
      ['link del v0', 'netns del b'].map(ip),
    );
  try {
    return await compare(rounds, ours, theirs, peerName);
  } finally {
    await peer.close();
    network.close();
    host.close();
  }
}

/** A port, really taken, and translated by the kernel. */
async function publish(rounds = 40) {
  const peerName = 'an element of a map, by nft, executed from Node';
  if (!root || !has('nft')) return unavailable(peerName);
  const host = NetNS.create();
  const box = NetNS.create();
  const network = BridgeNetwork.create({ name: 'bench', host, subnets: ['10.50.0.0/16'] });
  const endpoint = await network.attach(box);
  const map = 'ip bench ports';
  const peer = commandsFromNode([
    ['nft', ['add table ip bench']],
    ['nft', [`add map ${map} { type inet_proto . inet_service : ipv4_addr . inet_service; }`]],
  ]);
  const ours = async () => {
    let publication;
    const took = await timed(async () => {
      publication = await endpoint.publish({ port: 80, host: '0.0.0.0', mode: 'nat' });
    });
    await publication.close();
    return took;
  };
  const theirs = () =>
    peer.time(
      [['nft', [`add element ${map} { tcp . 8080 : 10.50.0.2 . 80 }`]]],
      [['nft', [`delete element ${map} { tcp . 8080 }`]]],
    );
  try {
    return await compare(rounds, ours, theirs, peerName);
  } finally {
    await peer.close();
    network.close();
    for (const ns of [host, box]) ns.close();
  }
}

const MUCH = '256M';
const PORT = 5201;

/** Milliseconds for much data, from one namespace to another. */
async function transfer(from, to, address, port) {
  const server = spawn('nsenter', [at(to), 'iperf3', '-s', '-1', '-p', PORT, '--forceflush'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(server.stdout, 'data');
  const gone = once(server, 'exit');
  const { stdout } = await new Promise((resolve, reject) =>
    execFile('nsenter', [at(from), 'iperf3', '-c', address, '-p', port, '-n', MUCH, '-J'], (error, stdout) =>
      error ? reject(new Error(stdout || error.message)) : resolve({ stdout }),
    ),
  );
  await gone;
  return JSON.parse(stdout).end.sum_received.seconds * 1000;
}

/** From a machine outside to a box, by its published port and by a route to it. */
async function published(mode, rounds) {
  const peerName = `${MUCH}iB to a box that is routed to, without rules, by iperf3`;
  if (!root || !has('iperf3')) return unavailable(peerName);
  const [host, outside, box, plain] = Array.from({ length: 4 }, () => NetNS.create());
  host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
  outside.rtnl.links.set('eth0', { up: true });
  host.rtnl.addresses.create({ link: 'up0', address: '192.0.2.1/24' });
  outside.rtnl.addresses.create({ link: 'eth0', address: '192.0.2.2/24' });
  outside.rtnl.routes.create({ dst: '10.60.0.0/24', gateway: '192.0.2.1' });
  host.rtnl.links.create({ kind: 'bridge', name: 'plain', up: true });
  host.rtnl.addresses.create({ link: 'plain', address: '10.60.0.1/24' });
  host.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, master: 'plain', peer: { name: 'eth0', netns: plain } });
  plain.rtnl.links.set('eth0', { up: true });
  plain.rtnl.addresses.create({ link: 'eth0', address: '10.60.0.2/24' });
  plain.rtnl.routes.create({ dst: 'default', gateway: '10.60.0.1' });
  const network = BridgeNetwork.create({ name: 'bench', host, subnets: ['10.50.0.0/24'] });
  const publication = await (await network.attach(box)).publish({ port: PORT, host: '0.0.0.0', mode });
  try {
    return await compare(
      rounds,
      () => transfer(outside, box, '192.0.2.1', publication.hostPort),
      () => transfer(outside, plain, '10.60.0.2', PORT),
      peerName,
    );
  } finally {
    await publication.close();
    network.close();
    for (const ns of [host, outside, box, plain]) ns.close();
  }
}

const QUESTIONS = 5000;

/** Asks for one name again and again, with 32 questions on their way; tells how long it took. */
const asker = `
  const socket = require('node:dgram').createSocket('udp4');
  const question = Buffer.from('000001000001000000000000' + '03776562' + '00' + '00010001', 'hex');
  let sent = 0, got = 0;
  const next = () => {
    if (sent >= ${QUESTIONS}) return;
    question.writeUInt16BE(sent++ & 0xffff, 0);
    socket.send(Buffer.from(question), 53, process.argv[1]);
  };
  const start = performance.now();
  socket.on('message', (bytes) => {
    if (bytes.readUInt16BE(6) !== 1) throw new Error('no address');
    if (++got < ${QUESTIONS}) return next();
    console.log(performance.now() - start);
    socket.close();
  });
  for (let i = 0; i < 32; i++) next();
  setTimeout(() => { throw new Error(got + ' answers'); }, 30000).unref();`;

/** The names of a network. */
async function names(rounds = 10) {
  const peerName = `dnsmasq, ${QUESTIONS} questions, 32 at a time`;
  if (!root || !has('dnsmasq')) return unavailable(peerName);
  const host = NetNS.create();
  const box = NetNS.create();
  const network = BridgeNetwork.create({ name: 'bench', host, subnets: ['10.50.0.0/24'] });
  await network.attach(box, { names: ['web'] });
  const server = await NameServer.start({ netns: box, networks: [network] });
  const options = ['-k', '-C', '/dev/null', '-R', '-h', '-x', '', '--listen-address=127.0.0.12', '--bind-interfaces'];
  const theirs = spawn('nsenter', [at(box), 'dnsmasq', ...options, '--user=root', '--host-record=web,10.50.0.2'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const ask = (address) =>
    new Promise((resolve, reject) =>
      execFile('nsenter', [at(box), process.execPath, '-e', asker, address], (error, stdout) =>
        error ? reject(error) : resolve(Number(stdout)),
      ),
    );
  try {
    await new Promise((resolve) => setTimeout(resolve, 300));
    return await compare(
      rounds,
      () => ask(server.address),
      () => ask('127.0.0.12'),
      peerName,
    );
  } finally {
    const gone = once(theirs, 'exit');
    theirs.kill();
    await gone;
    await server.close();
    network.close();
    for (const ns of [host, box]) ns.close();
  }
}

export const rows = [
  { name: 'network-attach', target: 0.2, measure: attach },
  { name: 'network-publish', target: 0.6, measure: publish },
  { name: 'network-nat', target: 1.5, measure: (rounds = 10) => published('nat', rounds) },
  { name: 'network-proxy', target: 5, measure: (rounds = 10) => published('proxy', rounds) },
  { name: 'network-names', target: 3, measure: names },
];
