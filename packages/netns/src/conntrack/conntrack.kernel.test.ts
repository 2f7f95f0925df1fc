import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { kernel, replaceKernel } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { counter, match, Nft } from '../nft/index.js';
import { inside, outside, root } from '../testing/judge.js';
import { Conntrack } from './index.js';

const toolMissing = outside('command -v conntrack || true') === '';

/** A namespace that tracks what passes its loopback. */
function tracked(): { ns: NetNS; nft: Nft; conntrack: Conntrack; close: () => void } {
  const ns = NetNS.create();
  const nft = Nft.open({ home: ns });
  const table = { family: 'inet', name: 't' } as const;
  const chain = { table, name: 'c' };
  nft.transaction((tx) => {
    tx.createTable({ ...table, flags: ['owner'] });
    tx.createChain({ ...chain, hook: { type: 'filter', hook: 'input', priority: 0 } });
    tx.createRule({ chain, statements: [match('ct state', 'new'), counter()] });
  });
  const conntrack = Conntrack.open({ home: ns });
  ns.sysctl.set('net.netfilter.nf_conntrack_acct', 1);
  const close = () => {
    conntrack.close();
    nft.close();
    ns.close();
  };
  return { ns, nft, conntrack, close };
}

async function traffic(ns: NetNS): Promise<void> {
  const server = ns.listen({ port: 7000 }, (socket) => socket.end('x'));
  await text(ns.connect({ port: 7000 }));
  await text(ns.connect({ host: '::1', port: 7000 }));
  const [a, b] = [ns.datagram({ host: '127.0.0.1', port: 5000 }), ns.datagram({ host: '127.0.0.1', port: 5001 })];
  a.send('hello', 5001, '127.0.0.1');
  await once(b, 'message');
  for (const each of [server, a, b]) {
    each.close();
    await once(each, 'close');
  }
}

describe.skipIf(!root)('conntrack [needs root]', () => {
  it.skipIf(toolMissing)('lists what conntrack lists [needs conntrack]', async () => {
    const { ns, conntrack, close } = tracked();
    await traffic(ns);
    const theirs = ['ipv4', 'ipv6'].flatMap((family) =>
      inside(ns, `conntrack -L -f ${family} -o id 2>/dev/null`)
        .trim()
        .split('\n')
        .map((line) => {
          const all = (name: string) =>
            [...line.matchAll(new RegExp(`\\b${name}=(\\S+)`, 'g'))].map((found) => found[1]);
          return [
            all('src'),
            all('dst'),
            all('sport'),
            all('dport'),
            all('packets'),
            all('bytes'),
            /ASSURED/.test(line),
            /^tcp\s+\d+ \d+ (\w+)/.exec(line)?.[1],
          ];
        }),
    );
    const ours = conntrack
      .list()
      .map(({ original, reply, originalCounter, replyCounter, status, tcpState }) => [
        [original.source, reply.source],
        [original.destination, reply.destination],
        [`${original.sourcePort}`, `${reply.sourcePort}`],
        [`${original.destinationPort}`, `${reply.destinationPort}`],
        [`${originalCounter?.packets}`, `${replyCounter?.packets}`],
        [`${originalCounter?.bytes}`, `${replyCounter?.bytes}`],
        status.includes('assured'),
        tcpState,
      ]);
    const sorted = (list: unknown[]) => list.map((item) => JSON.stringify(item)).sort();
    expect(ours.length).toBe(3);
    expect(sorted(ours)).toEqual(sorted(theirs));
    close();
  });

  it('forgets flows, one and all that match', async () => {
    const { ns, conntrack, close } = tracked();
    await traffic(ns);
    const [udp] = conntrack.list({ protocol: 17 });
    expect(udp?.original).toMatchObject({ source: '127.0.0.1', sourcePort: 5000, destinationPort: 5001 });
    expect(conntrack.list({ family: 6 }).map((flow) => flow.original.destination)).toEqual(['::1']);
    const counted = () => `${conntrack.count()}`;
    expect(counted()).toBe('3');
    expect(counted()).toBe(ns.sysctl.get('net.netfilter.nf_conntrack_count'));
    expect(conntrack.remove(udp as NonNullable<typeof udp>)).toBe(true);
    expect(conntrack.remove(udp as NonNullable<typeof udp>)).toBe(false);
    expect(conntrack.list({ protocol: 17 })).toEqual([]);
    expect(conntrack.removeAll({ destinationPort: 7000, family: 4 })).toBe(1);
    expect(conntrack.list().map((flow) => flow.family)).toEqual([6]);
    expect(conntrack.removeAll({})).toBe(1);
    expect(ns.sysctl.get('net.netfilter.nf_conntrack_count')).toBe('0');
    expect([counted(), conntrack.list()]).toEqual(['0', []]);
    close();
  });

  it('by whatever is asked for: of many flows only those come over, where the kernel compares', async () => {
    const { ns, conntrack, close } = tracked();
    await traffic(ns);
    const flows = conntrack.list();
    const names = ['source', 'destination', 'sourcePort', 'destinationPort'] as const;
    const real = kernel();
    let told = 0;
    const undo = replaceKernel({
      launch: (plan) => real.launch(plan),
      call(name, args) {
        const length = Number(real.call(name, args));
        const IPCTNL_MSG_CT_NEW = 0x100;
        for (let at = 0; name === 'recvfrom' && at + 16 <= length; at += (args[1] as Buffer).readUInt32LE(at))
          if ((args[1] as Buffer).readUInt16LE(at + 4) === IPCTNL_MSG_CT_NEW) told += 1;
        return length;
      },
    });
    try {
      for (const { family, original } of flows) {
        for (let some = 0; some < 2 ** names.length; some++) {
          const chosen = names.filter((_, i) => some & (1 << i));
          const filter = { family, protocol: original.protocol };
          Object.assign(filter, Object.fromEntries(chosen.map((name) => [name, original[name]])));
          const due = flows.filter(
            (flow) =>
              flow.family === family &&
              flow.original.protocol === original.protocol &&
              chosen.every((name) => flow.original[name] === original[name]),
          );
          // Addresses of IPv6 are compared here.
          const over = flows.filter(
            (flow) =>
              flow.family === family &&
              flow.original.protocol === original.protocol &&
              chosen.every(
                (name) => (family === 6 && !name.endsWith('Port')) || flow.original[name] === original[name],
              ),
          );
          told = 0;
          expect(
            conntrack
              .list(filter)
              .map(({ id }) => id)
              .sort(),
          ).toEqual(due.map(({ id }) => id).sort());
          expect(told).toBe(over.length);
        }
      }
      expect(conntrack.list({ family: 4, protocol: 17, source: '::1' })).toEqual([]);
      expect(() => conntrack.list({ family: 4, protocol: 17, source: 'nobody' })).toThrow(TypeError);
    } finally {
      undo();
      close();
    }
  });

  it('forgets many kinds of flows with few looks at the kernel’s table, each only its own', async () => {
    const { ns, conntrack, close } = tracked();
    await traffic(ns);
    const real = kernel();
    let dumps = 0;
    // What answers a dump ends in NLMSG_DONE.
    const undo = replaceKernel({
      launch: (plan) => real.launch(plan),
      call(name, args) {
        const length = real.call(name, args);
        const NLMSG_DONE = 3;
        if (name === 'recvfrom' && Number(length) >= 16 && (args[1] as Buffer).readUInt16LE(4) === NLMSG_DONE)
          dumps += 1;
        return length;
      },
    });
    try {
      const nothing = Array.from({ length: 50 }, (_, i) => conntrack.removeAllLater({ destinationPort: 20_000 + i }));
      const none = conntrack.removeAllLater({}, () => false);
      await Promise.all([...nothing, none]);
      expect(dumps).toBeGreaterThan(0);
      expect(dumps).toBeLessThan(4);
      expect(conntrack.list().length).toBe(3);
      await Promise.all([
        conntrack.removeAllLater({ family: 4, protocol: 17 }),
        conntrack.removeAllLater({ family: 6 }, ({ original }) => original.destination === '::1'),
      ]);
      expect(conntrack.list().map(({ family, original }) => [family, original.protocol])).toEqual([[4, 6]]);
      await conntrack.removeAllLater({});
      expect(conntrack.list()).toEqual([]);
    } finally {
      undo();
      close();
    }
  });
});
