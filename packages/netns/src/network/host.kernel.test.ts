import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { home, inside, ip, root } from '../testing/judge.js';
import { World } from '../testing/world.js';

/** A router says that it is there, for so many seconds: RFC 4861, 4.2. */
const advertise = (seconds: number) => `python3 - <<'END'
import socket, struct
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex('eth0')
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
s.sendto(struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, ${seconds}, 0, 0), ('ff02::1', 0, 0, index))
END`;

describe.skipIf(!root)('the host of a network [needs root]', () => {
  let world: World;
  beforeEach(() => {
    world = new World();
  });
  afterEach(() => world.close());

  it('keeps the way out that a router tells it of, though it passes packets on', async () => {
    const { host, outside } = world;
    // A router has an address of the link to speak from; this one at once.
    inside(outside, 'ip addr add fe80::9/64 dev eth0 nodad');
    const routes = () => ip(host, '-6 route show default') as { protocol: string; expires: number }[];
    inside(outside, advertise(100));
    await expect.poll(routes).toMatchObject([{ protocol: 'ra' }]);
    world.network();
    inside(outside, advertise(1800));
    await expect.poll(() => routes()[0]?.expires ?? 0).toBeGreaterThan(1000);
    expect(inside(host, 'cat /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/up0/accept_ra')).toBe(
      '1\n2\n',
    );
  });

  it('takes no subnet in which it has a name server', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-names-'));
    try {
      const file = join(folder, 'resolv.conf');
      writeFileSync(file, 'nameserver 172.17.0.53\nnameserver 172.18.255.1\n');
      const script = `
        import { NetNS } from '@iso/netns';
        import { BridgeNetwork } from '@iso/netns/network';
        const host = NetNS.create();
        const network = BridgeNetwork.create({ name: 'app', host });
        console.log(network.subnets.join());
        network.close();
        host.close();`;
      const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
      const body = `mount --bind ${file} /etc/resolv.conf && exec "$@"`;
      const subnets = execFileSync('unshare', ['-m', 'sh', '-c', body, 'sh', ...node], { cwd: home, encoding: 'utf8' });
      expect(subnets).toBe('172.19.0.0/16\n');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
