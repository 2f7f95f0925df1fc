import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { outside, root } from '../testing/judge.js';
import { asNobody } from '../testing/plain-user.js';
import { World } from '../testing/world.js';
import { publishPort } from './index.js';

const has = (program: string) => outside(`command -v ${program} || true`) !== '';
const program = (['pasta', 'slirp4netns'] as const).find(has);

/** A bridge network in a user namespace of one's own: two boxes, one of which gets out, and one is reached from the machine's own network. */
const script = (uplink: string) => `
  import { execFileSync, spawn } from 'node:child_process';
  import { once } from 'node:events';
  import { Fd } from '@iso/sys';
  import { NetNS } from '@iso/netns';
  import { BridgeNetwork, publishPort, Uplink } from '@iso/netns/network';
  const child = spawn('unshare', ['-Ur', 'sh', '-c', 'echo up; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const userns = '/proc/' + child.pid + '/ns/user';
  const owner = Fd.open(userns);
  const [host, a, b] = Array.from({ length: 3 }, () => NetNS.create({ owner }));
  const enter = ['--user=' + userns, '--preserve-credentials', '--net=/proc/self/fd/3'];
  const judge = (command) =>
    execFileSync('nsenter', [...enter, 'sh', '-c', command], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'inherit', host.fd.number],
    });
  const said = { uid: process.getuid() };
  const network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24', 'fd00:50::/64'] });
  const [one, two] = [await network.attach(a, { names: ['one'] }), await network.attach(b)];
  const server = b.listen({ port: 80 }, (socket) => {
    socket.on('error', () => socket.destroy());
    socket.resume().end('HTTP/1.0 200 OK\\r\\n\\r\\n' + socket.remoteAddress.replace('::ffff:', ''));
  });
  const ask = async (from, url) => (await from.fetch(url)).text();
  said.neighbour = [await ask(a, 'http://10.50.0.3/'), await ask(a, 'http://[fd00:50::3]/')];
  const nat = await two.publish({ port: 80, hostPort: 8080, host: '0.0.0.0', mode: 'nat' });
  said.nat = await ask(a, 'http://10.50.0.1:8080/');
  await two.limit({ in: 1e8, out: 1e8 });
  const list = await one.egress({ allow: ['192.0.2.2:80'] });
  said.rules = /tcp \\. 8080 : 10\\.50\\.0\\.3 \\. 80/.test(judge('nft list ruleset'));
  said.limits = judge('tc qdisc').match(/tbf/g).length;
  // From the machine's own network, by Node's own means.
  const port = await publishPort(b, { port: 80, hostPort: 8081, host: '0.0.0.0' });
  said.published = await (await fetch('http://192.0.2.1:8081/')).text();
  await port.close();
  const uplink = await Uplink.start(host, { spawn, userns: owner, program: '${uplink}' });
  said.away = await ask(a, 'http://192.0.2.2/');
  said.refused = await ask(a, 'http://192.0.2.2:81/').catch(({ code }) => code);
  await uplink.close();
  await list.close();
  await nat.close();
  const closed = once(server, 'close');
  server.close();
  await closed;
  network.close();
  said.left = host.rtnl.links.list().map(({ name }) => name);
  for (const ns of [host, a, b]) ns.close();
  owner.close();
  const gone = once(child, 'exit');
  child.stdin.end();
  await gone;
  console.log(JSON.stringify(said));
  process.exit();`;

describe.skipIf(!root || !program)(
  'networks of a plain user [needs root to make one, and pasta or slirp4netns]',
  () => {
    it('a bridge in a user namespace of their own, with rules, limits, ports, and a way out', async () => {
      const world = new World();
      const { host, outside: far } = world;
      // Programs that pass packets on look for the way out of whoever starts them.
      host.rtnl.routes.create({ dst: 'default', gateway: '192.0.2.2' });
      const server = far.listen({ port: 80, host: '0.0.0.0' }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.resume().end(`HTTP/1.0 200 OK\r\n\r\n${socket.remoteAddress}`);
      });
      try {
        expect(await asNobody(host, script(`${program}`))).toEqual({
          uid: 65534,
          neighbour: ['10.50.0.2', 'fd00:50::2'],
          nat: '10.50.0.1',
          rules: true,
          limits: 2,
          published: '127.0.0.1',
          away: '192.0.2.1',
          refused: 'EHOSTUNREACH',
          left: ['lo'],
        });
      } finally {
        const closed = once(server, 'close');
        server.close();
        await closed;
        await world.close();
      }
    }, 60_000);
  },
);

describe.skipIf(!root)('a port of a namespace that is in no network [needs root]', () => {
  it('is published by proxy; a namespace that is gone refuses, and ends nothing else', async () => {
    using host = NetNS.create();
    const box = NetNS.create();
    const server = box.listen({ port: 80, host: '127.0.0.1' }, (socket) => socket.end('from inside'));
    await using port = await publishPort(box, { port: 80, from: host, hostPort: 8080 });
    await using datagrams = await publishPort(box, { port: 80, from: host, protocol: 'udp' });
    expect([port.host, port.hostPort]).toEqual(['127.0.0.1', 8080]);
    expect(await text(host.connect({ port: 8080 }))).toBe('from inside');
    await expect(publishPort(box, { port: 81, from: host, hostPort: 8080 })).rejects.toMatchObject({
      code: 'EADDRINUSE',
      hint: expect.stringMatching(new RegExp(`^process ${process.pid} .* has 127.0.0.1:8080$`)),
    });
    const closed = once(server, 'close');
    server.close();
    await closed;
    box.close();
    const socket = host.connect({ port: 8080 });
    expect(await text(socket).catch(({ code }) => code)).toMatch(/^(|ECONNRESET)$/);
    const client = host.datagram();
    client.send('lost', datagrams.hostPort, '127.0.0.1');
    await expect(text(host.connect({ port: 8080 })).catch(({ code }) => code)).resolves.toMatch(/^(|ECONNRESET)$/);
    client.close();
    await once(client, 'close');
  });
});
