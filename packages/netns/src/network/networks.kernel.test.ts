import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, ip, Other, root } from '../testing/judge.js';
import { reach, World } from '../testing/world.js';
import { type NetworkDriver, type NetworkOptions, Networks } from './index.js';

/** The subnet of the host's wire, of which the upper half is given out. */
const wire = { subnet: '192.0.2.0/24', range: '192.0.2.128/25', gateway: '192.0.2.1' };
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

describe.skipIf(!root)('networks that are kept [needs root]', () => {
  let world: World;
  let directory: string;
  let networks: Networks;
  beforeEach(() => {
    world = new World();
    directory = mkdtempSync(join(tmpdir(), 'iso-networks-'));
    networks = Networks.open({ directory, host: world.host });
  });
  afterEach(async () => {
    networks.close();
    rmSync(directory, { recursive: true });
    await world.close();
  });

  const state = () => [
    ip(world.host, 'link').map((link) => link.ifname),
    inside(world.host, 'nft list ruleset'),
    inside(world.host, 'ip route; ip -6 route').replaceAll(' linkdown', ''),
    readdirSync(directory).filter((name) => name !== 'lock'),
  ];

  /** What another process has to begin with. */
  const opened = () => `
    import { once } from 'node:events';
    import { NetNS } from '@iso/netns';
    import { Networks } from '@iso/netns/network';
    // What is let go before it is closed is closed with a warning.
    globalThis.held = [];
    const hold = (value) => (held.push(value), value);
    const ns = (fd) => hold(NetNS.open({ path: '/proc/${process.pid}/fd/' + fd }));
    const tell = (value) => console.log(JSON.stringify(value ?? null));
    const go = async () => { await once(process.stdin, 'data'); };
    const host = ns(${world.host.fd.number});
    const networks = hold(Networks.open({ directory: '${directory}', host }));
    const get = (name) => hold(networks.get(name));`;

  it('one process makes it, another attaches, a third one is found by its name, detaches and removes', async () => {
    const before = state();
    {
      await using maker = new Other(`${opened()}
        hold(networks.create({ name: 'a b', subnets: ['10.50.0.0/24', 'fd00:50::/64'] }));
        tell(networks.list().map(({ name }) => name));`);
      expect(await maker.read()).toEqual(['a b']);
      await maker.end();
    }
    world.serve(world.outside, 80);
    await using user = new Other(`${opened()}
      const box = hold(NetNS.create());
      const endpoint = await get('a b').attach(box, { names: ['web'] });
      box.listen({ port: 80 }, (socket) => socket.end('from the other process'));
      tell([endpoint.ip, endpoint.ip6]);
      await go();
      process.exit();`);
    expect(await user.read()).toEqual(['10.50.0.2', 'fd00:50::2']);
    const network = networks.get('a b');
    expect(network.members).toMatchObject([{ names: ['web'], ip: '10.50.0.2', ports: [] }]);
    expect(network.endpoints.size).toBe(0);
    const own = await network.attach(world.a);
    expect(own.ip).toBe('10.50.0.3');
    expect(await reach(world.a, '10.50.0.2', 80)).toBe('from the other process');
    expect(await reach(world.a, '192.0.2.2', 80)).toBe('192.0.2.1');
    expect(() => networks.remove('a b')).toThrow(
      code('EBUSY', { hint: `in it are web (of process ${user.process.pid}), 10.50.0.3 (of process ${process.pid})` }),
    );
    await user.end();
    // Its namespace ended with it.
    await expect.poll(() => network.sweep(), { timeout: 10_000 }).toEqual(['10.50.0.2', 'fd00:50::2']);
    expect(network.find(world.a)).toBe(own);
    expect(() => network.find(world.b)).toThrow(code('ENOENT'));
    await own.detach();
    network.close();
    networks.remove('a b');
    expect(state()).toEqual(before);
    expect(() => networks.get('a b')).toThrow(code('ENOENT'));
  });

  it('what is to stay stays when its process ends, and another detaches it; not while somebody publishes it', async () => {
    networks.create({ name: 'app', subnets: ['10.50.0.0/24'] }).close();
    await using connects = new Other(`${opened()}
      const network = get('app');
      (await network.attach(ns(${world.a.fd.number}))).keep();
      network.close();
      tell('done');`);
    expect(await connects.read()).toBe('done');
    await connects.end();
    expect(ip(world.a, '-4 addr show eth0')).toMatchObject([{ addr_info: [{ local: '10.50.0.2' }] }]);
    await using publishes = new Other(`${opened()}
      const endpoint = get('app').find(ns(${world.a.fd.number}));
      const port = await endpoint.publish({ port: 80, host: '0.0.0.0', hostPort: 8080, mode: 'nat' });
      tell('published');
      await go();
      await port.close();
      tell('taken back');
      await go();`);
    expect(await publishes.read()).toBe('published');
    world.serve(world.a, 80);
    expect(await reach(world.outside, '192.0.2.1', 8080)).toBe('192.0.2.2');
    using network = networks.get('app');
    expect(network.members[0]?.ports).toMatchObject([{ protocol: 'tcp', host: '0.0.0.0', hostPort: 8080, port: 80 }]);
    const endpoint = network.find(world.a);
    await expect(endpoint.detach()).rejects.toThrow(
      code('EBUSY', { hint: `process ${publishes.process.pid} publishes its port 80` }),
    );
    publishes.go();
    expect(await publishes.read()).toBe('taken back');
    expect(network.members[0]?.ports).toEqual([]);
    await endpoint.detach();
    expect(ip(world.a, 'link').map((link) => link.ifname)).toEqual(['lo']);
    expect(network.members).toEqual([]);
  });

  it('two processes race for one port: one wins, the other is told who has it', async () => {
    networks.create({ name: 'app', subnets: ['10.50.0.0/24'] }).close();
    const racer = `${opened()}
      const box = hold(NetNS.create());
      const endpoint = await get('app').attach(box);
      for (const protocol of ['tcp', 'udp']) {
        tell('ready');
        await go();
        const options = { port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat', protocol };
        tell(await endpoint.publish(options).then(() => 'won', ({ code, hint }) => ({ code, hint })));
      }
      await go();
      process.exit();`;
    await using one = new Other(racer);
    await using other = new Other(racer);
    const racers = [one, other];
    for (const _ of ['tcp', 'udp']) {
      expect(await Promise.all(racers.map((each) => each.read()))).toEqual(['ready', 'ready']);
      for (const each of racers) each.go();
      const results = await Promise.all(racers.map((each) => each.read()));
      const winner = racers[results.indexOf('won')];
      const name = readFileSync(`/proc/${winner?.process.pid}/comm`, 'utf8').trim();
      const hint = `process ${winner?.process.pid} (${name}) has 0.0.0.0:8080`;
      expect(results.filter((result) => result !== 'won')).toEqual([{ code: 'EADDRINUSE', hint }]);
    }
  });

  it('sixteen attach from two processes at once: each has an address of its own', async () => {
    networks.create({ name: 'app', subnets: ['10.50.0.0/27'] }).close();
    const others = Array.from(
      { length: 2 },
      () =>
        new Other(`${opened()}
          const network = get('app');
          const boxes = Array.from({ length: 8 }, () => hold(NetNS.create()));
          tell('ready');
          await go();
          tell((await Promise.all(boxes.map((box) => network.attach(box)))).map(({ ip }) => ip));
          await go();
          process.exit();`),
    );
    try {
      for (const each of others) await each.read();
      for (const each of others) each.go();
      const addresses = (await Promise.all(others.map((each) => each.read()))).flat();
      expect(new Set(addresses).size).toBe(16);
      using network = networks.get('app');
      expect(network.members.map((member) => member.ip).sort()).toEqual([...addresses].sort());
    } finally {
      for (const each of others) await each.end('SIGKILL');
    }
    using network = networks.get('app');
    await expect.poll(() => network.sweep() && network.members.length, { timeout: 10_000 }).toBe(0);
  });

  it('is whole again after a restart, and after others flushed its rules', async () => {
    const made = networks.create({ name: 'app', subnets: ['10.50.0.0/24'], ipv6: true });
    const [, six] = made.subnets;
    expect(six).toMatch(/^fd[0-9a-f]{2}:[0-9a-f:]+::\/64$/);
    const rules = inside(world.host, 'nft list ruleset');
    made.close();
    expect(inside(world.host, 'nft list ruleset')).toBe(rules);
    inside(world.host, 'nft flush ruleset');
    networks.get('app').close();
    expect(inside(world.host, 'nft list ruleset')).toBe(rules);
    const [bridge] = world.host.rtnl.links.list({ kind: 'bridge' });
    world.host.rtnl.links.remove(bridge?.name as string);
    inside(world.host, 'nft flush ruleset');
    using network = networks.get('app');
    expect(inside(world.host, 'nft list ruleset')).toBe(rules);
    const endpoint = await network.attach(world.a);
    world.serve(world.outside, 80);
    expect(await reach(world.a, '192.0.2.2', 80)).toBe('192.0.2.1');
    // Nor does it keep who is in it from leaving.
    await endpoint.egress({ allow: ['192.0.2.2'] });
    inside(world.host, 'nft flush ruleset');
    await endpoint.detach();
    expect(network.members).toEqual([]);
  });

  it('drivers of one’s own, and the wire of the host’s links', async () => {
    const calls: string[] = [];
    const mine: NetworkDriver = {
      name: 'mine',
      open: ({ options }, { host }) => ({
        join(netns, { link, mac }) {
          calls.push(`join ${options.end}`);
          host.rtnl.links.create({ kind: 'veth', name: 'mine0', up: true, peer: { name: link, netns, mac } });
          return mac;
        },
        leave() {
          calls.push('leave');
          host.rtnl.links.remove('mine0');
        },
        close: () => calls.push('close'),
        remove: () => calls.push('remove'),
      }),
    };
    using all = Networks.open({ directory, host: world.host, drivers: [mine] });
    const network = all.create({ name: 'own', driver: mine, subnets: ['10.9.0.0/30'], options: { end: 'x' } });
    const endpoint = await network.attach(world.a);
    expect(ip(world.a, '-4 addr show eth0')).toMatchObject([{ addr_info: [{ local: '10.9.0.2' }] }]);
    await endpoint.publish({ port: 80, hostPort: 8080 });
    world.serve(world.a, 80);
    expect(await reach(world.host, '127.0.0.1', 8080)).toBe('127.0.0.1');
    await expect(endpoint.publish({ port: 80, mode: 'nat', host: '0.0.0.0' })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
    await expect(endpoint.limit({ in: 1e6 })).rejects.toThrow(code('EUNSUPPORTED'));
    network.close();
    all.remove('own');
    expect(calls).toEqual(['join x', 'leave', 'close', 'remove']);
    all.create({ name: 'own', driver: mine, subnets: ['10.9.0.0/30'] }).close();
    expect(() => networks.get('own')).toThrow(code('ERR_INVALID_ARG_VALUE'));

    const lan = networks.create({
      name: 'lan',
      driver: 'macvlan',
      subnets: [wire],
      options: { parent: 'up0' },
    });
    const box = await lan.attach(world.b);
    expect(ip(world.b, '-d link show eth0')).toMatchObject([
      { address: box.mac, linkinfo: { info_kind: 'macvlan', info_data: { mode: 'bridge' } } },
    ]);
    world.serve(world.outside, 80);
    expect(await reach(world.b, '192.0.2.2', 80)).toBe(box.ip);
    expect(() => networks.remove('lan')).toThrow(code('EBUSY'));
    lan.close();
    networks.remove('lan');
    expect(ip(world.b, 'link').map((link) => link.ifname)).toEqual(['lo']);
  });

  it('ipvlan, or the kernel’s own words for its lack', async () => {
    const lan = networks.create({
      name: 'lan',
      driver: 'ipvlan',
      subnets: [wire],
      options: { parent: 'up0' },
    });
    const before = [inside(world.b, 'ip link'), networks.list().length, lan.members.length];
    try {
      await lan.attach(world.b);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EUNSUPPORTED', feature: 'a link of kind ipvlan' });
      expect(() => inside(world.host, 'ip link add y link up0 type ipvlan')).toThrow(/Unknown device type/);
      expect([inside(world.b, 'ip link'), networks.list().length, lan.members.length]).toEqual(before);
      lan.close();
      return;
    }
    expect(ip(world.b, '-d link show eth0')).toMatchObject([
      { linkinfo: { info_kind: 'ipvlan', info_data: { mode: 'l2' } } },
    ]);
    world.serve(world.outside, 80);
    expect(await reach(world.b, '192.0.2.2', 80)).toBe('192.0.2.128');
    lan.close();
    const routed = networks.create({
      name: 'l3',
      driver: 'ipvlan',
      subnets: ['10.77.0.0/24'],
      options: { parent: 'up0', mode: 'l3' },
    });
    await routed.attach(world.b);
    expect(ip(world.b, 'route show default')).toMatchObject([{ dev: 'eth0', scope: 'link' }]);
    routed.close();
  });

  it('refuses what does not fit, in words, and leaves nothing', () => {
    const create = (options: NetworkOptions & { host?: never }) => () => networks.create(options);
    networks.create({ name: 'app', subnets: ['10.50.0.0/24'] }).close();
    world.host.rtnl.links.create({ kind: 'veth', name: 'down0', peer: { name: 'down1' } });
    const before = state();
    expect(create({ name: 'app' })).toThrow(code('EEXIST', { hint: 'there is a network app' }));
    expect(create({ name: 'b', subnets: ['10.50.0.128/25'] })).toThrow(
      code('EADDRINUSE', { hint: 'network app has 10.50.0.0/24' }),
    );
    expect(create({ name: 'b', subnets: ['192.0.2.0/26'] })).toThrow(
      code('EADDRINUSE', { hint: expect.stringMatching(/by up0/) }),
    );
    expect(create({ name: 'b', options: { bridge: 'up0' } })).toThrow(code('EEXIST'));
    expect(create({ name: 'b', options: { bridge: 'sixteen-bytes-xx' } })).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(create({ name: 'b', driver: 'macvlan', options: { parent: 'nope' } })).toThrow(code('ENODEV'));
    expect(create({ name: 'b', driver: 'macvlan', options: { parent: 'down0' } })).toThrow(
      code('ENETDOWN', { hint: expect.stringMatching(/down0 is up/) }),
    );
    expect(create({ name: 'b', driver: 'macvlan', internal: true, options: { parent: 'up0' } })).toThrow(
      code('ERR_INVALID_ARG_VALUE'),
    );
    for (const bad of [
      { name: '' },
      { name: 'a\0' },
      { name: 'x'.repeat(300) },
      { name: 'b', subnets: ['10.0.0/24'] },
      { name: 'b', subnets: [] },
      { name: 'b', subnets: ['10.1.0.0/24', '10.2.0.0/24'] },
      { name: 'b', driver: 'nonesuch' },
      { name: 'b', driver: 'macvlan' },
      { name: 'b', driver: 'macvlan', options: { parent: 'up0', mode: 'x' } },
      { name: 'b', options: { isolatd: true } },
    ])
      expect(create(bad as NetworkOptions & { host?: never }), JSON.stringify(bad)).toThrow(
        code('ERR_INVALID_ARG_VALUE'),
      );
    expect(state()).toEqual(before);
    const [record] = readdirSync(directory).filter((name) => name.endsWith('.network'));
    // What others put there is none of ours.
    for (const file of ['%zz.network', 'a b.network']) writeFileSync(join(directory, file), '{}');
    expect(networks.list().map(({ name }) => name)).toEqual(['app']);
    for (const text of ['{', '[]', '{"name":"app"}', 'null']) {
      writeFileSync(join(directory, record as string), text);
      expect(() => networks.get('app'), text).toThrow(code('EBADMSG'));
    }
  });

  it('a namespace on the wire gives its address back when nobody is in it, nor holds it', async () => {
    const options = { driver: 'macvlan', subnets: ['192.0.2.128/29'], options: { parent: 'up0' } } as const;
    using lan = networks.create({ name: 'lan', ...options });
    await using user = new Other(`${opened()}
      const lan = networks.get('lan');
      const boxes = [ns(${world.a.fd.number}), NetNS.create()];
      tell([(await lan.attach(boxes[0])).ip, (await lan.attach(boxes[1])).ip]);
      await go();`);
    expect(await user.read()).toEqual(['192.0.2.130', '192.0.2.131']);
    expect(lan.sweep()).toEqual([]);
    const sleeper = NetNS.create();
    await lan.attach(sleeper, { ip: '192.0.2.133' });
    await expect(lan.attach(world.b, { ip: '192.0.2.131' })).rejects.toThrow(code('EADDRINUSE'));
    await user.end('SIGKILL');
    // Its own was freed when it was asked for; what this process has open lives.
    // The kernel takes a dead namespace's link, and with it the hardware address, off the wire when it gets to it: that is waited for.
    expect((await lan.attach(world.b, { ip: '192.0.2.131' })).ip).toBe('192.0.2.131');
    // One that lives is not, for ever.
    const { mac } = lan.find(sleeper);
    const taken = { mac, ip: '192.0.2.134', link: 'eth1' };
    await expect(lan.attach(world.a, { ...taken, signal: AbortSignal.timeout(50) })).rejects.toThrow('aborted');
    if (process.env.ISO_LONG)
      await expect(lan.attach(world.a, taken)).rejects.toMatchObject({ code: 'EADDRINUSE', hint: /has this MAC/ });
    expect(lan.members.map((member) => member.ip).sort()).toEqual(['192.0.2.131', '192.0.2.133']);
    sleeper.close();
    expect(lan.sweep()).toEqual(['192.0.2.133']);
  });
});
