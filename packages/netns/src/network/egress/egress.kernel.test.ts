import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetNS } from '../../index.js';
import { inside, root } from '../../testing/judge.js';
import { BridgeNetwork, type Endpoint, NameServer } from '../index.js';

const run = promisify(execFile);
const code = (name: string) => expect.objectContaining({ code: name });
/** What a connection that is not on the list ends with, on IPv4 and on IPv6. */
const REFUSED = ['EHOSTUNREACH', 'EACCES'];

/** What a client got: what the server said, or how it failed. */
function reach(from: NetNS, host: string, port: number, source?: string, patience = 10_000): Promise<string> {
  return new Promise((resolve) => {
    const socket = from.connect({ host, port, ...(source !== undefined && { localAddress: source }) });
    const finish = (outcome: string) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(REFUSED.includes(outcome) ? 'refused' : outcome);
    };
    const timer = setTimeout(() => finish('lost'), patience);
    socket.on('error', ({ code }: NodeJS.ErrnoException) => finish(`${code}`));
    socket.on('data', (said) => finish(String(said)));
    socket.on('end', () => finish('closed'));
  });
}

describe.skipIf(!root)('ways out that are kept to a list [needs root]', () => {
  const names = ['host', 'outside', 'box', 'neighbour', 'stranger'] as const;
  let world: Record<(typeof names)[number], NetNS>;
  let servers: Server[];
  let network: BridgeNetwork;
  let other: BridgeNetwork;
  let endpoint: Endpoint;

  beforeEach(async () => {
    world = Object.fromEntries(names.map((name) => [name, NetNS.create()])) as typeof world;
    servers = [];
    const { host, outside, box, neighbour, stranger } = world;
    host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
    outside.rtnl.links.set('eth0', { up: true });
    for (const [ns, link, addresses] of [
      [host, 'up0', ['192.0.2.1/24', '2001:db8::1/64']],
      [outside, 'eth0', ['192.0.2.2/24', '192.0.2.3/24', '2001:db8::2/64', '2001:db8::3/64']],
    ] as const)
      for (const address of addresses)
        ns.rtnl.addresses.create({ link, address, ...(address.includes(':') && { flags: ['nodad'] as const }) });
    outside.rtnl.routes.create({ dst: '10.50.0.0/16', gateway: '192.0.2.1' });
    network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24', 'fd00:50::/64'] });
    other = BridgeNetwork.create({ name: 'other', host, subnets: ['10.50.9.0/24'] });
    endpoint = await network.attach(box);
    await network.attach(neighbour, { names: ['db'] });
    await other.attach(stranger);
    for (const [ns, ports] of [
      [outside, [80, 81, 443]],
      [host, [9000]],
      [box, [80]],
      [neighbour, [80]],
      [stranger, [80]],
    ] as const)
      for (const port of ports) servers.push(ns.listen({ port }, (socket: Socket) => greet(socket)));
  });
  afterEach(async () => {
    await Promise.all(servers.map(stop));
    other.close();
    network.close();
    for (const name of names) world[name].close();
  });

  const connections = new Set<Socket>();
  /** Who was cut off does not hang up. */
  async function stop(server: Server) {
    const closed = once(server, 'close');
    server.close();
    for (const connection of connections) connection.destroy();
    await closed;
  }

  /** Greets, and says what it is told. */
  function greet(socket: Socket) {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
    socket.on('error', () => socket.destroy());
    socket.write('hello');
    socket.on('data', (said) => socket.write(said));
    socket.on('end', () => socket.end());
  }

  it.each(existsSync('/proc/sys/net/bridge') ? ['0', '1'] : ['absent'])(
    'by address and port, with bridge-nf-call-iptables %s',
    async (value) => {
      const { host, outside, box, neighbour } = world;
      if (value !== 'absent')
        for (const of of ['iptables', 'ip6tables']) host.sysctl.set(`net.bridge.bridge-nf-call-${of}`, value);
      const list = await endpoint.egress({ allow: ['192.0.2.2:80/tcp', '[2001:db8::2]:80-81/tcp'] });
      const heard: string[] = [];
      const ear = outside.datagram({ host: '::', port: 53 });
      ear.on('message', (said) => heard.push(String(said)));
      const shout = box.datagram({ host: '0.0.0.0' });
      shout.on('error', () => {});
      shout.send('smuggled', 53, '192.0.2.2');
      await using published = await endpoint.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat' });
      await using proxied = await endpoint.publish({ port: 80, hostPort: 8081, host: '0.0.0.0' });
      const ways = {
        'on the list': [box, '192.0.2.2', 80],
        'on the list, IPv6': [box, '2001:db8::2', 80],
        'on the list, IPv6, last of a range': [box, '2001:db8::2', 81],
        'another port': [box, '192.0.2.2', 81],
        'another port, IPv6': [box, '2001:db8::2', 443],
        'another machine': [box, '192.0.2.3', 80],
        'another machine, IPv6': [box, '2001:db8::3', 80],
        'the host': [box, '192.0.2.1', 9000],
        'the host, IPv6': [box, '2001:db8::1', 9000],
        'the gateway': [box, '10.50.0.1', 9000],
        'the gateway, IPv6': [box, 'fd00:50::1', 9000],
        'a box of another network': [box, '10.50.9.2', 80],
        'a neighbour': [box, '10.50.0.3', 80],
        'a neighbour, IPv6': [box, 'fd00:50::3', 80],
        'a neighbour on its own way out': [neighbour, '192.0.2.3', 80],
        'who comes from outside, by translation': [outside, '192.0.2.1', published.hostPort],
        'who comes from outside, by proxy': [outside, '192.0.2.1', proxied.hostPort],
        'the host itself, to the box': [host, '10.50.0.2', 80],
      } as const;
      const due = {
        'on the list': 'hello',
        'on the list, IPv6': 'hello',
        'on the list, IPv6, last of a range': 'hello',
        'another port': 'refused',
        'another port, IPv6': 'refused',
        'another machine': 'refused',
        'another machine, IPv6': 'refused',
        'the host': 'refused',
        'the host, IPv6': 'refused',
        'the gateway': 'refused',
        'the gateway, IPv6': 'refused',
        'a box of another network': 'refused',
        'a neighbour': 'hello',
        'a neighbour, IPv6': 'hello',
        'a neighbour on its own way out': 'hello',
        'who comes from outside, by translation': 'hello',
        'who comes from outside, by proxy': 'hello',
        'the host itself, to the box': 'hello',
      };
      const tried = Object.entries(ways).map(async ([way, [from, to, port]]) => [way, await reach(from, to, port)]);
      expect(Object.fromEntries(await Promise.all(tried))).toEqual(due);
      expect(heard).toEqual([]);
      const { refused, forged } = list.stats();
      // At least one packet for each that was refused, and the datagram.
      expect(refused.packets).toBeGreaterThanOrEqual(
        BigInt(Object.values(due).filter((is) => is === 'refused').length + 1),
      );
      expect(refused.bytes).toBeGreaterThan(refused.packets * 20n);
      expect(forged.packets).toBe(0n);
      await Promise.all([list.close(), list.close()]);
      expect(list.stats().refused).toEqual(refused);
      expect([await reach(box, '192.0.2.3', 80), await reach(box, '10.50.0.1', 9000)]).toEqual(['hello', 'hello']);
      for (const socket of [ear, shout]) {
        socket.close();
        await once(socket, 'close');
      }
    },
    30_000,
  );

  it('nobody gets out as somebody else: by address, by MAC, by ARP, whatever else is done to the link', async () => {
    const { box, neighbour } = world;
    const list = await endpoint.egress({ allow: [] });
    // A limit leads what comes from the box around by another link.
    await endpoint.limit({ out: 50e6 });
    const claimed = () => inside(world.host, 'ip neigh show 10.50.0.3');
    expect(await reach(world.host, '10.50.0.3', 80)).toBe('hello');
    expect(claimed()).toContain('02:42:0a:32:00:03');
    // It asks by ARP under the neighbour's address, whereupon others would send to it what is the neighbour's.
    inside(box, 'ip addr add 10.50.0.3/24 dev eth0; ip -6 addr add fd00:50::3/64 dev eth0 nodad; ip neigh flush all');
    expect(
      await Promise.all([
        reach(box, '192.0.2.2', 80, '10.50.0.3', 400),
        reach(box, '2001:db8::2', 80, 'fd00:50::3', 400),
        reach(box, '10.50.0.1', 9000, '10.50.0.3', 400),
      ]),
    ).toEqual(['lost', 'lost', 'lost']);
    expect(claimed()).toContain('02:42:0a:32:00:03');
    expect(await reach(world.host, '10.50.0.3', 80)).toBe('hello');
    const before = list.stats().forged.packets;
    expect(before).toBeGreaterThanOrEqual(2n);
    inside(box, 'ip addr del 10.50.0.3/24 dev eth0; ip link set eth0 address 02:42:0a:32:00:03');
    expect(await reach(box, '10.50.0.3', 80, undefined, 400)).toBe('lost');
    expect(list.stats().forged.packets).toBeGreaterThan(before);
    inside(box, 'ip link set eth0 address 02:42:0a:32:00:02');
    expect(await reach(neighbour, '192.0.2.2', 80)).toBe('hello');
  }, 30_000);

  it('changes while it runs: who is no longer on the list is cut off, others go on', async () => {
    const { box } = world;
    const list = await endpoint.egress({ allow: ['192.0.2.2', '192.0.2.3'] });
    const open = async (host: string) => {
      const socket = box.connect({ host, port: 80 });
      await once(socket, 'data');
      return socket;
    };
    const [goes, stays] = [await open('192.0.2.3'), await open('192.0.2.2')];
    expect(await endpoint.egress({ allow: ['192.0.2.2:80'] })).toBe(list);
    expect(list.allow).toEqual(['192.0.2.2:80']);
    const ended = once(goes, 'error').then(([error]) => (error as NodeJS.ErrnoException).code);
    goes.write('still there?');
    stays.write('still there?');
    expect(String((await once(stays, 'data'))[0])).toBe('still there?');
    const answered = once(goes, 'data').then(
      () => 'answered',
      () => 'failed',
    );
    expect(await Promise.race([answered, ended, sleep(300, 'silence')])).not.toBe('answered');
    expect(await reach(box, '192.0.2.3', 80)).toBe('refused');
    const counted = list.stats().refused.packets;
    await expect(list.set({ allow: ['192.0.2.2', 'not an address'] })).rejects.toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(list.allow).toEqual(['192.0.2.2:80']);
    await list.set({ allow: ['192.0.2.3'] });
    expect([await reach(box, '192.0.2.3', 80), await reach(box, '192.0.2.2', 80)]).toEqual(['hello', 'refused']);
    expect(list.stats().refused.packets).toBeGreaterThan(counted);
    for (const socket of [goes, stays]) socket.destroy();
    await Promise.all([goes, stays].map((socket) => socket.closed || once(socket, 'close')));
  }, 30_000);

  it('what is left of it is nothing; bad lists are refused before anything is done', async () => {
    const before = inside(world.host, 'nft list ruleset');
    await expect(endpoint.egress({ allow: ['10.0.0.0/8', 'a b'] })).rejects.toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(inside(world.host, 'nft list ruleset')).toBe(before);
    await endpoint.egress({ allow: ['10.0.0.0/8', 'a.example', '0.0.0.0/0:443/tcp', '::/0', '10.1.0.0/16:1-65535'] });
    const text = inside(world.host, 'nft list ruleset');
    expect(text).toMatch(/ip daddr 10\.0\.0\.0\/8 return/);
    expect(text).toMatch(/ip daddr 10\.1\.0\.0\/16 (meta l4proto udp th|udp) dport 1-65535 return/);
    expect(text).toMatch(/reject with icmpx (type )?admin-prohibited/);
    const chains = () => inside(world.host, 'nft list ruleset').match(/(chain (out|host|from)|set (any|ports)\d)-\w+/g);
    expect(chains()?.length).toBe(7);
    await (await endpoint.egress({ allow: [] })).close();
    expect(chains()).toBeNull();
    const list = await endpoint.egress({ allow: ['10.0.0.0/8'] });
    await endpoint.detach();
    expect(chains()).toBeNull();
    await expect(list.set({ allow: [] })).rejects.toThrow(code('ENOTCONN'));
    await expect(endpoint.egress({ allow: [] })).rejects.toThrow(code('ENOTCONN'));
  });

  describe('by name', () => {
    let asked: string[];
    let answers: Record<string, { ttl: number; addresses: string[] }>;
    let upstream: ReturnType<NetNS['datagram']>;
    let names: NameServer | undefined;

    beforeEach(async () => {
      asked = [];
      answers = {};
      upstream = world.host.datagram({ host: '127.0.0.1', port: 53 });
      upstream.on('message', (bytes, peer) => {
        const end = bytes.indexOf(0, 12) + 5;
        const name = labels(bytes.subarray(12, end - 4));
        asked.push(name);
        const type = bytes.readUInt16BE(end - 4);
        const { ttl = 0, addresses = [] } = answers[name] ?? {};
        const wanted = addresses.filter((address) => address.includes(':') === (type === 28));
        const head = Buffer.from(bytes.subarray(0, end));
        head.writeUInt16BE(0x8180, 2);
        head.writeUInt16BE(wanted.length, 6);
        head.writeUInt32BE(0, 8);
        upstream.send(
          Buffer.concat([head, ...wanted.map((address) => record(address, type, ttl))]),
          peer.port,
          peer.address,
        );
      });
    });
    afterEach(async () => {
      await names?.close();
      upstream.close();
      await once(upstream, 'close');
    });

    const start = async (allow: string[]) => {
      const list = await endpoint.egress({ allow });
      const forward = { from: world.host, servers: ['127.0.0.1'] };
      names = await NameServer.start({ netns: world.box, networks: [network], forward, egress: [list] });
      return list;
    };
    /** What dig says, which is not ours; not synchronously, for this process is who answers. */
    const dig = async (...args: string[]) => {
      const enter = [`--net=/proc/${process.pid}/fd/${world.box.fd.number}`, 'dig', '+tries=1', '+time=3'];
      const { stdout } = await run('nsenter', [...enter, ...args]).catch((error: { stdout: string }) => error);
      return stdout.trim();
    };
    const ask = (name: string, type = 'A') => dig('+short', '@127.0.0.11', name, type);

    it('only addresses that were answered, for names that are on the list, for as long as they count', async () => {
      const { box } = world;
      answers = {
        'registry.example': { ttl: 300, addresses: ['192.0.2.2', '2001:db8::2'] },
        'short.example': { ttl: 0, addresses: ['192.0.2.3'] },
        'host.example': { ttl: 300, addresses: ['192.0.2.1', '127.0.0.1', '10.50.0.1', '169.254.169.254'] },
      };
      const list = await start(['registry.example:80', '*.example:443', '192.0.2.2:81']);
      expect(await reach(box, '192.0.2.2', 80)).toBe('refused');
      expect(await ask('registry.example')).toBe('192.0.2.2');
      expect(await ask('registry.example', 'AAAA')).toBe('2001:db8::2');
      expect(
        await Promise.all([
          reach(box, '192.0.2.2', 80),
          reach(box, '2001:db8::2', 80),
          reach(box, '192.0.2.2', 443),
          reach(box, '192.0.2.2', 81),
          reach(box, '2001:db8::2', 81),
          reach(box, '192.0.2.3', 443),
        ]),
      ).toEqual(['hello', 'hello', 'hello', 'hello', 'refused', 'refused']);
      // Its own answers count for seconds more than they say, then no longer; what began goes on.
      expect(await ask('short.example')).toBe('192.0.2.3');
      const socket = box.connect({ host: '192.0.2.3', port: 443 });
      await once(socket, 'data');
      const text = inside(world.host, 'nft list ruleset');
      expect(text).toMatch(/192\.0\.2\.3 \. tcp \. 443 timeout 5s expires [1-5]/);
      expect(text).toMatch(/192\.0\.2\.2 \. tcp \. 80 timeout 5m5s expires 5m/);
      // The kernel counts them down by itself, which takes those seconds.
      if (process.env.ISO_LONG)
        await expect.poll(() => reach(box, '192.0.2.3', 443), { timeout: 20_000, interval: 500 }).toBe('refused');
      socket.write('and now?');
      expect(String((await once(socket, 'data'))[0])).toBe('and now?');
      socket.destroy();
      // Whoever answers for a name does not choose among the host's services.
      await ask('host.example');
      servers.push(world.host.listen({ host: '0.0.0.0', port: 443 }, greet));
      expect(await Promise.all([reach(box, '192.0.2.1', 443), reach(box, '10.50.0.1', 443)])).toEqual([
        'refused',
        'refused',
      ]);
      expect(inside(world.host, 'nft list ruleset')).not.toMatch(/127\.0\.0\.1 \. tcp|169\.254/);
      await list.set({ allow: ['registry.example:443'] });
      expect([await reach(box, '192.0.2.2', 80), await reach(box, '192.0.2.2', 443)]).toEqual(['refused', 'hello']);
    }, 40_000);

    it('no other name is passed on, backwards neither, and no other server is reached', async () => {
      const { outside, box } = world;
      const heard: string[] = [];
      const theirs = outside.datagram({ host: '0.0.0.0', port: 53 });
      theirs.on('message', (bytes) => heard.push(String(bytes)));
      answers = { 'good.example': { ttl: 60, addresses: ['192.0.2.2'] } };
      const list = await start(['good.example:80']);
      const status = async (...args: string[]) => /status: (\w+)/.exec(await dig(...args))?.[1];
      expect(await status('@127.0.0.11', 'good.example')).toBe('NOERROR');
      expect(await status('@127.0.0.11', 'secret.evil.example')).toBe('NXDOMAIN');
      expect(await status('@127.0.0.11', 'below.good.example')).toBe('NXDOMAIN');
      expect(await status('@127.0.0.11', 'TXT', 'data.evil.example')).toBe('NXDOMAIN');
      expect(await status('@127.0.0.11', '-x', '192.0.2.2')).toBe('NXDOMAIN');
      expect(await ask('db')).toBe('10.50.0.3');
      expect(new Set(asked)).toEqual(new Set(['good.example']));
      expect(list.stats().names).toBe(4);
      expect(await dig('@192.0.2.2', 'smuggled.evil.example')).toMatch(/no servers|timed out|unreachable/);
      expect(await dig('@192.0.2.2', '+tcp', 'smuggled.evil.example')).toMatch(/no servers|timed out|unreachable/);
      expect(await reach(box, '192.0.2.3', 53)).toBe('refused');
      expect(heard).toEqual([]);
      theirs.close();
      await once(theirs, 'close');
    }, 30_000);
  });
});

function labels(bytes: Buffer): string {
  const parts: string[] = [];
  for (let at = 0; bytes[at]; at += 1 + (bytes[at] as number))
    parts.push(bytes.toString('latin1', at + 1, at + 1 + (bytes[at] as number)));
  return parts.join('.').toLowerCase();
}

function record(address: string, type: number, ttl: number): Buffer {
  const data = address.includes(':')
    ? Buffer.from(`20010db8${'00'.repeat(11)}0${address.at(-1)}`, 'hex')
    : Buffer.from(address.split('.').map(Number));
  const head = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, data.length]);
  head.writeUInt32BE(ttl, 6);
  return Buffer.concat([head, data]);
}
