import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { NLM_F } from '../netlink/raw.js';
import { inside, outside, root } from '../testing/judge.js';
import { classMessage } from './classes.js';
import { type FilterPlace, filterMessage } from './filters.js';
import type { ClassSettings, FilterSettings, QdiscSettings } from './index.js';
import { ipv4Keys } from './index.js';
import { type QdiscPlace, qdiscMessage } from './qdiscs.js';

const straceMissing = outside('command -v strace || true') === '';
const MESSAGES = new Set([36, 40, 44]);

/** The message that `tc` sends, whether or not this kernel takes it: strace writes out what goes to its socket. */
function sentByTc(ns: NetNS, args: string): Buffer {
  const strace = 'strace -e trace=sendmsg -e write=3 -o "$file"';
  const written = inside(ns, `file=$(mktemp); ${strace} tc ${args} >/dev/null 2>&1; cat "$file"; rm "$file"`);
  const messages = written
    .split(/^ \* \d+ bytes in buffer.*$/m)
    .slice(1)
    .map((text) => {
      const lines = [...text.matchAll(/^ \| [0-9a-f]{5} {2}(.{48,49}) /gm)];
      return Buffer.from(lines.map((line) => (line[1] as string).replaceAll(' ', '')).join(''), 'hex');
    });
  const message = messages.find((bytes) => MESSAGES.has(bytes.readUInt16LE(4)));
  if (!message) throw new Error(`tc ${args} sent nothing`);
  return message;
}

/** Without what the socket adds: acknowledgement, sequence, port. */
function plain(message: Buffer): string {
  const copy = Buffer.from(message);
  copy.writeUInt16LE(copy.readUInt16LE(6) & ~NLM_F.ACK, 6);
  copy.fill(0, 8, 16);
  return copy.toString('hex');
}

function lab(): NetNS {
  const ns = NetNS.create();
  ns.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1' } });
  ns.rtnl.links.set('v1', { up: true });
  ns.rtnl.links.create({ kind: 'ifb', name: 'i0', up: true });
  return ns;
}

const CREATE = NLM_F.CREATE | NLM_F.EXCL;

describe.skipIf(!root || straceMissing)('what is sent is what tc sends, byte by byte [needs root, strace]', () => {
  const qdiscs: [string, Omit<QdiscPlace, 'link'>, QdiscSettings][] = [
    [
      'root handle 1: tbf rate 10mbit burst 64kb latency 50ms',
      { handle: '1:' },
      { kind: 'tbf', rate: 10e6, burst: 65536, latency: 50 },
    ],
    ['root tbf rate 1gbit burst 1mb limit 3000000', {}, { kind: 'tbf', rate: 1e9, burst: 2 ** 20, limit: 3_000_000 }],
    ['root tbf rate 100gbit burst 10mb latency 1ms', {}, { kind: 'tbf', rate: 100e9, burst: 10 * 2 ** 20, latency: 1 }],
    ['root tbf rate 9600bit burst 1600 latency 200ms', {}, { kind: 'tbf', rate: 9600, burst: 1600, latency: 200 }],
    ['root handle 1: htb default 10', { handle: '1:' }, { kind: 'htb', defaultClass: 0x10 }],
    ['root fq_codel', {}, { kind: 'fq_codel' }],
    [
      'parent 1:10 handle 20: fq_codel limit 1000 flows 512 quantum 300 interval 100ms target 5ms ecn',
      { parent: '1:10', handle: '20:' },
      { kind: 'fq_codel', limit: 1000, flows: 512, quantum: 300, interval: 100, target: 5, ecn: true },
    ],
    ['root netem delay 10ms', {}, { kind: 'netem', delay: 10 }],
    [
      'root netem delay 100ms 10ms 25% loss 1% duplicate 2% reorder 5% 50% corrupt 0.1% rate 1mbit',
      {},
      {
        kind: 'netem',
        delay: 100,
        jitter: 10,
        delayCorrelation: 25,
        loss: 1,
        duplicate: 2,
        reorder: 5,
        reorderCorrelation: 50,
        corrupt: 0.1,
        rate: 1e6,
      },
    ],
    ['root netem limit 5 loss 33.3%', {}, { kind: 'netem', limit: 5, loss: 33.3 }],
    ['root pfifo limit 10', {}, { kind: 'pfifo', limit: 10 }],
    ['ingress', {}, { kind: 'ingress' }],
    ['clsact', {}, { kind: 'clsact' }],
  ];
  it.each(qdiscs)('qdisc %s', (args, place, settings) => {
    using ns = lab();
    const index = ns.rtnl.links.index('v0');
    const ours = qdiscMessage({ link: 'v0', ...place }, settings, CREATE, index);
    expect(plain(ours.bytes)).toBe(plain(sentByTc(ns, `qdisc add dev v0 ${args}`)));
  });

  const classes: [string, { parent: string; handle: string }, ClassSettings][] = [
    [
      'parent 1: classid 1:10 htb rate 10mbit ceil 20mbit',
      { parent: '1:', handle: '1:10' },
      { rate: 10e6, ceil: 20e6 },
    ],
    [
      'parent 1:1 classid 1:a htb rate 1gbit ceil 100gbit burst 100kb cburst 1mb quantum 3000 prio 3',
      { parent: '1:1', handle: '1:a' },
      { rate: 1e9, ceil: 100e9, burst: 102400, ceilBurst: 2 ** 20, quantum: 3000, priority: 3 },
    ],
  ];
  it.each(classes)('class %s', (args, place, settings) => {
    using ns = lab();
    inside(ns, 'tc qdisc add dev v0 root handle 1: htb');
    const ours = classMessage({ link: 'v0', ...place }, settings, CREATE, ns.rtnl.links.index('v0'));
    expect(plain(ours.bytes)).toBe(plain(sentByTc(ns, `class add dev v0 ${args}`)));
  });

  const filters: [string, Omit<FilterPlace, 'link'>, FilterSettings][] = [
    [
      'parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev i0',
      { parent: 'ffff:', priority: 1 },
      { kind: 'u32', action: { kind: 'mirred', how: 'egress redirect', link: 'i0' } },
    ],
    [
      'parent 1: protocol ip prio 2 u32 match ip dst 10.0.0.0/8 match ip src 192.168.1.1 match ip protocol 6 0xff match ip dport 80 0xffff flowid 1:10',
      { parent: '1:', priority: 2, protocol: 'ip' },
      {
        kind: 'u32',
        match: [
          ...ipv4Keys({ destination: '10.0.0.0/8' }),
          ...ipv4Keys({ source: '192.168.1.1', protocol: 6, destinationPort: 80 }),
        ],
        class: '1:10',
      },
    ],
    [
      'ingress protocol all prio 5 matchall action police rate 1mbit burst 10k conform-exceed drop',
      { parent: 'ingress', priority: 5 },
      { kind: 'matchall', action: { kind: 'police', rate: 1e6, burst: 10240 } },
    ],
    [
      'egress protocol ip prio 6 matchall action mirred egress mirror dev i0',
      { parent: 'egress', priority: 6, protocol: 'ip' },
      { kind: 'matchall', action: { kind: 'mirred', how: 'egress mirror', link: 'i0' } },
    ],
  ];
  it.each(filters)('filter %s', (args, place, settings) => {
    using ns = lab();
    const { links } = ns.rtnl;
    const ours = filterMessage({ link: 'v0', ...place }, settings, links.index('v0'), (link) => links.index(link));
    expect(plain(ours.bytes)).toBe(plain(sentByTc(ns, `filter add dev v0 ${args}`)));
  });
});

describe.skipIf(!root)('traffic control [needs root]', () => {
  it('lists, changes and removes what tc sees', () => {
    using ns = lab();
    const { qdiscs, classes, filters } = ns.rtnl;
    qdiscs.create({ link: 'v0', handle: '1:' }, { kind: 'htb', defaultClass: 0x10 });
    classes.create({ link: 'v0', parent: '1:', handle: '1:10' }, { rate: 10e6 });
    classes.create({ link: 'v0', parent: '1:', handle: '1:20' }, { rate: 5e6, ceil: 8e6 });
    classes.set({ link: 'v0', parent: '1:', handle: '1:20' }, { rate: 6e6 });
    qdiscs.create({ link: 'v0', parent: '1:10', handle: '10:' }, { kind: 'pfifo', limit: 7 });
    filters.create(
      { link: 'v0', parent: '1:', priority: 3, protocol: 'ip' },
      { kind: 'u32', match: ipv4Keys({ destination: '10.0.0.0/8' }), class: '1:20' },
    );
    qdiscs.create({ link: 'v1' }, { kind: 'clsact' });
    const theirs = JSON.parse(inside(ns, 'tc -j -s qdisc')) as {
      kind: string;
      handle: string;
      dev: string;
      bytes: number;
    }[];
    const names = new Map(ns.rtnl.links.list().map((link) => [link.index, link.name]));
    const sorted = (list: string[]) => list.sort();
    expect(sorted(qdiscs.list().map((one) => `${names.get(one.link)} ${one.kind} ${one.handle ?? '0:'}`))).toEqual(
      sorted(theirs.map((one) => `${one.dev} ${one.kind} ${one.handle}`)),
    );
    expect(inside(ns, 'tc class show dev v0')).toMatch(/class htb 1:20 root prio 0 rate 6Mbit ceil 6Mbit/);
    expect(
      classes
        .list('v0')
        .map((one) => one.handle)
        .sort(),
    ).toEqual(['1:10', '1:20']);
    expect(inside(ns, 'tc filter show dev v0')).toMatch(/pref 3 u32.*flowid 1:20[\s\S]*match 0a000000\/ff000000 at 16/);
    expect(filters.list({ link: 'v0', parent: '1:' }).every((one) => one.kind === 'u32' && one.priority === 3)).toBe(
      true,
    );
    expect(() => classes.remove({ link: 'v0', handle: '1:20' })).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    filters.remove({ link: 'v0', parent: '1:', priority: 3, protocol: 'ip' });
    classes.remove({ link: 'v0', handle: '1:20' });
    expect(filters.list({ link: 'v0', parent: '1:' })).toEqual([]);
    qdiscs.remove({ link: 'v0' });
    qdiscs.remove({ link: 'v1', parent: 'ffff:fff1' });
    expect(inside(ns, 'tc qdisc')).not.toMatch(/htb|clsact/);
    expect(() => qdiscs.remove({ link: 'v0' })).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    for (const handle of ['', '1', 'x:1', '1:12345', '1:2:3'])
      expect(() => qdiscs.create({ link: 'v0', handle }, { kind: 'htb' }), handle).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    for (const rate of [0, 7, Number.NaN, -1])
      expect(() => qdiscs.create({ link: 'v0' }, { kind: 'tbf', rate, burst: 1600 })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
  });

  it.each(['fq_codel', 'netem'] as const)('%s is put there, or named where the kernel lacks it', (kind) => {
    using ns = lab();
    let here = true;
    try {
      ns.rtnl.qdiscs.create({ link: 'v0' }, { kind });
    } catch (error) {
      expect(error).toMatchObject({ code: 'EUNSUPPORTED', feature: `queueing discipline ${kind}` });
      here = false;
    }
    const theirs = inside(ns, `tc qdisc replace dev v0 root ${kind} 2>&1 || true`);
    expect(/unknown/.test(theirs)).toBe(!here);
    if (here) expect(inside(ns, 'tc qdisc show dev v0')).toContain(kind);
  });

  /** Two namespaces on a wire, and how long a datagram takes on it; undefined for one that is lost. */
  function wire() {
    const [a, b] = [NetNS.create(), NetNS.create()];
    a.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', netns: b } });
    b.rtnl.links.set('v1', { up: true });
    a.rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/24' });
    b.rtnl.addresses.create({ link: 'v1', address: '10.0.0.2/24' });
    const [from, to] = [a.datagram(), b.datagram({ host: '10.0.0.2', port: 5000 })];
    const passes = (text: string, patience: number) =>
      new Promise<number | undefined>((resolve) => {
        const start = performance.now();
        const finish = (took: number | undefined) => {
          clearTimeout(timer);
          to.off('message', hear);
          resolve(took);
        };
        const hear = (said: Buffer) => String(said) === text && finish(performance.now() - start);
        const timer = setTimeout(finish, patience, undefined);
        to.on('message', hear);
        from.send(text, 5000, '10.0.0.2');
      });
    const close = async () => {
      for (const socket of [from, to]) {
        socket.close();
        await once(socket, 'close');
      }
      for (const ns of [a, b]) ns.close();
    };
    return { a, passes, close };
  }

  /** Whether the kernel has what is made; where it has not, it says so. */
  function has(make: () => void): boolean {
    try {
      make();
      return true;
    } catch (error) {
      expect(error).toMatchObject({ code: 'EUNSUPPORTED' });
      return false;
    }
  }

  it('netem, where there is one, delays and loses', async () => {
    const { a, passes, close } = wire();
    // Whose the address is has to be known.
    expect(await passes('first', 5000)).toBeDefined();
    const { qdiscs } = a.rtnl;
    if (has(() => qdiscs.create({ link: 'v0' }, { kind: 'netem', delay: 300 }))) {
      const took = await passes('late', 5000);
      expect(took).toBeGreaterThan(295);
      qdiscs.replace({ link: 'v0' }, { kind: 'netem', loss: 100 });
      expect(await passes('lost', 500)).toBeUndefined();
      expect(qdiscs.list({ link: 'v0' })[0]?.drops).toBeGreaterThan(0);
      qdiscs.remove({ link: 'v0' });
      expect(await passes('again', 5000)).toBeLessThan(295);
    }
    await close();
  });

  it('fq_codel, where there is one, lets who sends little pass before who sends much', async () => {
    const { a, passes, close } = wire();
    expect(await passes('first', 5000)).toBeDefined();
    const { qdiscs, classes } = a.rtnl;
    qdiscs.create({ link: 'v0', handle: '1:' }, { kind: 'htb', defaultClass: 1 });
    classes.create({ link: 'v0', parent: '1:', handle: '1:1' }, { rate: 1e6, burst: 3000 });
    const flood = async () => {
      const much = a.datagram();
      for (let i = 0; i < 80; i++) much.send(Buffer.alloc(1400), 5001, '10.0.0.2', () => {});
      await new Promise((resolve) => setTimeout(resolve, 30));
      const took = await passes('a word between', 20_000);
      much.close();
      await once(much, 'close');
      return took as number;
    };
    qdiscs.create({ link: 'v0', parent: '1:1', handle: '10:' }, { kind: 'pfifo', limit: 1000 });
    const waits = await flood();
    expect(waits).toBeGreaterThan(400);
    const fair = { kind: 'fq_codel', target: 1000, interval: 2000 } as const;
    if (has(() => qdiscs.replace({ link: 'v0', parent: '1:1', handle: '20:' }, fair)))
      expect(await flood()).toBeLessThan(waits / 2);
    await close();
  });

  it('police, where there is one, drops what is beyond its rate', async () => {
    const { a, passes, close } = wire();
    expect(await passes('first', 5000)).toBeDefined();
    const { qdiscs, filters } = a.rtnl;
    qdiscs.create({ link: 'v0' }, { kind: 'clsact' });
    const action = { kind: 'police', rate: 8000, burst: 500 } as const;
    if (has(() => filters.create({ link: 'v0', parent: 'egress', priority: 1 }, { kind: 'matchall', action }))) {
      const passed = await Promise.all(Array.from({ length: 20 }, (_, i) => passes(`${i} `.padEnd(200, 'x'), 500)));
      const count = passed.filter((took) => took !== undefined).length;
      // The burst, and what the rate lets through while they are sent.
      expect(count).toBeGreaterThanOrEqual(1);
      expect(count).toBeLessThan(10);
    }
    await close();
  });

  it('tbf holds its rate', async () => {
    using a = NetNS.create();
    using b = NetNS.create();
    a.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', netns: b } });
    b.rtnl.links.set('v1', { up: true });
    a.rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/24' });
    b.rtnl.addresses.create({ link: 'v1', address: '10.0.0.2/24' });
    a.rtnl.qdiscs.create({ link: 'v0' }, { kind: 'tbf', rate: 20e6, burst: 65536, latency: 100 });
    let received = 0;
    const sink = b.listen({ port: 9000 }, (socket) => {
      socket.on('data', (chunk) => {
        received += chunk.length;
      });
    });
    const socket = a.connect({ host: '10.0.0.2', port: 9000 });
    await once(socket, 'connect');
    const block = Buffer.alloc(65536);
    const pump = () => {
      while (socket.write(block));
    };
    socket.on('drain', pump);
    const start = performance.now();
    pump();
    while (received < 2_500_000) await new Promise((resolve) => setTimeout(resolve, 20));
    const megabits = (received * 8) / ((performance.now() - start) / 1000) / 1e6;
    socket.destroy();
    sink.close();
    await once(sink, 'close');
    // A machine under load is slower, never faster.
    expect(megabits).toBeLessThan(23);
    expect(a.rtnl.qdiscs.list({ link: 'v0' })[0]?.bytes).toBeGreaterThan(2_500_000n);
  });

  it('what comes in is sent through an ifb', async () => {
    using a = NetNS.create();
    using b = NetNS.create();
    a.rtnl.links.create({ kind: 'veth', name: 'v0', up: true, peer: { name: 'v1', netns: b } });
    b.rtnl.links.set('v1', { up: true });
    a.rtnl.addresses.create({ link: 'v0', address: '10.0.0.1/24' });
    b.rtnl.addresses.create({ link: 'v1', address: '10.0.0.2/24' });
    a.rtnl.links.create({ kind: 'ifb', name: 'i0', up: true });
    a.rtnl.qdiscs.create({ link: 'v0' }, { kind: 'ingress' });
    a.rtnl.filters.create(
      { link: 'v0', parent: 'ffff:', priority: 1 },
      { kind: 'u32', action: { kind: 'mirred', how: 'egress redirect', link: 'i0' } },
    );
    const [here, there] = [a.datagram({ host: '10.0.0.1', port: 5000 }), b.datagram({ host: '10.0.0.2' })];
    there.send('hello', 5000, '10.0.0.1');
    await once(here, 'message');
    const [link] = JSON.parse(inside(a, 'ip -j -s link show i0')) as [{ stats64: { tx: { packets: number } } }];
    expect(link.stats64.tx.packets).toBeGreaterThan(0);
    for (const each of [here, there]) {
      each.close();
      await once(each, 'close');
    }
  });
});
