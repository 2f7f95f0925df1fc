import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NetNS } from '../index.js';
import { inside, ip, root } from '../testing/judge.js';
import { World } from '../testing/world.js';
import type { Endpoint } from './index.js';

/** Bits a second, and how long is looked at a transfer, in milliseconds. */
const RATES: [rate: number, milliseconds: number][] = process.env.ISO_LONG
  ? [
      [1e6, 8000],
      [100e6, 2000],
      [1e9, 2000],
    ]
  : [[20e6, 500]];

/**
 * Bits a second that arrive while as much as possible is sent: told from what the receiving link counts, once what may pass at once has
 * passed.
 */
async function rate(from: NetNS, to: NetNS, address: string, limit: number, milliseconds: number): Promise<number> {
  const received = () => ({ bytes: Number(to.rtnl.links.stats('eth0').rxBytes), at: performance.now() });
  const accepted: Socket[] = [];
  const server = to.listen({ host: address, port: 9000 }, (socket) => {
    accepted.push(socket.on('error', () => {}).resume());
  });
  const socket = from.connect({ host: address, port: 9000 }).on('error', () => {});
  try {
    await once(socket, 'connect');
    const block = Buffer.alloc(2 ** 18);
    const pump = () => {
      while (!socket.destroyed && socket.write(block));
    };
    socket.on('drain', pump);
    pump();
    // The burst: 64 KiB, or what passes in 4 ms.
    const burst = Math.max(65536, limit / 8 / 250);
    await sleep(100 + (1.5 * 8000 * burst) / limit);
    const before = received();
    await sleep(milliseconds);
    const after = received();
    return ((after.bytes - before.bytes) * 8000) / (after.at - before.at);
  } finally {
    socket.destroy();
    const closed = once(server, 'close');
    server.close();
    for (const each of accepted) each.destroy();
    await closed;
  }
}

describe.skipIf(!root)('bandwidth [needs root]', () => {
  let world: World;
  let endpoint: Endpoint;
  beforeEach(async () => {
    world = new World();
    const network = world.network();
    endpoint = await network.attach(world.a);
    await network.attach(world.b);
  });
  afterEach(() => world.close());

  it.each(RATES)(
    '%d bits a second both ways, whatever its root does inside',
    async (limit, milliseconds) => {
      const { a, b } = world;
      await endpoint.limit({ in: limit, out: limit / 2 });
      inside(a, 'tc qdisc replace dev eth0 root pfifo limit 10000; tc qdisc del dev eth0 ingress 2>/dev/null || true');
      const towards = await rate(b, a, '10.50.0.2', limit, milliseconds);
      const away = await rate(a, b, '10.50.0.3', limit / 2, milliseconds);
      console.log(
        `${limit / 1e6} Mbit/s: ${(towards / 1e6).toFixed(2)} in, ${((2 * away) / 1e6).toFixed(2)} out (of half, twice)`,
      );
      // A machine under load is slower, never faster.
      for (const share of [towards / limit, away / (limit / 2)]) {
        expect(share).toBeLessThan(1.1);
        expect(share).toBeGreaterThan(0.6);
      }
      await endpoint.limit({});
      expect(await rate(b, a, '10.50.0.2', 1e9, 200)).toBeGreaterThan(2 * limit);
    },
    120_000,
  );

  it('is limited on the host, changed, and lifted; nothing of it stays', async () => {
    const { a, host } = world;
    const before = ip(host, 'link').map((link) => link.ifname);
    await endpoint.limit({ in: 10e6, out: 20e6 });
    expect(inside(host, `tc qdisc show dev ${endpoint.hostLink}`)).toMatch(/tbf .*rate 10Mbit[\s\S]*ingress/);
    const ifb = `i${`${endpoint.hostLink}`.slice(1)}`;
    expect(inside(host, `tc qdisc show dev ${ifb}`)).toMatch(/tbf .*rate 20Mbit/);
    expect(inside(a, 'tc qdisc show dev eth0')).not.toContain('tbf');
    await endpoint.limit({ in: 5e6, out: 6e6 });
    expect(inside(host, `tc qdisc show dev ${ifb}`)).toMatch(/tbf .*rate 6Mbit/);
    await endpoint.limit({});
    expect(inside(host, 'tc qdisc')).not.toMatch(/tbf|ingress/);
    expect(ip(host, 'link').map((link) => link.ifname)).toEqual(before);
    await endpoint.limit({ out: 6e6 });
    await endpoint.detach();
    expect(ip(host, 'link').some((link) => link.ifname === ifb)).toBe(false);
  });
});
