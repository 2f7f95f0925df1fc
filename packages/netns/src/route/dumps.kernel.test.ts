import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { kernel, replaceKernel } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { inside, ip, root } from '../testing/judge.js';
import {
  byText,
  ourAddresses,
  ourLinks,
  ourRoutes,
  same,
  theirAddresses,
  theirLinks,
  theirRoutes,
} from '../testing/rows.js';

const LONG = process.env.ISO_LONG !== undefined;
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

/** A namespace with a link that routes lead to. */
function lab(): NetNS {
  const ns = NetNS.create();
  ns.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
  ns.rtnl.links.set('v1', { up: true });
  ns.rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/16' });
  return ns;
}

/** What somebody else does inside meanwhile, without an end. */
async function during(ns: NetNS, loop: string, work: () => void): Promise<void> {
  const net = `--net=/proc/${process.pid}/fd/${ns.fd.number}`;
  const churn = spawn('nsenter', [net, 'sh', '-c', loop], { stdio: 'ignore', detached: true });
  const ended = once(churn, 'exit');
  try {
    work();
    expect(churn.exitCode).toBeNull();
  } finally {
    process.kill(-(churn.pid as number), 'SIGKILL');
    await ended;
  }
}

/** What begins to read all links or all addresses, and from which message on. */
const asksForAll = (request: Buffer) => {
  const [GETLINK, GETADDR, DUMP] = [18, 22, 0x300];
  return (
    [GETLINK, GETADDR].includes(request.readUInt16LE(4)) &&
    (request.readUInt16LE(6) & DUMP) === DUMP &&
    request.readInt32LE(20) === 0
  );
};

/** In every attempt to read all links or all addresses, `ip` changes some between the first two parts. Tells how many attempts there were. */
function disturbed(ns: NetNS, work: () => void): number {
  const real = kernel();
  let [attempts, begins] = [0, false];
  const undo = replaceKernel({
    launch: (plan) => real.launch(plan),
    call(name, args) {
      if (name === 'recvfrom' && begins) {
        begins = false;
        attempts += 1;
        inside(ns, 'ip -batch -', 'link add c type ifb\naddr add 10.9.9.9/32 dev c\nlink del c\n');
      }
      if (name === 'sendto') begins = asksForAll(args[1] as Buffer);
      return real.call(name, args);
    },
  });
  try {
    work();
  } finally {
    undo();
  }
  return attempts;
}

describe.skipIf(!root)('long dumps equal ip’s [needs root]', () => {
  it('1,000 links with their addresses and queues; removed by their group at once', async () => {
    using ns = NetNS.create();
    using other = NetNS.create();
    const { rtnl } = ns;
    rtnl.links.create({ kind: 'bridge', name: 'br0', up: true });
    const master = rtnl.links.index('br0');
    rtnl.batch(() => {
      for (let i = 0; i < 500; i++) {
        rtnl.links.create({
          kind: 'veth',
          name: `v${i}`,
          group: 9,
          master,
          up: i % 2 === 0,
          peer: { name: `w${i}`, mtu: 1300 + i },
        });
      }
    });
    // Its other end is in another namespace, which has a number here.
    rtnl.links.create({ kind: 'veth', name: 'away', peer: { name: 'there', netns: other } });
    rtnl.links.set('v3', { alias: 'three' });
    rtnl.links.addNames('v4', 'the-fourth-of-the-links', 'four');
    const indexes = rtnl.links.list({ master: 'br0' }).map(({ index }) => index);
    rtnl.batch(() => {
      for (const [i, link] of indexes.entries()) {
        rtnl.addresses.create({ link, address: `10.${i >> 8}.${i & 255}.1/24` });
        rtnl.addresses.create({ link, address: `fd00:${i}::1/64`, flags: ['nodad'] });
      }
    });
    expect(rtnl.links.list({ stats: true }).length).toBe(1003);
    // Operational states settle on their own.
    await expect.poll(() => [ourLinks(rtnl.links.list()), theirLinks(ns)], { timeout: 15_000 }).toSatisfy(same);
    const addresses = () => [byText(ourAddresses(rtnl, rtnl.addresses.list())), byText(theirAddresses(ns))];
    await expect.poll(addresses, { timeout: 15_000 }).toSatisfy(same);
    expect(rtnl.addresses.list({ family: 4 }).length).toBe(501);
    const names = new Map(rtnl.links.list().map((link) => [link.index, link.name]));
    const theirs = JSON.parse(inside(ns, 'tc -j qdisc')) as { dev: string; kind: string; handle: string }[];
    expect(byText(rtnl.qdiscs.list().map((one) => [names.get(one.link), one.kind, one.handle ?? '0:']))).toEqual(
      byText(theirs.map((one) => [one.dev, one.kind, one.handle])),
    );
    expect(rtnl.links.list({ master: 'br0' }).length).toBe(500);
    expect(rtnl.links.list({ kind: 'bridge' }).length).toBe(1);
    rtnl.links.removeGroup(9);
    expect(ip(ns, 'link').map((link) => link.ifname)).toEqual(['lo', 'br0', 'away']);
  });

  it('20,000 routes; a batch says which failed, and does the others', () => {
    using ns = lab();
    const { rtnl } = ns;
    const link = rtnl.links.index('v0');
    rtnl.batch(() => {
      for (let i = 0; i < 20_000; i++)
        rtnl.routes.create({ dst: `11.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, gateway: '10.0.0.2', link, metric: i });
    });
    const ours = rtnl.routes.list({ family: 4, table: 'main' });
    expect(ours.length).toBe(20_001);
    expect(byText(ourRoutes(rtnl, ours))).toEqual(byText(theirRoutes(ns, '-4 -d route')));
    expect(() =>
      rtnl.batch(() => {
        rtnl.routes.create({ dst: '12.0.0.0/24', link });
        rtnl.routes.create({ dst: '12.0.1.0/24', gateway: '99.0.0.1', link });
        rtnl.routes.create({ dst: '12.0.2.0/24', link });
      }),
    ).toThrow(code('ENETUNREACH', { info: expect.objectContaining({ index: 1 }) }));
    expect(
      rtnl.routes
        .list({ table: 'main' })
        .filter((route) => route.dst.startsWith('12.'))
        .map((route) => route.dst),
    ).toEqual(['12.0.0.0/24', '12.0.2.0/24']);
  });

  const LINKS = LONG ? 1000 : 200;
  it(`${LINKS} links while others come and go: those that stay are there once, as ip saw them before`, async () => {
    using ns = NetNS.create();
    const { links } = ns.rtnl;
    ns.rtnl.batch(() => {
      for (let i = 0; i < LINKS; i++)
        links.create({ kind: 'ifb', name: `keep${i}`, mtu: 1300 + (i % 200), up: i % 3 === 0 });
    });
    const kept = (rows: { ifname: unknown }[]) => rows.filter(({ ifname }) => `${ifname}`.startsWith('keep'));
    const ours = () => kept(ourLinks(links.list()));
    await expect.poll(() => [ours(), kept(theirLinks(ns))], { timeout: 15_000 }).toSatisfy(same);
    const before = kept(theirLinks(ns));
    expect(before.length).toBe(LINKS);
    await during(ns, 'while :; do ip link add c type bridge; ip link del c; done', () => {
      for (let i = 0; i < (LONG ? 200 : 15); i++) expect(same([ours(), before])).toBe(true);
    });
    await expect.poll(() => [ourLinks(links.list()), theirLinks(ns)]).toSatisfy(same);
    // Five attempts at each, at the most, where others have the machine too.
  }, 180_000);

  it('links and addresses where no attempt to read them ends undisturbed', () => {
    using ns = NetNS.create();
    const { rtnl } = ns;
    for (let i = 0; i < 400; i++) rtnl.links.create({ kind: 'ifb', name: `keep${i}`, group: 1 });
    for (const { index, name } of rtnl.links.list())
      if (name !== 'lo')
        for (const net of [1, 2])
          rtnl.addresses.create({ link: index, address: `10.${net}.${index >> 8}.${index & 255}/32` });
    const attempts = disturbed(ns, () => {
      const [links, addresses] = [rtnl.links.list(), rtnl.addresses.list()];
      expect(links.length).toBe(401);
      expect(ourLinks(links)).toEqual(theirLinks(ns));
      expect(addresses.length).toBe(802);
      expect(byText(ourAddresses(rtnl, addresses))).toEqual(byText(theirAddresses(ns)));
    });
    // Links twice: the names of those that have addresses are asked for too.
    expect(attempts).toBe(3 * 5);
  });

  it('links and addresses where no attempt ends undisturbed, and parts are missing', () => {
    using ns = NetNS.create();
    const { rtnl } = ns;
    for (let i = 0; i < 120; i++) {
      rtnl.links.create({ kind: 'ifb', name: `keep${i}` });
      for (let j = 1; j < 9; j++) rtnl.addresses.create({ link: `keep${i}`, address: `10.${j}.0.${i}/32` });
    }
    const real = kernel();
    let [attempts, parts, all] = [0, 0, false];
    const undo = replaceKernel({
      launch: (plan) => real.launch(plan),
      call(name, args) {
        if (name === 'sendto') {
          all = asksForAll(args[1] as Buffer);
          [attempts, parts] = [attempts + (all ? 1 : 0), 0];
        }
        const length = Number(real.call(name, args));
        const bytes = args[1] as Buffer;
        const [NEWLINK, NEWADDR, DUMP_INTR] = [16, 20, 0x10];
        if (!all || name !== 'recvfrom' || length < 16 || ![NEWLINK, NEWADDR].includes(bytes.readUInt16LE(4)))
          return length;
        bytes.writeUInt16LE(bytes.readUInt16LE(6) | DUMP_INTR, 6);
        // Of one part only the first one arrives; of which differs from attempt to attempt.
        return parts++ === attempts % 3 ? bytes.readUInt32LE(0) : length;
      },
    });
    try {
      expect(ourLinks(rtnl.links.list())).toEqual(theirLinks(ns));
      expect(byText(ourAddresses(rtnl, rtnl.addresses.list()))).toEqual(byText(theirAddresses(ns)));
      expect(attempts).toBe(3 * 5);
    } finally {
      undo();
    }
  });

  const ROUTES = LONG ? 20_000 : 4000;
  it(`${ROUTES} routes while others come and go: those that stay are there once, as ip saw them before`, async () => {
    using ns = lab();
    const { rtnl } = ns;
    const link = rtnl.links.index('v0');
    rtnl.batch(() => {
      for (let i = 0; i < ROUTES; i++)
        rtnl.routes.create({ dst: `11.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, link, metric: 7 });
    });
    const ours = () => ourRoutes(rtnl, rtnl.routes.list({ family: 4, table: 'main' }));
    const kept = (rows: { metric: unknown }[]) => byText(rows.filter(({ metric }) => metric === 7));
    const before = kept(theirRoutes(ns, '-4 -d route'));
    expect(before.length).toBe(ROUTES);
    const loop =
      'while :; do for i in 1 2 3 4 5 6 7 8; do echo route add 11.0.9.$i dev v0; done; for i in 1 2 3 4 5 6 7 8; do echo route del 11.0.9.$i dev v0; done; done | ip -batch -';
    await during(ns, loop, () => {
      for (let i = 0; i < 20; i++) expect(same([kept(ours()), before])).toBe(true);
    });
    // The last of them may still be on its way out.
    await expect.poll(() => [byText(ours()), byText(theirRoutes(ns, '-4 -d route'))]).toSatisfy(same);
  }, 60_000);
});
