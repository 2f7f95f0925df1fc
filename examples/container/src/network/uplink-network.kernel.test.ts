import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Server } from 'node:net';
import { text } from 'node:stream/consumers';
import { NetNS } from '@iso/netns';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';

const has = (program: string) =>
  execFileSync('sh', ['-c', `command -v ${program} || true`], { encoding: 'utf8' }) !== '';
const programs = (['pasta', 'slirp4netns'] as const).filter(has);
const root = process.getuid?.() === 0;

describe.skipIf(!root || programs.length === 0)(
  'a network of a plain user’s container [needs root to make one, and pasta or slirp4netns]',
  () => {
    let host: NetNS;
    let outside: NetNS;
    let server: Server;

    // The machine's own namespace is never touched: one of the test's plays the host, with a machine on its wire.
    beforeEach(() => {
      [host, outside] = [NetNS.create(), NetNS.create()];
      host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
      outside.rtnl.links.set('eth0', { up: true });
      host.rtnl.addresses.create({ link: 'up0', address: '192.0.2.1/24' });
      outside.rtnl.addresses.create({ link: 'eth0', address: '192.0.2.2/24' });
      host.rtnl.routes.create({ dst: 'default', gateway: '192.0.2.2' });
      server = outside.listen({ host: '0.0.0.0', port: 80 }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.end(`${socket.remoteAddress}\n`);
      });
    });
    afterEach(async () => {
      const closed = once(server, 'close');
      server.close();
      await closed;
      for (const ns of [host, outside]) ns.close();
    });

    /** The command as user 65534, with a /dev/net/tun and a state of a mount namespace of its own. */
    function iso(...args: string[]) {
      const prepare =
        'mount -t tmpfs t /dev/net && mknod -m 666 /dev/net/tun c 10 200 && mount -t tmpfs t /tmp && chmod 1777 /tmp';
      const user = 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"';
      return spawn(
        'nsenter',
        [
          `--net=/proc/${process.pid}/fd/${host.fd.number}`,
          ...['unshare', '-m', 'sh', '-c', `${prepare} && ${user}`, 'sh', process.execPath, ...command, ...args],
        ],
        { env: { ...process.env, HOME: '/tmp', ISO_ROOT: '/tmp/state' } },
      );
    }

    it.each(programs)(
      'by %s: it gets out, is reached by its port, finds its names, and leaves nothing',
      async (program) => {
        // Answers once, and says whom it reached and what it is.
        const script = `
          exec 3<>/dev/tcp/192.0.2.2/80; cat <&3; id -u; cat /proc/sys/net/ipv4/ip_unprivileged_port_start
          getent ahostsv4 db | head -n 1 | cut -d' ' -f1; grep nameserver /etc/resolv.conf; ls /sys/class/net | tr '\\n' ' '; echo up; read _`;
        const child = iso(
          ...['run', '--network', program, '-p', '0.0.0.0:8080:80', '--add-host', 'db:10.9.9.9', '-i', '/'],
          ...['bash', '--norc', '-c', script],
        );
        let said = '';
        child.stderr.on('data', (chunk) => {
          said += chunk;
        });
        const out: string[] = [];
        for await (const chunk of child.stdout) {
          out.push(String(chunk));
          if (out.join('').endsWith('up\n')) break;
        }
        expect([out.join(''), said]).toEqual(['192.0.2.1\n0\n0\n10.9.9.9\nnameserver 127.0.0.11\nlo tap0 up\n', '']);
        const listening = execFileSync('nsenter', [`--net=/proc/${process.pid}/fd/${host.fd.number}`, 'ss', '-Hltn'], {
          encoding: 'utf8',
        });
        expect(listening).toMatch(/ 0\.0\.0\.0:8080 /);
        const exited = once(child, 'exit');
        child.stdin.end('\n');
        expect(await exited).toEqual([0, null]);
      },
      60_000,
    );

    it('says in one line what it cannot be given', async () => {
      const refusals = [
        [['--network', 'pasta', '--ip', '10.0.0.2'], /^iso: --ip needs a network that is a bridge[^\n]*\n$/],
        [['--network', 'bridge'], /^iso: networks need root: a plain user has .*pasta[^\n]*\n$/],
      ] as const;
      const said = refusals.map(async ([args]) => {
        const child = iso('run', ...args, '/', 'true');
        const [stderr, [code]] = await Promise.all([text(child.stderr), once(child, 'exit')]);
        return [code, stderr];
      });
      expect(await Promise.all(said)).toEqual(refusals.map(([, why]) => [125, expect.stringMatching(why)]));
    }, 60_000);
  },
);
