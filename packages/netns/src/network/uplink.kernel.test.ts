import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { NetNS } from '../index.js';
import { outside, root } from '../testing/judge.js';
import { asNobody } from '../testing/plain-user.js';
import { Uplink } from './index.js';

const has = (program: string) => outside(`command -v ${program} || true`) !== '';
const programs = (['pasta', 'slirp4netns'] as const).filter(has);
const code = (name: string) => expect.objectContaining({ code: name });

/** What a plain user does: a user namespace, a namespace for the network in it, a way out, a look at who is outside. */
const script = (program: string) => `
  import { spawn } from 'node:child_process';
  import { once } from 'node:events';
  import { Fd } from '@iso/sys';
  import { NetNS } from '@iso/netns';
  import { Uplink } from '@iso/netns/network';
  const child = spawn('unshare', ['-Ur', 'sh', '-c', 'echo up; exec cat'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const userns = '/proc/' + child.pid + '/ns/user';
  const owner = Fd.open(userns);
  const box = NetNS.create({ owner });
  const said = { uid: process.getuid() };
  try {
    const uplink = await Uplink.start(box, { spawn, userns, program: '${program}' });
    said.seenAs = await (await box.fetch('http://192.0.2.2/')).text();
    const { gateway } = box.rtnl.routes.list({ table: 'main' }).find(({ dst }) => dst === 'default');
    // The host's own loopback would answer at the gateway, if it were let.
    said.hostLoopback = await Promise.race([
      box.fetch('http://' + gateway + ':9000/').then((answer) => answer.text(), () => 'refused'),
      new Promise((resolve) => setTimeout(resolve, 500, 'refused')),
    ]);
    await uplink.close();
    await uplink.close();
    said.links = box.rtnl.links.list().map(({ name }) => name);
  } catch (error) {
    said.error = [error.code, error.hint ?? error.message];
  } finally {
    box.close();
    owner.close();
    const gone = once(child, 'exit');
    child.stdin.end();
    await gone;
  }
  console.log(JSON.stringify(said));
  // A connection that nobody answers would hold it up.
  process.exit();`;

describe.skipIf(!root)('a way out without privilege [needs root to make a plain user]', () => {
  it.skipIf(programs.length === 0).each(programs)(
    'by %s, as uid 65534 [needs the program]',
    async (program) => {
      using host = NetNS.create();
      using far = NetNS.create();
      host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: far } });
      far.rtnl.links.set('eth0', { up: true });
      host.rtnl.addresses.create({ link: 'up0', address: '192.0.2.1/24' });
      far.rtnl.addresses.create({ link: 'eth0', address: '192.0.2.2/24' });
      // The programs look for the way out of whoever starts them.
      host.rtnl.routes.create({ dst: 'default', gateway: '192.0.2.2' });
      const server = far.listen({ port: 80, host: '0.0.0.0' }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.resume().end(`HTTP/1.0 200 OK\r\n\r\n${socket.remoteAddress}`);
      });
      const own = host.listen({ port: 9000, host: '127.0.0.1' }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.resume().end('HTTP/1.0 200 OK\r\n\r\nthe host');
      });
      try {
        expect(await asNobody(host, script(program))).toEqual({
          uid: 65534,
          seenAs: '192.0.2.1',
          hostLoopback: 'refused',
          links: ['lo'],
        });
        // Where it may not be opened, the program's own words say so.
        if (program !== programs.at(-1)) return;
        expect(await asNobody(host, script(program), '600')).toMatchObject({
          uid: 65534,
          error: ['EIO', expect.stringMatching(/says: .*(tun|tap|ermission)/i)],
        });
      } finally {
        for (const each of [server, own]) {
          const closed = once(each, 'close');
          each.close();
          await closed;
        }
      }
    },
    60_000,
  );

  it('says what is missing, and who ended', async () => {
    using box = NetNS.create();
    const path = { ...process.env, PATH: '/nowhere' };
    const nowhere: typeof spawn = ((file: string, args: string[], options: object) =>
      spawn(file, args, { ...options, env: path })) as typeof spawn;
    await expect(Uplink.start(box, { spawn: nowhere })).rejects.toThrow(
      expect.objectContaining({ code: 'EUNSUPPORTED', message: expect.stringContaining('slirp4netns') }),
    );
    await expect(Uplink.start(box, { spawn: nowhere, program: 'pasta' })).rejects.toThrow(code('EUNSUPPORTED'));
    const fails = (() =>
      spawn('sh', ['-c', 'echo no luck today >&2; exit 3'], {
        stdio: ['ignore', 'ignore', 'pipe'],
      })) as unknown as typeof spawn;
    await expect(Uplink.start(box, { spawn: fails })).rejects.toThrow(
      expect.objectContaining({ code: 'EIO', hint: 'pasta says: no luck today' }),
    );
    const hangs = (() => spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'pipe'] })) as unknown as typeof spawn;
    await expect(Uplink.start(box, { spawn: hangs, signal: AbortSignal.timeout(200) })).rejects.toThrow(
      /timeout|aborted/i,
    );
  });
});
