import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, outside, root } from '../testing/judge.js';
import { BridgeNetwork, type Drop, watchDrops } from './index.js';

const legacy = root && outside('unshare -n iptables-legacy -S 2>/dev/null || true') !== '';

/** A host with a network, whose box asks a machine outside. */
async function lab() {
  const [host, far, box] = [NetNS.create(), NetNS.create(), NetNS.create()];
  host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: far } });
  far.rtnl.links.set('eth0', { up: true });
  host.rtnl.addresses.create({ link: 'up0', address: '192.0.2.1/24' });
  far.rtnl.addresses.create({ link: 'eth0', address: '192.0.2.2/24' });
  const network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24', 'fd00:50::/64'] });
  await network.attach(box);
  const close = () => {
    network.close();
    for (const ns of [host, far, box]) ns.close();
  };
  return { host, far, box, network, close, [Symbol.dispose]: close };
}

describe.skipIf(!root)('rules of others [needs root]', () => {
  it.skipIf(!legacy)(
    'of iptables-legacy are found, and not made by looking [needs iptables-legacy, of program and kernel]',
    async () => {
      using world = await lab();
      const { host, network } = world;
      const names = () =>
        inside(host, 'cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true').trim();
      using fresh = await lab();
      expect(fresh.network.obstacles).toEqual([]);
      expect(inside(fresh.host, 'cat /proc/net/ip_tables_names').trim()).toBe('');
      inside(
        host,
        'iptables-legacy -A FORWARD -s 203.0.113.1 -j DROP; iptables-legacy -A INPUT -p tcp --dport 1 -j ACCEPT',
      );
      expect(names()).toContain('filter');
      expect(network.obstacles).toEqual([]);
      inside(host, 'iptables-legacy -P FORWARD DROP');
      expect(network.obstacles).toEqual(['iptables filter FORWARD']);
      inside(host, 'ip6tables-legacy -A FORWARD -s fd00::/8 -j ACCEPT; ip6tables-legacy -P FORWARD DROP');
      expect(network.obstacles).toEqual(['iptables filter FORWARD', 'ip6tables filter FORWARD']);
      inside(host, 'iptables-legacy -P FORWARD ACCEPT; ip6tables-legacy -P FORWARD ACCEPT');
      expect(network.obstacles).toEqual([]);
    },
  );

  it('are named when they drop: by rule, by policy, in whichever table', async () => {
    using world = await lab();
    const { host, box, network } = world;
    const aborter = new AbortController();
    const drops = watchDrops({ host, subnets: network.subnets, signal: aborter.signal });
    const told: Drop[] = [];
    const reading = (async () => {
      for await (const drop of drops) told.push(drop);
    })();
    inside(
      host,
      `nft 'add table ip theirs; add chain ip theirs guard { type filter hook forward priority 10; policy accept; }
        add chain ip theirs deep; add rule ip theirs guard ip daddr 192.0.2.2 jump deep; add rule ip theirs deep udp dport 4444 drop
        add table inet late; add chain inet late out { type filter hook postrouting priority 200; policy drop; }
        add rule inet late out udp dport != 5555 accept'`,
    );
    const handle = /udp dport 4444 drop # handle (\d+)/.exec(inside(host, 'nft -a list ruleset'))?.[1];
    const client = box.datagram();
    for (const port of [4444, 5555, 6666]) client.send('x', port, '192.0.2.2');
    await expect.poll(() => told.length, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
    const packet = { family: 4, protocol: 17, source: '10.50.0.2', destination: '192.0.2.2' };
    expect(told.map(({ by }) => by)).toEqual(['ip theirs deep', 'inet late out']);
    expect(told[0]).toMatchObject({ rule: BigInt(String(handle)), packet: { ...packet, destinationPort: 4444 } });
    expect(told[1]).toMatchObject({ rule: undefined, packet: { ...packet, destinationPort: 5555 } });
    expect(inside(host, 'nft list tables')).toMatch(/iso-drops-/);
    aborter.abort();
    await reading;
    expect(inside(host, 'nft list tables')).not.toMatch(/iso-drops-/);
    client.close();
    await once(client, 'close');
    await using again = watchDrops({ host, subnets: ['fd00:50::/64'] });
    expect(inside(host, 'nft list ruleset')).toMatch(
      /ip6 saddr fd00:50::\/64 limit rate 500\/second .*meta nftrace set 1/,
    );
    await again.return?.();
    expect(() => watchDrops({ host, subnets: ['nonsense'] })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
  }, 30_000);
});
