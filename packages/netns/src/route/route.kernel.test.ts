import { once } from 'node:events';
import { release } from 'node:os';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { NetNS } from '../index.js';
import { home, inside, ip, outside, root } from '../testing/judge.js';
import { byText, ourAddresses, ourRoutes, same, settled, theirAddresses, theirRoutes } from '../testing/rows.js';
import type { LinkOptions, Neighbour, RouteEvent } from './index.js';
import { NEIGHBOUR_STATES } from './raw.js';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
/** Some refusals have had words since Linux 6.6 only. */
const newer = !/^([1-5]\.|6\.[0-5]\.)/.test(release());

describe.skipIf(!root)('links [needs root]', () => {
  it('a veth pair is made straight into two namespaces', () => {
    using a = NetNS.create();
    using b = NetNS.create();
    const before = inside(a, 'ip link');
    a.rtnl.links.create({
      kind: 'veth',
      name: 'left',
      index: 70,
      mac: '02:00:00:00:00:01',
      mtu: 1400,
      up: true,
      peer: { name: 'right', netns: b, mac: '02:00:00:00:00:02', mtu: 1300, index: 77 },
    });
    expect(ip(b, '-d link show right')).toMatchObject([
      { ifindex: 77, mtu: 1300, address: '02:00:00:00:00:02', linkinfo: { info_kind: 'veth' } },
    ]);
    expect(ip(a, 'link show left')).toMatchObject([{ mtu: 1400, address: '02:00:00:00:00:01', link_index: 77 }]);
    expect(ip(a, 'link show left')[0]?.flags).toContain('UP');
    a.rtnl.links.remove('left');
    expect(inside(a, 'ip link')).toBe(before);
    expect(ip(b, 'link').map((link) => link.ifname)).toEqual(['lo']);
  });

  const kinds: [string, LinkOptions, object][] = [
    [
      'bridge',
      { kind: 'bridge', name: 'x', data: { stp: true, ageingTime: 12.34, priority: 7, nfCallIptables: true } },
      { stp_state: 1, ageing_time: 1234, priority: 7, nf_call_iptables: 1 },
    ],
    ['macvlan', { kind: 'macvlan', name: 'x', parent: 'base', data: { mode: 'private' } }, { mode: 'private' }],
    ['macvtap', { kind: 'macvtap', name: 'x', parent: 'base', data: { mode: 'bridge' } }, { mode: 'bridge' }],
    ['ipvlan', { kind: 'ipvlan', name: 'x', parent: 'base', data: { mode: 'l3' } }, { mode: 'l3' }],
    ['ipvtap', { kind: 'ipvtap', name: 'x', parent: 'base', data: { mode: 'l2', flag: 'private' } }, { mode: 'l2' }],
    ['vlan', { kind: 'vlan', name: 'x', parent: 'base', data: { id: 42 } }, { id: 42 }],
    [
      'vlan of a provider',
      { kind: 'vlan', name: 'x', parent: 'base', data: { id: 4094, protocol: '802.1ad' } },
      { id: 4094, protocol: '802.1ad' },
    ],
    [
      'vxlan',
      {
        kind: 'vxlan',
        name: 'x',
        data: { id: 99, group: '239.1.1.1', port: 4790, ttl: 3, learning: false, local: '10.0.0.1' },
        parent: 'base',
      },
      { id: 99, group: '239.1.1.1', port: 4790, ttl: 3, learning: false, local: '10.0.0.1' },
    ],
    ['dummy', { kind: 'dummy', name: 'x' }, {}],
    ['ifb', { kind: 'ifb', name: 'x' }, {}],
    ['of a name that is not known here', { kind: 'other', type: 'bridge', name: 'x' }, {}],
  ];
  it.each(kinds)('%s, with its settings, or the kernel’s own words for its lack', (_, options, data) => {
    using ns = NetNS.create();
    ns.rtnl.links.create({ kind: 'veth', name: 'base', up: true, peer: { name: 'other' } });
    try {
      ns.rtnl.links.create(options);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EUNSUPPORTED', feature: `a link of kind ${options.kind}` });
      // The judge must not be able to make one either.
      expect(() =>
        inside(ns, `ip link add y link base type ${options.kind} ${options.kind === 'vlan' ? 'id 5' : ''}`),
      ).toThrow(/Unknown device type/);
      return;
    }
    const [theirs] = ip(ns, '-d link show x') as [{ linkinfo: { info_kind: string; info_data: object } }];
    expect(theirs.linkinfo.info_kind).toBe(options.kind === 'other' ? options.type : options.kind);
    if (Object.keys(data).length) expect(theirs.linkinfo.info_data).toMatchObject(data);
    const ours = ns.rtnl.links.get('x');
    if ('data' in options && options.data && !(options.data instanceof Uint8Array))
      expect(ours.data).toMatchObject(options.data);
  });

  it('changes what exists, of a bridge and its ports too', () => {
    using ns = NetNS.create();
    const { links } = ns.rtnl;
    links.create({ kind: 'bridge', name: 'br0', up: true, alias: 'from the start' });
    expect(ip(ns, 'link show br0')).toMatchObject([{ ifalias: 'from the start' }]);
    links.create({
      kind: 'veth',
      name: 'p0',
      peer: { name: 'q0' },
      master: 'br0',
      port: { hairpin: true, isolated: true },
    });
    expect(links.list({ master: 'br0' }).map((link) => link.name)).toEqual(['p0']);
    links.set('p0', {
      mtu: 1280,
      up: true,
      alias: 'the port',
      group: 7,
      txQueueLength: 50,
      port: { learning: false, cost: 9, neighbourSuppress: true },
    });
    const [port] = ip(ns, '-d link show p0') as [{ linkinfo: { info_slave_data: object } }];
    expect(port).toMatchObject({ mtu: 1280, ifalias: 'the port', group: '7', txqlen: 50, master: 'br0' });
    expect(port.linkinfo.info_slave_data).toMatchObject({
      hairpin: true,
      isolated: true,
      learning: false,
      cost: 9,
      neigh_suppress: true,
    });
    expect(links.get('p0').port).toMatchObject({
      hairpin: true,
      isolated: true,
      learning: false,
      flood: true,
      cost: 9,
    });
    links.set('br0', {}, { kind: 'bridge', data: { stp: true } });
    expect(ip(ns, '-d link show br0')).toMatchObject([{ linkinfo: { info_data: { stp_state: 1 } } }]);
    links.set('p0', { master: null });
    expect(ip(ns, 'link show p0')[0]).not.toHaveProperty('master');
    links.set('p0', { name: 'port-zero', up: false });
    links.addNames('port-zero', 'a name that is rather longer than fifteen bytes'.replaceAll(' ', '-'));
    expect(links.get('a-name-that-is-rather-longer-than-fifteen-bytes').name).toBe('port-zero');
    links.removeNames('port-zero', 'a-name-that-is-rather-longer-than-fifteen-bytes');
    expect(ip(ns, 'link show port-zero')[0]).not.toHaveProperty('altnames');
  });

  it('moves into another namespace, renamed on arrival', () => {
    using a = NetNS.create();
    using b = NetNS.create();
    a.rtnl.links.create({ kind: 'ifb', name: 'one' });
    a.rtnl.links.set('one', { netns: b, name: 'two' });
    expect(ip(b, 'link').map((link) => link.ifname)).toEqual(['lo', 'two']);
    expect(ip(a, 'link').map((link) => link.ifname)).toEqual(['lo']);
  });

  it('refuses with the kernel’s words, the attribute, and nothing left behind', () => {
    using ns = NetNS.create();
    using other = NetNS.create();
    const { links } = ns.rtnl;
    links.create({ kind: 'veth', name: 'v0', peer: { name: 'v1' } });
    other.rtnl.links.create({ kind: 'bridge', name: 'v0' });
    const before = inside(ns, 'ip -d link');
    expect(() => links.create({ kind: 'bridge', name: 'v0' })).toThrow(code('EEXIST'));
    expect(() => links.set('v0', { mtu: 70000 })).toThrow(
      code('EINVAL', { kernelMessage: expect.stringMatching(/mtu greater than device maximum/) }),
    );
    expect(() => links.set('v0', { netns: other })).toThrow(
      code('EEXIST', newer ? { kernelMessage: expect.stringMatching(/in the target netns/) } : {}),
    );
    expect(() => links.get('nope')).toThrow(code('ENODEV', { hint: expect.any(String) }));
    expect(() => links.remove('nope')).toThrow(code('ENODEV'));
    expect(() => links.remove('lo')).toThrow(code('EOPNOTSUPP'));
    expect(() => links.create({ kind: 'bridge', name: 'b', master: 'nope' })).toThrow(code('ENODEV'));
    expect(() => links.create({ kind: 'other', name: 'b', type: 'nonesuch' })).toThrow(code('EUNSUPPORTED'));
    expect(() => links.create({ kind: 'bridge', name: 'b', alias: 'x'.repeat(300) })).toThrow(
      code('ERANGE', { info: expect.objectContaining({ attribute: 'IFALIAS' }) }),
    );
    expect(() => links.create({ kind: 'bridge', name: 'b', port: { hairpin: true } })).toThrow(
      expect.objectContaining({ errno: expect.any(Number) }),
    );
    for (const name of ['', 'sixteen-bytes-xx', 'a/b', 'a b', '.', '..', 'v%d', 'a:b', 'a\0b'])
      expect(() => links.create({ kind: 'bridge', name }), name).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => links.create({ kind: 'bridge', name: 'b', mac: '02:00' })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => links.create({ kind: 'bridge', name: 'b', data: { stq: true } as object })).toThrow(
      code('ERR_INVALID_ARG_VALUE'),
    );
    expect(inside(ns, 'ip -d link')).toBe(before);
  });

  it('without CAP_NET_ADMIN says who can grant it', () => {
    const script = `
      import { NetNS } from '@iso/netns';
      const ns = NetNS.self();
      ns.rtnl.links.list();
      try { ns.rtnl.links.create({ kind: 'bridge', name: 'x' }) } catch (error) { console.log(error.code, error.hint) }
      ns.close();`;
    const node = `${process.execPath} ${fromSources.join(' ')} --input-type=module -e "$1"`;
    const drop = 'setpriv --bounding-set=-net_admin --inh-caps=-net_admin';
    const said = outside(`cd ${home} && set -- '${script.replaceAll("'", `'\\''`)}' && unshare -n ${drop} ${node}`);
    expect(said.trim()).toBe('EPERM it needs CAP_NET_ADMIN in the user namespace that owns the network namespace');
  });

  it('counts what passes', async () => {
    using ns = NetNS.create();
    const socket = ns.datagram();
    await new Promise((sent) => socket.send('hello', 9, '127.0.0.1', sent));
    socket.close();
    await once(socket, 'close');
    const stats = ns.rtnl.links.stats('lo');
    const [link] = ip(ns, '-s link show lo') as [{ stats64: { rx: { bytes: number }; tx: { packets: number } } }];
    expect(Number(stats.rxBytes)).toBe(link.stats64.rx.bytes);
    expect(Number(stats.txPackets)).toBe(link.stats64.tx.packets);
    expect(stats.rxBytes).toBeGreaterThan(0n);
  });
});

describe.skipIf(!root)('addresses [needs root]', () => {
  it('equal ip’s, of every sort', () => {
    using ns = NetNS.create();
    const { links, addresses } = ns.rtnl;
    links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
    links.set('v1', { up: true });
    addresses.create({ link: 'v0', address: '10.0.0.1/24' });
    addresses.create({ link: 'v0', address: '10.0.0.2/24', label: 'v0:two', metric: 7 });
    addresses.create({ link: 'v0', address: '10.9.0.1/32', peer: '10.9.0.2' });
    addresses.create({ link: 'v0', address: '10.8.0.0/31' });
    addresses.create({
      link: 'v0',
      address: '10.7.0.1/24',
      broadcast: null,
      scope: 'link',
      validFor: 5000,
      preferredFor: 3000,
    });
    addresses.create({ link: 'v1', address: 'fd00::1/64', flags: ['nodad'] });
    addresses.create({ link: 'v1', address: 'fd00::2/64', flags: ['nodad', 'noprefixroute'] });
    addresses.create({ link: 'lo', address: '127.0.0.5/8' });
    const all = settled(
      () => ourAddresses(ns.rtnl, addresses.list()),
      () => theirAddresses(ns),
    );
    expect(byText(all[0])).toEqual(byText(all[1]));
    expect(
      addresses
        .list({ link: 'v1', family: 6 })
        .map((address) => address.address)
        .sort(),
    ).toEqual(expect.arrayContaining(['fd00::1', 'fd00::2']));
    expect(addresses.list({ link: 'v0' }).every((address) => address.link === links.index('v0'))).toBe(true);
    const [lease] = addresses.list({ link: 'v0' }).filter((address) => address.address === '10.7.0.1');
    expect(lease?.validFor).toBeLessThanOrEqual(5000);
    addresses.replace({ link: 'v0', address: '10.7.0.1/24', broadcast: null, scope: 'link' });
    expect(addresses.list().find((address) => address.address === '10.7.0.1')?.validFor).toBeUndefined();
    addresses.remove({ link: 'v0', address: '10.9.0.1/32', peer: '10.9.0.2' });
    addresses.remove({ link: 'v1', address: 'fd00::1/64' });
    expect(inside(ns, 'ip addr')).not.toMatch(/10\.9\.0\.1|fd00::1\//);
    expect(() => addresses.create({ link: 'v0', address: '10.0.0.1/24' })).toThrow(code('EEXIST'));
    // With the first address of a subnet the kernel takes the others, unless it is told to promote one of them.
    ns.sysctl.set('net.ipv4.conf.all.promote_secondaries', 0);
    ns.sysctl.set('net.ipv4.conf.v0.promote_secondaries', 0);
    addresses.remove({ link: 'v0', address: '10.0.0.1/24' });
    expect(inside(ns, 'ip -4 addr show v0')).not.toMatch(/ 10\.0\.0\.[12]\//);
    ns.sysctl.set('net.ipv4.conf.v0.promote_secondaries', 1);
    for (const address of ['10.0.0.1/24', '10.0.0.2/24']) addresses.create({ link: 'v0', address });
    addresses.remove({ link: 'v0', address: '10.0.0.1/24' });
    expect(inside(ns, 'ip -4 addr show v0')).toMatch(/ 10\.0\.0\.2\//);
    // A link that goes down loses its IPv6 addresses and its routes, and has none of them when it comes up again.
    ns.rtnl.routes.create({ dst: '192.0.2.0/24', link: 'v1' });
    links.set('v1', { up: false });
    links.set('v1', { up: true });
    expect(ns.rtnl.routes.list({ table: 'main' }).some(({ dst }) => dst === '192.0.2.0/24')).toBe(false);
    expect(byText(ourAddresses(ns.rtnl, addresses.list({ family: 4 })))).toEqual(
      byText(theirAddresses(ns).filter(({ address }) => !`${address}`.includes(':'))),
    );
    expect(() => addresses.remove({ link: 'v0', address: '10.3.0.1/24' })).toThrow(code('EADDRNOTAVAIL'));
    expect(() => addresses.create({ link: 'nope', address: '10.0.0.1/24' })).toThrow(code('ENODEV'));
    for (const address of ['10.0.0.1/33', 'x', '10.0.0/8', 'fd00::1/129'])
      expect(() => addresses.create({ link: 'v0', address }), address).toThrow(code('ERR_INVALID_ARG_VALUE'));
  });

  it('with nodad is usable at once', async () => {
    using ns = NetNS.create();
    ns.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
    ns.rtnl.links.set('v1', { up: true });
    for (let i = 1; i <= 50; i++) {
      ns.rtnl.addresses.create({ link: 'v0', address: `fd00::${i}/64`, flags: ['nodad'] });
      const socket = ns.datagram({ host: `fd00::${i}`, port: 80 });
      socket.close();
      await once(socket, 'close');
    }
    ns.rtnl.addresses.create({ link: 'v0', address: 'fd00::ff/64' });
    expect(() => ns.datagram({ host: 'fd00::ff', port: 80 })).toThrow(code('EADDRNOTAVAIL'));
  });
});

describe.skipIf(!root)('routes, rules, neighbours, next hops [needs root]', () => {
  function lab(): NetNS {
    const ns = NetNS.create();
    const { rtnl } = ns;
    rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
    rtnl.links.set('v1', { up: true });
    rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/16' });
    rtnl.addresses.create({ link: 'v1', address: '10.1.0.1/16' });
    rtnl.addresses.create({ link: 'v0', address: 'fd00::1/64', flags: ['nodad'] });
    return ns;
  }

  it('routes of every sort equal ip’s', () => {
    using ns = lab();
    const { routes, nextHops } = ns.rtnl;
    routes.create({ dst: 'default', gateway: '10.0.0.2' });
    routes.create({ dst: 'default', gateway: 'fd00::2', metric: 50 });
    routes.create({ dst: '192.0.2.0/24', link: 'v0' });
    routes.create({
      dst: '192.0.2.7/32',
      gateway: '10.0.0.3',
      source: '10.0.0.1',
      metric: 5,
      mtu: 1234,
      protocol: 'static',
    });
    routes.create({ dst: '198.51.100.0/24', type: 'blackhole' });
    routes.create({ dst: '198.51.101.0/24', type: 'unreachable', metric: 3 });
    routes.create({ dst: '203.0.113.0/24', gateway: '172.31.0.1', link: 'v0', onlink: true, table: 1000 });
    routes.create({
      dst: '203.0.114.0/24',
      nextHops: [
        { gateway: '10.0.0.2', weight: 3 },
        { gateway: '10.1.0.2', link: 'v1' },
      ],
    });
    routes.create({ dst: '203.0.115.0/24', gateway: 'fd00::9', link: 'v0' });
    routes.create({
      dst: 'fd01::/48',
      nextHops: [
        { gateway: 'fd00::2', link: 'v0' },
        { gateway: 'fd00::3', link: 'v0', weight: 2 },
      ],
    });
    nextHops.create({ id: 7, gateway: '10.0.0.9', link: 'v0' });
    nextHops.create({ id: 8, blackhole: true });
    nextHops.create({ id: 9, gateway: '10.1.0.9', link: 'v1' });
    nextHops.create({ id: 20, group: [{ id: 7, weight: 2 }, { id: 9 }] });
    routes.create({ dst: '203.0.116.0/24', nextHopId: 7 });
    routes.create({ dst: '203.0.117.0/24', nextHopId: 20 });
    for (const family of [4, 6] as const) {
      const all = settled(
        () => ourRoutes(ns.rtnl, routes.list({ family })),
        () => theirRoutes(ns, `-${family} -d route show table all`),
      );
      expect(byText(all[0]), `IPv${family}`).toEqual(byText(all[1]));
    }
    expect(routes.list({ table: 1000 }).map((route) => route.onlink)).toEqual([true]);
    expect(routes.list({ table: 4321 })).toEqual([]);
    expect(nextHops.list().map(({ id, group, blackhole }) => ({ id, group, blackhole }))).toEqual(
      ip(ns, 'nexthop').map((hop) => ({
        id: hop.id,
        group: (hop.group as { id: number; weight?: number }[] | undefined)?.map((member) => ({
          id: member.id,
          weight: member.weight ?? 1,
        })),
        blackhole: hop.blackhole !== undefined,
      })),
    );
    for (const [to, via] of [
      ['8.8.8.8', '10.0.0.2'],
      ['192.0.2.9', undefined],
      ['10.0.0.1', undefined],
      ['fd00::1', undefined],
      ['fd00::7', undefined],
      ['2001:db8::1', 'fd00::2'],
    ] as const) {
      const [theirs] = ip(ns, `route get fibmatch ${to}`) as [{ type?: string; dst: string; gateway?: string }];
      const { type, dst, gateway } = routes.get(to);
      expect([type, dst, gateway], to).toEqual([theirs.type ?? 'unicast', theirs.dst, theirs.gateway]);
      expect(gateway, to).toBe(via);
    }
    expect(() => routes.get('198.51.101.1')).toThrow(code('EHOSTUNREACH'));
    nextHops.replace({ id: 7, gateway: '10.0.0.10', link: 'v0' });
    nextHops.remove(8);
    expect(inside(ns, 'ip nexthop')).toMatch(/id 7 via 10.0.0.10(?!.*id 8)/s);
    routes.replace({ dst: 'default', gateway: '10.0.0.5' });
    routes.remove({ dst: '192.0.2.7/32' });
    routes.remove({ dst: '203.0.113.0/24', table: 1000 });
    expect(inside(ns, 'ip route')).toMatch(/default via 10\.0\.0\.5/);
    expect(inside(ns, 'ip route show table all')).not.toMatch(/192\.0\.2\.7|203\.0\.113\.0/);
  });

  it('refusals carry the kernel’s words', () => {
    using ns = lab();
    const { routes } = ns.rtnl;
    expect(() => routes.create({ dst: '192.0.2.0/24', gateway: '172.31.0.1' })).toThrow(
      code('ENETUNREACH', { kernelMessage: expect.stringMatching(/Nexthop has invalid gateway/) }),
    );
    routes.create({ dst: '192.0.2.0/24', link: 'v0' });
    expect(() => routes.create({ dst: '192.0.2.0/24', link: 'v0' })).toThrow(code('EEXIST'));
    expect(() => routes.remove({ dst: '192.0.3.0/24' })).toThrow(code('ESRCH'));
    expect(() => routes.create({ dst: '192.0.2.1/24', link: 'v0' })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(() => routes.create({ dst: '192.0.3.0/24', nextHopId: 99 })).toThrow(
      code('EINVAL', { kernelMessage: expect.any(String) }),
    );
    expect(() => routes.create({ dst: '192.0.3.0/24', nextHops: [{ link: 'v0', weight: 257 }] })).toThrow(
      code('ERR_INVALID_ARG_VALUE'),
    );
  });

  it('rules equal ip’s', () => {
    using ns = lab();
    const { rules } = ns.rtnl;
    rules.create({ priority: 100, from: '10.0.0.0/8', table: 1000 });
    rules.create({
      priority: 101,
      to: '192.0.2.0/24',
      iif: 'v0',
      mark: 5,
      mask: 255,
      table: 'main',
      suppressPrefixLength: 0,
    });
    rules.create({ priority: 102, family: 6, oif: 'v1', action: 'unreachable' });
    rules.create({ priority: 103, action: 'goto', goto: 32766 });
    rules.create({
      priority: 104,
      ipProtocol: 6,
      destinationPorts: [80, 90],
      sourcePorts: [5, 5],
      table: 7,
      invert: true,
    });
    const words = { 254: 'main', 255: 'local', 253: 'default' } as Readonly<Record<number, string>>;
    const prefix = (address: unknown, length: unknown, bits: number) =>
      address === undefined || address === 'all' ? undefined : `${address}/${length ?? bits}`;
    const range = (rule: Record<string, unknown>, of: 'sport' | 'dport') =>
      rule[of] !== undefined ? [rule[of], rule[of]] : rule[`${of}_start`] && [rule[`${of}_start`], rule[`${of}_end`]];
    for (const family of [4, 6] as const) {
      const bits = family === 4 ? 32 : 128;
      const theirs = ip(ns, `-${family} rule`).map((rule) => ({
        priority: rule.priority,
        from: prefix(rule.src, rule.srclen, bits),
        to: prefix(rule.dst, rule.dstlen, bits),
        iif: rule.iif,
        oif: rule.oif,
        mark: rule.fwmark === undefined ? undefined : Number(rule.fwmark),
        mask: rule.fwmask === undefined ? undefined : Number(rule.fwmask),
        invert: rule.not !== undefined,
        goto: rule.goto,
        action: rule.action ?? (rule.goto === undefined ? 'lookup' : 'goto'),
        table: rule.table,
        // A machine without /etc/protocols has no word for it.
        ipProtocol: rule.ipproto === 'ipproto-6' ? 'tcp' : rule.ipproto,
        sourcePorts: range(rule, 'sport'),
        destinationPorts: range(rule, 'dport'),
        suppressPrefixLength: rule.suppress_prefixlen,
      }));
      const ours = rules.list({ family }).map(({ family, ...rule }) => ({
        ...rule,
        // A mask of all bits is one that was not given.
        mask: rule.mask === 0xffffffff || rule.mark === undefined ? undefined : rule.mask,
        table: rule.table === 0 ? undefined : (words[rule.table] ?? `${rule.table}`),
        ipProtocol: rule.ipProtocol === 6 ? 'tcp' : rule.ipProtocol,
      }));
      expect(ours).toEqual(theirs);
      expect(ours.length).toBe(family === 4 ? 7 : 3);
    }
    rules.remove({ priority: 100 });
    expect(inside(ns, 'ip rule')).not.toMatch(/100:/);
    expect(() => rules.remove({ priority: 100 })).toThrow(code('ENOENT'));
  });

  it('neighbours and forwarding entries equal ip’s and bridge’s', async () => {
    using ns = lab();
    const { links, neighbours, fdb } = ns.rtnl;
    neighbours.create({ link: 'v0', address: '10.0.0.7', mac: '02:00:00:00:00:07' });
    neighbours.create({ link: 'v0', address: 'fd00::7', mac: '02:00:00:00:00:08', state: 'stale', router: true });
    neighbours.create({ link: 'v0', address: '10.0.0.99', proxy: true });
    const form = (one: Neighbour) => [
      one.address,
      one.mac,
      typeof one.state === 'string' ? one.state.toUpperCase() : one.state,
    ];
    const theirs = ip(ns, 'neigh show nud all')
      .filter((one) => one.dev === 'v0' && !String(one.dst).startsWith('ff02:'))
      .map((one) => [one.dst, one.lladdr, (one.state as string[])[0]]);
    // The kernel makes entries for multicast on its own, at any moment.
    const ours = neighbours.list({ link: 'v0' }).filter((one) => !one.address.startsWith('ff02:'));
    expect(byText(ours.map(form))).toEqual(byText(theirs));
    expect(NEIGHBOUR_STATES.permanent).toBe(128);
    expect(neighbours.list({ proxy: true }).map((one) => one.address)).toEqual(['10.0.0.99']);
    expect(inside(ns, 'ip neigh show proxy')).toContain('10.0.0.99');
    neighbours.replace({ link: 'v0', address: '10.0.0.7', mac: '02:00:00:00:00:77' });
    expect(inside(ns, 'ip neigh')).toMatch(/10\.0\.0\.7 .*02:00:00:00:00:77 PERMANENT/);
    neighbours.remove({ link: 'v0', address: '10.0.0.7' });
    expect(inside(ns, 'ip neigh')).not.toContain('10.0.0.7 ');
    links.create({ kind: 'bridge', name: 'br0', up: true });
    links.set('v1', { master: 'br0' });
    fdb.create({ link: 'v1', mac: '02:00:00:00:00:aa' });
    links.create({ kind: 'vxlan', name: 'vx', up: true, data: { id: 7 } });
    fdb.create({ link: 'vx', mac: '00:00:00:00:00:00', dst: '10.0.0.50', table: 'self', append: true });
    const names = new Map(links.list().map((link) => [link.index, link.name]));
    const name = (index: number | undefined) => (index === undefined ? undefined : names.get(index));
    type Theirs = { mac: string; ifname: string; dst?: string; master?: string }[];
    // The bridge learns on its own: in one of two looks it may know more.
    const both = () => [
      byText(fdb.list().map((entry) => [entry.mac, name(entry.link), entry.dst, name(entry.master)])),
      byText(
        (JSON.parse(inside(ns, 'bridge -j fdb')) as Theirs).map((entry) => [
          entry.mac,
          entry.ifname,
          entry.dst,
          entry.master,
        ]),
      ),
    ];
    await expect.poll(both, { timeout: 15_000 }).toSatisfy(same);
    fdb.remove({ link: 'v1', mac: '02:00:00:00:00:aa' });
    expect(fdb.list({ bridge: 'br0' }).some((entry) => entry.mac === '02:00:00:00:00:aa')).toBe(false);
  });
});

describe.skipIf(!root)('watch [needs root]', () => {
  it('tells what somebody else changes, in order', async () => {
    using ns = NetNS.create();
    using events = ns.rtnl.watch({ links: true, addresses: true, routes: true });
    inside(
      ns,
      'ip link add br0 type bridge; ip addr add 10.0.0.1/24 dev br0; ip link set br0 up; ip route add 10.5.0.0/16 via 10.0.0.2; ip link del br0',
    );
    const seen: RouteEvent[] = [];
    for await (const event of events) {
      seen.push(event);
      if (event.type === 'del' && event.topic === 'links') break;
    }
    const told = seen.map((event) => (event.type === 'resync' ? 'resync' : `${event.type} ${event.topic}`));
    expect(told).toEqual(
      expect.arrayContaining(['new links', 'new addresses', 'new routes', 'del addresses', 'del links']),
    );
    expect(
      seen.some(
        (event) =>
          event.type === 'new' &&
          event.topic === 'routes' &&
          event.route.dst === '10.5.0.0/16' &&
          event.route.gateway === '10.0.0.2',
      ),
    ).toBe(true);
    expect(told.indexOf('new links')).toBeLessThan(told.indexOf('new addresses'));
    await expect(events.next()).resolves.toEqual({ done: true, value: undefined });
  });

  it('ends by signal with its reason, by close without one, also while it waits', async () => {
    using ns = NetNS.create();
    const controller = new AbortController();
    const aborted = ns.rtnl.watch({}, { signal: controller.signal }).next();
    controller.abort(new Error('enough'));
    await expect(aborted).rejects.toThrow('enough');
    const closed = ns.rtnl.watch();
    const waiting = closed.next();
    closed.close();
    await expect(waiting).resolves.toEqual({ done: true, value: undefined });
    const returned = ns.rtnl.watch();
    const pending = returned.next();
    await returned.return();
    await expect(pending).resolves.toMatchObject({ done: true });
    ns.rtnl.watch().close();
  });

  it('after an overrun one resync holds what there is', async () => {
    using ns = NetNS.create();
    using events = ns.rtnl.watch({ routes: true }, { receiveBuffer: 4096 });
    ns.rtnl.batch(() => {
      for (let i = 0; i < 400; i++) ns.rtnl.routes.create({ dst: `10.0.${i >> 8}.${i & 255}`, type: 'blackhole' });
    });
    const first = (await events.next()).value as RouteEvent;
    expect(first.type).toBe('resync');
    const state = first.type === 'resync' ? first.state : {};
    expect(
      byText(
        ourRoutes(
          ns.rtnl,
          (state.routes ?? []).filter((route) => route.family === 4),
        ),
      ),
    ).toEqual(byText(theirRoutes(ns, '-4 -d route show table all')));
    expect(state.links).toBeUndefined();
    inside(ns, 'ip route add blackhole 10.9.9.9');
    expect((await events.next()).value).toMatchObject({ type: 'new', route: { dst: '10.9.9.9', type: 'blackhole' } });
  });

  it('eight monitors do not hold up the pool of libuv', async () => {
    using ns = NetNS.create();
    const monitors = Array.from({ length: 8 }, () => ns.rtnl.watch());
    const waiting = monitors.map((monitor) => monitor.next());
    const { stat } = await import('node:fs/promises');
    await Promise.all(Array.from({ length: 100 }, () => stat('/')));
    for (const monitor of monitors) monitor.close();
    await Promise.all(waiting);
  });
});

describe.skipIf(!root)('sockets of netlink [needs root]', () => {
  it('interleaved in two namespaces, each gets its own answers', () => {
    using a = NetNS.create();
    using b = NetNS.create();
    a.rtnl.links.create({ kind: 'bridge', name: 'in-a' });
    b.rtnl.links.create({ kind: 'bridge', name: 'in-b' });
    using second = NetNS.open({ fd: a.fd });
    for (let i = 0; i < 50; i++) {
      expect(a.rtnl.links.list().at(-1)?.name).toBe('in-a');
      expect(b.rtnl.links.list().at(-1)?.name).toBe('in-b');
      expect(second.rtnl.links.get('in-a').index).toBe(a.rtnl.links.get('in-a').index);
    }
  });

  it('a message that somebody else sends to its address is not taken for the kernel’s', async () => {
    using ns = NetNS.create();
    using watched = ns.rtnl.watch({ links: true });
    // Any process of the namespace with the capability may send to a port; this one forges a deletion of lo to every port it finds.
    const sent = inside(
      ns,
      `python3 - <<'END'
import socket, struct
s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
s.bind((0, 0))
n = 0
for line in open('/proc/net/netlink').readlines()[1:]:
    f = line.split()
    if f[1] == '0' and int(f[2]) not in (0, s.getsockname()[0]):
        s.sendto(struct.pack('=IHHII', 32, 17, 0, 0, 0) + struct.pack('=BBHiII', 0, 0, 0, 1, 0, 0), (int(f[2]), 0))
        n += 1
print(n)
END`,
    );
    expect(Number(sent)).toBeGreaterThanOrEqual(2);
    expect(ns.rtnl.links.get('lo').name).toBe('lo');
    inside(ns, 'ip link add br0 type bridge');
    expect((await watched.next()).value).toMatchObject({ type: 'new', topic: 'links', link: { name: 'br0' } });
  });
});
