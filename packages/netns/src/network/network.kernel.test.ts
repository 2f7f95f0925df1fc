import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { Server, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { home, inside, ip, root } from '../testing/judge.js';
import { BridgeNetwork, type BridgeNetworkOptions, type Network, sweepNetworks } from './index.js';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

/** What a client got: the address that the server saw, or how it failed. */
function reach(from: NetNS, host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = from.connect({ host, port });
    const timer = setTimeout(() => {
      socket.destroy();
      resolve('timeout');
    }, 1500);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      resolve(`${error.code}`);
    });
    text(socket).then(
      (answer) => {
        clearTimeout(timer);
        resolve(answer || 'closed');
      },
      () => {},
    );
  });
}

/** A host with an uplink, a machine outside that has a route to the network, two boxes. All are namespaces of the test's own. */
class World {
  readonly host: NetNS = NetNS.create();
  readonly outside: NetNS = NetNS.create();
  readonly a: NetNS = NetNS.create();
  readonly b: NetNS = NetNS.create();
  readonly #networks: Network[] = [];
  readonly #servers: Server[] = [];

  constructor() {
    const { host, outside } = this;
    host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
    outside.rtnl.links.set('eth0', { up: true });
    for (const [ns, link, four, six] of [
      [host, 'up0', '192.0.2.1/24', '2001:db8::1/64'],
      [outside, 'eth0', '192.0.2.2/24', '2001:db8::2/64'],
    ] as const) {
      ns.rtnl.addresses.create({ link, address: four });
      ns.rtnl.addresses.create({ link, address: six, flags: ['nodad'] });
    }
    outside.rtnl.routes.create({ dst: '10.50.0.0/16', gateway: '192.0.2.1' });
    outside.rtnl.routes.create({ dst: 'fd00:50::/48', gateway: '2001:db8::1' });
  }

  network(options: Partial<BridgeNetworkOptions> = {}): BridgeNetwork {
    const network = BridgeNetwork.create({
      name: 'app',
      host: this.host,
      subnets: ['10.50.0.0/24', 'fd00:50::/64'],
      ...options,
    });
    this.#networks.push(network);
    return network;
  }

  /** Answers with the address that it sees. */
  serve(ns: NetNS, port: number, host?: string): void {
    const answer = (socket: Socket) => socket.end(`${socket.remoteAddress}`.replace('::ffff:', ''));
    this.#servers.push(ns.listen({ port, ...(host !== undefined && { host }) }, answer));
  }

  async close(): Promise<void> {
    for (const server of this.#servers) {
      const closed = once(server, 'close');
      server.close();
      await closed;
    }
    for (const network of this.#networks) network.close();
    for (const ns of [this.host, this.outside, this.a, this.b]) ns.close();
  }
}

describe.skipIf(!root)('bridge networks [needs root]', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(() => world.close());

  it('a box has its addresses, its MAC, its way out, and is usable at once', async () => {
    const { host, a, b, outside } = world;
    const network = world.network();
    const endpoint = network.attach(a);
    expect(endpoint).toMatchObject({ ip: '10.50.0.2', ip6: 'fd00:50::2', link: 'eth0', mac: '02:42:0a:32:00:02' });
    const [link] = ip(a, 'addr show eth0') as [
      { addr_info: { local: string; tentative?: boolean }[]; address: string; flags: string[] },
    ];
    expect(link.address).toBe(endpoint.mac);
    expect(link.addr_info.map((info) => info.local)).toEqual(expect.arrayContaining(['10.50.0.2', 'fd00:50::2']));
    expect(ip(a, 'route show default')).toMatchObject([{ gateway: '10.50.0.1', dev: 'eth0' }]);
    expect(ip(host, `link show master ${network.bridge}`).map((port) => port.ifname)).toEqual([endpoint.hostLink]);
    network.attach(b);
    world.serve(outside, 80);
    world.serve(b, 80);
    expect(await reach(a, '192.0.2.2', 80)).toBe('192.0.2.1');
    expect(await reach(a, '10.50.0.3', 80)).toBe('10.50.0.2');
    expect(await reach(a, '2001:db8::2', 80)).toBe('2001:db8::1');
    expect(await reach(a, 'fd00:50::3', 80)).toBe('fd00:50::2');
  });

  it('who reaches a published port, and is seen as whom', async () => {
    const { host, a, b, outside } = world;
    const network = world.network();
    const other = world.network({ name: 'other', subnets: ['10.50.9.0/24', 'fd00:50:0:9::/64'] });
    network.attach(a);
    const endpoint = network.attach(b);
    const stranger = NetNS.create();
    other.attach(stranger);
    world.serve(b, 80);
    const nat = await endpoint.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat' });
    const six = await endpoint.publish({ port: 80, hostPort: 8080, host: '::', mode: 'nat' });
    const proxy = await endpoint.publish({ port: 80, hostPort: 8081, host: '0.0.0.0' });
    const local = await endpoint.publish({ port: 80, hostPort: 8082 });
    const results = {
      'outside to nat': await reach(outside, '192.0.2.1', 8080),
      'outside to nat, IPv6': await reach(outside, '2001:db8::1', 8080),
      'host by its address': await reach(host, '192.0.2.1', 8080),
      'host by its loopback': await reach(host, '127.0.0.1', 8080),
      'host by its loopback, IPv6': await reach(host, '::1', 8080),
      neighbour: await reach(a, '192.0.2.1', 8080),
      itself: await reach(b, '192.0.2.1', 8080),
      'itself, IPv6': await reach(b, '2001:db8::1', 8080),
      'another network': await reach(stranger, '192.0.2.1', 8080),
      'another network, directly': await reach(stranger, '10.50.0.3', 80),
      'outside, directly': await reach(outside, '10.50.0.3', 80),
      'outside, directly, IPv6': await reach(outside, 'fd00:50::3', 80),
      'outside to proxy': await reach(outside, '192.0.2.1', 8081),
      'outside to what is local': await reach(outside, '192.0.2.1', 8082),
      'host to what is local': await reach(host, '127.0.0.1', 8082),
    };
    stranger.close();
    expect(results).toEqual({
      'outside to nat': '192.0.2.2',
      'outside to nat, IPv6': '2001:db8::2',
      'host by its address': '192.0.2.1',
      'host by its loopback': '10.50.0.3',
      'host by its loopback, IPv6': 'fd00:50::3',
      neighbour: '10.50.0.1',
      itself: '10.50.0.1',
      'itself, IPv6': 'fd00:50::1',
      'another network': '10.50.0.1',
      'another network, directly': 'timeout',
      'outside, directly': 'timeout',
      'outside, directly, IPv6': 'timeout',
      'outside to proxy': '127.0.0.1',
      'outside to what is local': 'ECONNREFUSED',
      'host to what is local': '127.0.0.1',
    });
    for (const each of [nat, six, proxy, local]) await each.close();
    expect(await reach(outside, '192.0.2.1', 8080)).toBe('ECONNREFUSED');
    expect(await reach(outside, '192.0.2.1', 8081)).toBe('ECONNREFUSED');
  }, 60_000);

  it.each(['0', '1'])('neighbours and itself reach it with bridge-nf-call-iptables %s', async (value) => {
    const { host, a, b } = world;
    const before = inside(host, 'cat /proc/sys/net/bridge/bridge-nf-call-iptables 2>/dev/null || true').trim();
    if (before !== '') host.sysctl.set('net.bridge.bridge-nf-call-iptables', value);
    const network = world.network();
    network.attach(a);
    const endpoint = network.attach(b);
    world.serve(b, 80);
    await endpoint.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat' });
    expect([
      await reach(a, '192.0.2.1', 8080),
      await reach(b, '192.0.2.1', 8080),
      await reach(a, '10.50.0.3', 80),
    ]).toEqual(['10.50.0.1', '10.50.0.1', '10.50.0.2']);
  });

  it('a proxy reaches what listens on the box’s own loopback, and passes half-closed streams and much data', async () => {
    const { b, host } = world;
    const endpoint = world.network().attach(b);
    world.serve(b, 90, '127.0.0.1');
    const local = await endpoint.publish({ port: 90 });
    expect(await reach(host, '127.0.0.1', local.hostPort)).toBe('127.0.0.1');
    const web = createServer((message, response) => message.pipe(response));
    const server = b.listen({ port: 8000, allowHalfOpen: true }, (socket) => web.emit('connection', socket));
    const published = await endpoint.publish({ port: 8000 });
    const body = 'x'.repeat(3_000_000);
    const answer = await host.fetch(`http://127.0.0.1:${published.hostPort}/`, { method: 'POST', body });
    expect((await answer.text()).length).toBe(body.length);
    web.closeAllConnections();
    server.close();
    await once(server, 'close');
  });

  it('UDP: by translation and by proxy; unpublished and published to another, the same client finds that', async () => {
    const { a, b, host, outside } = world;
    const network = world.network();
    const [one, two] = [network.attach(a), network.attach(b)];
    const echoes = [a, b].map((ns, i) => {
      const socket = ns.datagram({ port: 53 });
      socket.on('message', (_, peer) => socket.send(`${i} ${peer.address}`, peer.port, peer.address));
      return socket;
    });
    const client = outside.datagram({ host: '192.0.2.2', port: 4000 });
    const inner = host.datagram({ host: '127.0.0.1', port: 4001 });
    const ask = async (socket: typeof client, address: string) => {
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(1500) }).catch(() => ['nothing']);
      socket.send('?', 5353, address);
      return String((await answer)[0]);
    };
    // Asked before it is there: the flow must not be remembered.
    expect(await ask(client, '192.0.2.1')).toBe('nothing');
    const first = await one.publish({ protocol: 'udp', port: 53, hostPort: 5353, host: '0.0.0.0', mode: 'nat' });
    expect(await ask(client, '192.0.2.1')).toBe('0 192.0.2.2');
    expect(await ask(inner, '127.0.0.1')).toBe('0 10.50.0.2');
    expect(() => host.datagram({ port: 5353 })).toThrow(code('EADDRINUSE'));
    await first.close();
    expect(await ask(client, '192.0.2.1')).toBe('nothing');
    const second = await two.publish({ protocol: 'udp', port: 53, hostPort: 5353, host: '0.0.0.0', mode: 'nat' });
    expect(await ask(client, '192.0.2.1')).toBe('1 192.0.2.2');
    await second.close();
    const third = await one.publish({ protocol: 'udp', port: 53, hostPort: 5353, host: '192.0.2.1' });
    expect(await ask(client, '192.0.2.1')).toBe('0 127.0.0.1');
    await third.close();
    for (const socket of [...echoes, client, inner]) {
      socket.close();
      await once(socket, 'close');
    }
  });

  it('a port is really taken, and given back', async () => {
    const { a, b, host } = world;
    const network = world.network();
    const [one, other] = [network.attach(a), network.attach(b)];
    world.serve(host, 8080, '0.0.0.0');
    for (const mode of ['nat', 'proxy'] as const)
      await expect(one.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode })).rejects.toMatchObject({
        code: 'EADDRINUSE',
      });
    const first = await one.publish({ port: 80, hostPort: 8081, host: '0.0.0.0', mode: 'nat' });
    await expect(other.publish({ port: 80, hostPort: 8081, host: '0.0.0.0', mode: 'nat' })).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
    expect(() => host.listen({ host: '0.0.0.0', port: 8081 })).toThrow(code('EADDRINUSE'));
    await first.close();
    await first.close();
    world.serve(b, 80);
    const second = await other.publish({ port: 80, hostPort: 8081, host: '0.0.0.0', mode: 'nat' });
    expect(await reach(world.outside, '192.0.2.1', 8081)).toBe('192.0.2.2');
    await second.close();
    await expect(one.publish({ port: 80, host: '192.0.2.99' })).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' });
    await expect(one.publish({ port: 80, mode: 'nat' })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(one.publish({ port: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(one.publish({ port: 80, host: 'localhost' })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('internal: no way out nor in; isolated: no way to a neighbour', async () => {
    const { a, b, outside, host } = world;
    const network = world.network({ internal: true, isolated: true });
    network.attach(a);
    network.attach(b);
    world.serve(outside, 80);
    world.serve(b, 80);
    expect(ip(a, 'route show default')).toEqual([]);
    a.rtnl.routes.create({ dst: 'default', gateway: '10.50.0.1' });
    host.sysctl.set('net.ipv4.ip_forward', 1);
    expect(await reach(a, '192.0.2.2', 80)).toBe('timeout');
    expect(await reach(outside, '10.50.0.3', 80)).toBe('timeout');
    expect(['timeout', 'EHOSTUNREACH']).toContain(await reach(a, '10.50.0.3', 80));
    expect(await reach(host, '10.50.0.3', 80)).toBe('10.50.0.1');
  });

  it('addresses: certain ones, taken ones, none left, of boxes that are gone', async () => {
    const { a, b } = world;
    const network = world.network({ subnets: ['10.50.0.0/29'] });
    const chosen = network.attach(a, { ip: '10.50.0.5' });
    expect(chosen.ip).toBe('10.50.0.5');
    expect(chosen.ip6).toBeUndefined();
    expect(inside(a, 'cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 2>/dev/null || echo 1').trim()).toBe('1');
    const before = inside(b, 'ip addr') + inside(world.host, 'ip link');
    const refuse = (ip: string) => () => network.attach(b, { ip });
    expect(refuse('10.50.0.5')).toThrow(code('EADDRINUSE', { hint: expect.stringContaining('another endpoint') }));
    expect(refuse('10.50.0.1')).toThrow(code('EADDRINUSE'));
    expect(refuse('10.50.1.1')).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => network.attach(b, { ip6: 'fd00::1' })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => network.attach(b, { link: 'sixteen-bytes-xx' })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => network.attach(b, { link: 'lo' })).toThrow(code('EEXIST'));
    expect(inside(b, 'ip addr') + inside(world.host, 'ip link')).toBe(before);
    const boxes = Array.from({ length: 4 }, () => NetNS.create());
    const [dies] = boxes.map((box) => network.attach(box).ip);
    expect(() => network.attach(b)).toThrow(code('EADDRNOTAVAIL'));
    // The namespace ends without a word to the network.
    boxes[0]?.close();
    await expect.poll(() => ip(world.host, `link show master ${network.bridge}`).length, { timeout: 10_000 }).toBe(4);
    expect(network.attach(b).ip).toBe(dies);
    expect(network.endpoints.size).toBe(5);
    for (const box of boxes.slice(1)) box.close();
  });

  it('subnets that are routed already are refused, and a free one is found', () => {
    const { host } = world;
    const taken = world.network({ subnets: ['172.17.0.0/16'] });
    expect(() => world.network({ name: 'second', subnets: ['172.17.5.0/24'] })).toThrow(
      code('EADDRINUSE', { hint: expect.stringContaining(taken.bridge) }),
    );
    expect(() => world.network({ name: 'third', subnets: ['192.0.0.0/16'] })).toThrow(code('EADDRINUSE'));
    expect(() => world.network({ name: 'fourth', subnets: ['10.0.0.0/24', '10.1.0.0/24'] })).toThrow(
      code('ERR_INVALID_ARG_VALUE'),
    );
    const before = inside(host, 'ip link');
    expect(() => BridgeNetwork.create({ name: 'app', host, subnets: ['10.99.0.0/24'] })).toThrow(code('EEXIST'));
    expect(inside(host, 'ip link')).toBe(before);
    const free = BridgeNetwork.create({ name: 'free', host });
    expect(free.subnets).toEqual(['172.18.0.0/16']);
    free.close();
  });

  it('the bridge keeps its MAC, whoever comes and goes; a used address has its MAC again', () => {
    const network = world.network();
    const mac = () => ip(world.host, `link show ${network.bridge}`)[0]?.address;
    const first = mac();
    for (let i = 0; i < 5; i++) {
      const endpoint = network.attach(world.a, { ip: '10.50.0.77' });
      expect([mac(), endpoint.mac]).toEqual([first, '02:42:0a:32:00:4d']);
      endpoint.detach();
      endpoint.detach();
    }
    expect(ip(world.a, 'link').map((link) => link.ifname)).toEqual(['lo']);
  });

  it('bandwidth is limited both ways, from outside of the box, and the limits go', () => {
    const { a, host } = world;
    const endpoint = world.network().attach(a);
    const before = ip(host, 'link').map((link) => link.ifname);
    endpoint.limit({ in: 10e6, out: 20e6 });
    expect(inside(host, `tc qdisc show dev ${endpoint.hostLink}`)).toMatch(/tbf .*rate 10Mbit[\s\S]*ingress/);
    const ifb = `i${endpoint.hostLink.slice(1)}`;
    expect(inside(host, `tc qdisc show dev ${ifb}`)).toMatch(/tbf .*rate 20Mbit/);
    expect(inside(a, 'tc qdisc show dev eth0')).not.toContain('tbf');
    endpoint.limit({ in: 5e6, out: 6e6 });
    expect(inside(host, `tc qdisc show dev ${ifb}`)).toMatch(/tbf .*rate 6Mbit/);
    endpoint.limit({});
    expect(inside(host, 'tc qdisc')).not.toMatch(/tbf|ingress/);
    expect(ip(host, 'link').map((link) => link.ifname)).toEqual(before);
    endpoint.limit({ out: 6e6 });
    endpoint.detach();
    expect(ip(host, 'link').some((link) => link.ifname === ifb)).toBe(false);
  });

  it('rules of others that would drop its traffic are named', () => {
    const network = world.network();
    expect(network.obstacles).toEqual([]);
    inside(
      world.host,
      `nft 'add table ip theirs; add chain ip theirs FORWARD { type filter hook forward priority 0; policy drop; }'`,
    );
    expect(network.obstacles).toEqual(['ip theirs FORWARD']);
    expect(() => inside(world.host, `nft delete table inet iso-${network.bridge}`)).toThrow(/not permitted/);
  });

  it('closing leaves nothing, whatever was there; twice is once', async () => {
    const { host, a, b } = world;
    const state = () => [
      inside(host, 'ip -o link | cut -d@ -f1'),
      inside(host, 'nft list ruleset'),
      inside(host, 'ip route; ip -6 route'),
    ];
    const before = state();
    const network = world.network();
    const endpoint = network.attach(a);
    network.attach(b);
    await endpoint.publish({ port: 80, host: '0.0.0.0', mode: 'nat' });
    await endpoint.publish({ port: 81 });
    network.close();
    network.close();
    expect(state()).toEqual(before);
    expect(network.endpoints.size).toBe(0);
    await expect.poll(() => inside(host, 'ss -Hltn').trim(), { timeout: 5000 }).toBe('');
  });

  it('what a killed process leaves is swept, at whatever step it was; what lives is left', async () => {
    const { host, a } = world;
    const living = world.network({ name: 'living', subnets: ['10.60.0.0/24'] });
    living.attach(a);
    const before = [
      inside(host, 'ip -o link | cut -d@ -f1'),
      inside(host, 'nft list ruleset'),
      inside(host, 'ip route'),
    ];
    const steps = ['network', 'attach', 'limit', 'publish', 'unpublish', 'detach'];
    for (const step of steps) {
      const script = `
        import { NetNS } from '@iso/netns';
        import { BridgeNetwork } from '@iso/netns/network';
        const until = (step) => step === '${step}' && process.kill(process.pid, 'SIGKILL');
        const host = NetNS.open({ path: '/proc/${process.pid}/fd/${host.fd.number}' });
        const network = BridgeNetwork.create({ name: 'dies', host, subnets: ['10.70.0.0/24'] });
        until('network');
        const endpoint = network.attach(NetNS.create());
        until('attach');
        endpoint.limit({ out: 1e6 });
        until('limit');
        const port = await endpoint.publish({ port: 80, hostPort: 8090, host: '0.0.0.0', mode: 'nat' });
        until('publish');
        await port.close();
        until('unpublish');
        endpoint.detach();
        until('detach');`;
      const node = ['--conditions=iso-source', '--import', 'tsx', '--input-type=module', '-e', script];
      const { signal } = spawnSync(process.execPath, node, { cwd: home, stdio: ['ignore', 'inherit', 'inherit'] });
      expect(signal).toBe('SIGKILL');
      expect(
        sweepNetworks(host).some((name) => name.startsWith('br-')),
        step,
      ).toBe(true);
      const state = () => [
        inside(host, 'ip -o link | cut -d@ -f1'),
        inside(host, 'nft list ruleset'),
        inside(host, 'ip route'),
      ];
      await expect.poll(state, { timeout: 10_000, message: step }).toEqual(before);
    }
    expect(sweepNetworks(host)).toEqual([]);
  }, 120_000);

  it('a hundred boxes attach and go with their namespaces', async () => {
    const network = world.network();
    const boxes = Array.from({ length: 100 }, () => NetNS.create());
    const taken = new Set(boxes.map((box) => network.attach(box).ip));
    expect(taken.size).toBe(100);
    expect(ip(world.host, `link show master ${network.bridge}`).length).toBe(100);
    for (const box of boxes) box.close();
    await expect.poll(() => ip(world.host, `link show master ${network.bridge}`).length, { timeout: 20_000 }).toBe(0);
  });
});
