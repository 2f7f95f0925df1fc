import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, root } from '../testing/judge.js';
import { BridgeNetwork, type Publication, type PublishOptions } from './index.js';

/**
 * Who reaches what, and is seen as whom: every client tries every way to a box, published and not, and the box writes down whom it saw.
 * `refused` is an answer that says no, `lost` is none at all; UDP does not tell them apart.
 */

type Family = 4 | 6;
type Outcome = string;

const ADDRESS = {
  host: { 4: '192.0.2.1', 6: '2001:db8::1' },
  outside: { 4: '192.0.2.2', 6: '2001:db8::2' },
  loopback: { 4: '127.0.0.1', 6: '::1' },
  gateway: { 4: '10.50.0.1', 6: 'fd00:50::1' },
  neighbour: { 4: '10.50.0.2', 6: 'fd00:50::2' },
  box: { 4: '10.50.0.3', 6: 'fd00:50::3' },
} as const;
const WILDCARD = { 4: '0.0.0.0', 6: '::' } as const;

/** Ports of the host, by what is published there; `closed` is nothing, 80 is the box's own. */
const PORT = {
  nat: 8080,
  'nat on the address': 8081,
  proxy: 8082,
  'proxy on the address': 8083,
  local: 8084,
  closed: 8085,
};

/** How each publication is made, and as whom those who come by the proxy are seen. */
const PUBLICATIONS: Record<Exclude<keyof typeof PORT, 'closed'>, (family: Family) => Partial<PublishOptions>> = {
  nat: (family) => ({ host: WILDCARD[family], mode: 'nat' }),
  'nat on the address': (family) => ({ host: ADDRESS.host[family], mode: 'nat' }),
  proxy: (family) => ({ host: WILDCARD[family], mode: 'proxy' }),
  'proxy on the address': (family) => ({ host: ADDRESS.host[family], mode: 'proxy' }),
  local: (family) => ({ host: ADDRESS.loopback[family] }),
};

/** A way: whose socket, to which address, and what comes of it by port of the host or the box. */
interface Way {
  from: 'host' | 'outside' | 'hostile' | 'neighbour' | 'box' | 'stranger';
  /** Whose address it takes for its own. */
  as?: keyof typeof ADDRESS;
  to: keyof typeof ADDRESS;
  ports: Partial<Record<keyof typeof PORT | 'own', (family: Family) => Outcome>>;
}

const as = (who: keyof typeof ADDRESS) => (family: Family) => ADDRESS[who][family];
const refused = () => 'refused';
const lost = () => 'lost';
/** By the proxy, the box sees its own loopback, whatever the version of IP outside. */
const proxied = () => ADDRESS.loopback[4];

const WAYS: Record<string, Way> = {
  'the host, by its address': {
    from: 'host',
    to: 'host',
    ports: {
      nat: as('host'),
      'nat on the address': as('host'),
      proxy: proxied,
      'proxy on the address': proxied,
      local: refused,
      closed: refused,
    },
  },
  'the host, by its loopback': {
    from: 'host',
    to: 'loopback',
    ports: {
      // The kernel does not translate these: what holds the port passes them on.
      nat: as('box'),
      'nat on the address': refused,
      proxy: proxied,
      'proxy on the address': refused,
      local: proxied,
      closed: refused,
    },
  },
  'the host, directly': { from: 'host', to: 'box', ports: { own: as('gateway'), closed: refused } },
  'a machine outside': {
    from: 'outside',
    to: 'host',
    ports: {
      nat: as('outside'),
      'nat on the address': as('outside'),
      proxy: proxied,
      'proxy on the address': proxied,
      local: refused,
      closed: refused,
    },
  },
  'a machine outside, with a route to the network': { from: 'outside', to: 'box', ports: { own: lost, closed: lost } },
  'a machine outside that sends to the loopback': {
    from: 'hostile',
    to: 'loopback',
    ports: {
      nat: lost,
      'nat on the address': lost,
      proxy: lost,
      'proxy on the address': lost,
      local: lost,
      closed: lost,
    },
  },
  'a machine outside that takes an address of the network': {
    from: 'hostile',
    as: 'neighbour',
    to: 'box',
    ports: { own: lost, closed: lost },
  },
  'a neighbour, by the host': {
    from: 'neighbour',
    to: 'host',
    ports: {
      nat: as('gateway'),
      'nat on the address': as('gateway'),
      proxy: proxied,
      'proxy on the address': proxied,
      local: refused,
      closed: refused,
    },
  },
  'a neighbour, by the gateway': {
    from: 'neighbour',
    to: 'gateway',
    ports: { nat: as('gateway'), 'nat on the address': refused, proxy: proxied, local: refused, closed: refused },
  },
  'a neighbour, directly': { from: 'neighbour', to: 'box', ports: { own: as('neighbour'), closed: refused } },
  'the box itself, by the host': {
    from: 'box',
    to: 'host',
    ports: {
      nat: as('gateway'),
      'nat on the address': as('gateway'),
      proxy: proxied,
      'proxy on the address': proxied,
      local: refused,
      closed: refused,
    },
  },
  'the box itself, by its address': { from: 'box', to: 'box', ports: { own: as('box'), nat: refused } },
  'the box itself, by its loopback': {
    from: 'box',
    to: 'loopback',
    ports: { own: as('loopback'), nat: refused, local: refused },
  },
  'a box of another network, by the host': {
    from: 'stranger',
    to: 'host',
    ports: {
      nat: as('gateway'),
      'nat on the address': as('gateway'),
      proxy: proxied,
      'proxy on the address': proxied,
      local: refused,
      closed: refused,
    },
  },
  'a box of another network, directly': { from: 'stranger', to: 'box', ports: { own: lost, closed: lost } },
};

/** Waits for an answer where one is due, and long enough to see one that is not: a second attempt of TCP comes after a second. */
const DUE = 20_000;
const NOT_DUE = 1300;
/** A datagram is asked once. */
const SILENCE = 400;

describe.skipIf(!root)('who reaches a box, and is seen as whom [needs root]', () => {
  const names = ['host', 'outside', 'hostile', 'neighbour', 'box', 'stranger'] as const;
  let world: Record<(typeof names)[number], NetNS>;
  let networks: BridgeNetwork[];
  let publications: Publication[];

  beforeEach(() => {
    world = Object.fromEntries(names.map((name) => [name, NetNS.create()])) as typeof world;
    networks = [];
    publications = [];
    wire();
  });
  afterEach(async () => {
    for (const network of networks) network.close();
    for (const name of names) world[name].close();
  });

  /** One wire, on which the host, a machine and one that plays foul are; the machines know the way to the boxes. */
  function wire() {
    const { host, outside, hostile } = world;
    outside.rtnl.links.create({ kind: 'bridge', name: 'eth0', up: true });
    for (const [ns, link] of [
      [host, 'up0'],
      [hostile, 'eth0'],
    ] as const) {
      outside.rtnl.links.create({
        kind: 'veth',
        name: `to-${link}`,
        up: true,
        master: 'eth0',
        peer: { name: link, netns: ns },
      });
      ns.rtnl.links.set(link, { up: true });
    }
    for (const [ns, link, four, six] of [
      [host, 'up0', '192.0.2.1/24', '2001:db8::1/64'],
      [outside, 'eth0', '192.0.2.2/24', '2001:db8::2/64'],
      [hostile, 'eth0', '192.0.2.3/24', '2001:db8::3/64'],
    ] as const) {
      ns.rtnl.addresses.create({ link, address: four });
      ns.rtnl.addresses.create({ link, address: six, flags: ['nodad'] });
    }
    for (const ns of [outside, hostile]) {
      ns.rtnl.routes.create({ dst: '10.50.0.0/16', gateway: '192.0.2.1' });
      ns.rtnl.routes.create({ dst: 'fd00:50::/48', gateway: '2001:db8::1' });
    }
    hostile.rtnl.addresses.create({ link: 'eth0', address: `${ADDRESS.neighbour[4]}/32` });
    hostile.rtnl.addresses.create({ link: 'eth0', address: `${ADDRESS.neighbour[6]}/128`, flags: ['nodad'] });
    // It has no loopback of its own: what it sends there goes out by the wire.
    inside(
      hostile,
      `ip addr flush dev lo; ip link set lo down; ip route flush table local dev lo 2>/dev/null
      sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0
      ip route add 127.0.0.0/8 via 192.0.2.1 src 192.0.2.3; ip -6 route flush table local ::1 2>/dev/null
      ip -6 route add ::1/128 via 2001:db8::1 src 2001:db8::3`,
    );
  }

  async function publishAll() {
    const { host, neighbour, box, stranger } = world;
    const network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24', 'fd00:50::/64'] });
    networks.push(network);
    const other = BridgeNetwork.create({ name: 'other', host, subnets: ['10.50.9.0/24', 'fd00:50:0:9::/64'] });
    networks.push(other);
    await network.attach(neighbour);
    const endpoint = await network.attach(box);
    await other.attach(stranger);
    for (const family of [4, 6] as const)
      for (const [name, options] of Object.entries(PUBLICATIONS)) {
        const hostPort = PORT[name as keyof typeof PUBLICATIONS];
        for (const protocol of ['tcp', 'udp'] as const)
          publications.push(await endpoint.publish({ port: 80, hostPort, protocol, ...options(family) }));
      }
  }

  /** Cells of the table: a name each, and what is due there. */
  function cells(protocol: 'tcp' | 'udp'): (Cell & { due: Outcome })[] {
    return Object.entries(WAYS).flatMap(([way, { from, as, to, ports }]) =>
      ([4, 6] as const).flatMap((family) =>
        Object.entries(ports).map(([port, due]) => {
          const outcome = due(family);
          return {
            name: `${way}: ${port} by ${protocol} on IPv${family}`,
            protocol,
            from: world[from],
            source: as && ADDRESS[as][family],
            host: ADDRESS[to][family],
            port: port === 'own' ? 80 : PORT[port as keyof typeof PORT],
            due: protocol === 'udp' && outcome === 'refused' ? 'lost' : outcome,
          };
        }),
      ),
    );
  }

  // Where the firewall sees what is bridged, translation of what comes back to the same bridge is another matter.
  const values: [string, string][] = existsSync('/proc/sys/net/bridge')
    ? [['0', '0'], ['1', '1'], ...(process.env.ISO_LONG ? [['0', '1'] as [string, string]] : [])]
    : [['absent', 'absent']];

  it.each(values)(
    'with bridge-nf-call-iptables %s and -ip6tables %s',
    async (four, six) => {
      const { host, box } = world;
      if (four !== 'absent') {
        host.sysctl.set('net.bridge.bridge-nf-call-iptables', four);
        host.sysctl.set('net.bridge.bridge-nf-call-ip6tables', six);
      }
      // Somebody else's doing, without which no packet for the loopback would come in by a wire.
      host.sysctl.set('net.ipv4.conf.all.route_localnet', 1);
      await publishAll();
      const table = (['tcp', 'udp'] as const).flatMap((protocol) => cells(protocol));
      const seen: [string, string][] = [];
      const stop = await serve(box, (name, address) => seen.push([name, address]));
      const results = await Promise.all(
        table.map(async (cell) => [cell.name, await ask(cell, cell.due === 'lost' ? NOT_DUE : DUE)] as const),
      ).finally(stop);
      const due = table.map(({ name, due }) => [name, due] as const);
      expect(Object.fromEntries(results)).toEqual(Object.fromEntries(due));
      // Nobody got in who was not told so, and answers are not made up on the way.
      const reached = due.filter(([, outcome]) => outcome !== 'lost' && outcome !== 'refused');
      expect(Object.fromEntries(seen)).toEqual(Object.fromEntries(reached));
      await Promise.all(publications.map((publication) => publication.close()));
      const published = table.filter(({ due, port }) => port !== 80 && due !== 'lost' && due !== 'refused');
      const after = await Promise.all(
        published.map(async (cell) => `${cell.protocol} ${await ask(cell, cell.protocol === 'tcp' ? DUE : SILENCE)}`),
      );
      expect([...new Set(after)].sort()).toEqual(['tcp refused', 'udp lost']);
    },
    60_000,
  );
});

const plain = (address: string | undefined) => `${address}`.replace('::ffff:', '');

/** Answers with the address that it sees, on port 80 of all addresses; tells name and address of each. */
async function serve(box: NetNS, tell: (name: string, address: string) => void): Promise<() => Promise<void>> {
  const server = box.listen({ port: 80 }, (socket) => {
    const address = plain(socket.remoteAddress);
    socket.on('error', () => socket.destroy());
    socket.once('data', (name) => {
      tell(String(name), address);
      socket.end(address);
    });
  });
  await once(server, 'listening');
  const socket = box.datagram({ host: '::', port: 80 });
  socket.on('message', (name, peer) => {
    tell(String(name), plain(peer.address));
    socket.send(plain(peer.address), peer.port, peer.address, () => {});
  });
  return async () => {
    const closed = [server, socket].map((each) => once(each, 'close'));
    server.close();
    socket.close();
    await Promise.all(closed);
  };
}

/** What is tried. */
interface Cell {
  name: string;
  protocol: 'tcp' | 'udp';
  from: NetNS;
  source: string | undefined;
  host: string;
  port: number;
}

function ask(cell: Cell, patience: number): Promise<Outcome> {
  return cell.protocol === 'tcp' ? askStream(cell, patience) : askDatagram(cell, patience);
}

function askStream({ name, from, source, host, port }: Cell, patience: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = from.connect({ host, port, ...(source !== undefined && { localAddress: source }) });
    const finish = (outcome: Outcome) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(outcome);
    };
    const timer = setTimeout(() => finish('lost'), patience);
    let answer = '';
    // A proxy whose inner side is refused ends what came.
    socket.on('error', ({ code }: NodeJS.ErrnoException) =>
      finish(code === 'ECONNREFUSED' || code === 'ECONNRESET' ? 'refused' : `${code}`),
    );
    socket.on('data', (chunk) => {
      answer += String(chunk);
    });
    socket.on('end', () => finish(answer || 'refused'));
    socket.write(name);
  });
}

function askDatagram({ name, from, source, host, port }: Cell, patience: number): Promise<Outcome> {
  return new Promise((resolve) => {
    const socket = from.datagram({ host: source ?? (host.includes(':') ? '::' : '0.0.0.0') });
    const finish = (outcome: Outcome) => {
      clearTimeout(timer);
      socket.close(() => resolve(outcome));
    };
    const timer = setTimeout(() => finish('lost'), patience);
    socket.on('message', (answer, peer) => {
      // An answer from elsewhere is one that no client takes.
      finish(peer.address === host && peer.port === port ? String(answer) : `from ${peer.address} ${peer.port}`);
    });
    socket.send(name, port, host, (error) => {
      if (error) finish(`${(error as NodeJS.ErrnoException).code}`);
    });
  });
}
