import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Conntrack } from '../conntrack/index.js';
import { inside, ip, Other, root } from '../testing/judge.js';
import { World } from '../testing/world.js';
import { Networks } from './index.js';

/** So many of the steps are tried here; ISO_LONG tries every one. */
const SOME = 5;

describe.skipIf(!root)('a process that is killed at its work on a network that is kept [needs root]', () => {
  let world: World;
  let directory: string;
  beforeEach(() => {
    world = new World();
    directory = mkdtempSync(join(tmpdir(), 'iso-killed-'));
  });
  afterEach(async () => {
    rmSync(directory, { recursive: true });
    await world.close();
  });

  /** Attaches, limits, publishes, is reached, unpublishes, detaches; dies before its system call or launch number `at`. */
  const script = (at: number) => `
    import { kernel, replaceKernel } from '@iso/sys';
    import { once } from 'node:events';
    import { NetNS } from '@iso/netns';
    import { Networks } from '@iso/netns/network';
    const ns = (fd) => NetNS.open({ path: '/proc/${process.pid}/fd/' + fd });
    const [host, outside] = [ns(${world.host.fd.number}), ns(${world.outside.fd.number})];
    const network = Networks.open({ directory: '${directory}', host }).get('app');
    const box = NetNS.create();
    const server = box.listen({ port: 80 }, (socket) => socket.end());
    const real = kernel();
    let step = 0;
    const count = () => {
      if (++step === ${at}) process.kill(process.pid, 'SIGKILL');
    };
    replaceKernel({
      call: (name, args) => (count(), real.call(name, args)),
      launch: (plan) => (count(), real.launch(plan)),
    });
    const endpoint = await network.attach(box, { names: ['box'] });
    await endpoint.limit({ in: 1e7, out: 1e7 });
    const list = await endpoint.egress({ allow: ['192.0.2.0/24'] });
    const port = await endpoint.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat' });
    const client = outside.connect({ host: '192.0.2.1', port: 8080 });
    client.resume();
    await once(client, 'close');
    await list.close();
    await port.close();
    await endpoint.detach();
    console.log(step);
    process.exit();`;

  const state = (networks: Networks) => {
    using conntrack = Conntrack.open({ home: world.host });
    return {
      links: ip(world.host, 'link').map((link) => link.ifname),
      qdiscs: inside(world.host, 'tc qdisc'),
      rules: inside(world.host, 'nft list ruleset'),
      routes: inside(world.host, 'ip route; ip -6 route').replaceAll(' linkdown', ''),
      // Of members; a last packet of a connection that was forgotten may begin one anew, of the host itself.
      flows: conntrack
        .list()
        .flatMap(({ original, reply }) => [original.source, original.destination, reply.source])
        .filter((address) => /^(10\.50\.0\.(?!1$)|fd00:50::(?!1$))/.test(address)),
      members: networks.list().flatMap(({ name }) => {
        using network = networks.get(name);
        return network.members;
      }),
      files: readdirSync(directory).sort(),
    };
  };

  it('leaves nothing that a sweep does not take, at whatever step', async () => {
    using networks = Networks.open({ directory, host: world.host });
    networks.create({ name: 'app', subnets: ['10.50.0.0/24', 'fd00:50::/64'] }).close();
    {
      await using whole = new Other(script(0));
      const steps = Number(await whole.read());
      await whole.end();
      expect(steps).toBeGreaterThan(50);
      // The leases have been written once, and the table of bridged traffic is made once.
      await expect.poll(() => networks.sweep()).toEqual({});
      const before = state(networks);
      expect(before).toMatchObject({ flows: [], members: [] });
      const all = Array.from({ length: steps }, (_, i) => i + 1);
      const chosen = process.env.ISO_LONG ? all : all.filter((at) => at % Math.floor(steps / SOME) === 3);
      for (const at of chosen) {
        await using killed = new Other(script(at));
        // How often it has to read an answer differs: where it takes fewer calls this time, it has come to its end.
        const said = await killed.read().catch(() => undefined);
        await killed.end();
        if (said === undefined) expect(killed.process.signalCode, `step ${at}`).toBe('SIGKILL');
        else expect([Number(said) < at, at > 0.9 * steps], `step ${at} of ${said}`).toEqual([true, true]);
        const swept = () => {
          networks.sweep();
          return state(networks);
        };
        await expect.poll(swept, { timeout: 20_000, message: `step ${at} of ${steps}` }).toEqual(before);
      }
    }
  }, 900_000);
});
