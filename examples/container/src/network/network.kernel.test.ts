import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { NetNS } from '@iso/netns';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';

const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const env = { ...process.env, ISO_ROOT: join(folder, 'state') };
const root = process.getuid?.() === 0;
const has = (program: string) => {
  try {
    execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
};

describe.skipIf(!root || !has('nft') || !has('ip'))('networks of containers [needs root, ip, nft]', () => {
  let host: NetNS;
  let outside: NetNS;
  let running: ChildProcess[];
  let servers: Server[];

  // The machine's own namespace is never touched: one of the test's plays the host, with a machine on its wire.
  beforeAll(() => {
    host = NetNS.create();
    outside = NetNS.create();
    host.rtnl.links.create({ kind: 'veth', name: 'up0', up: true, peer: { name: 'eth0', netns: outside } });
    outside.rtnl.links.set('eth0', { up: true });
    host.rtnl.addresses.create({ link: 'up0', address: '192.0.2.1/24' });
    for (const address of ['192.0.2.2/24', '192.0.2.3/24']) outside.rtnl.addresses.create({ link: 'eth0', address });
    running = [];
    servers = [];
  });
  afterEach(async () => {
    for (const child of running.splice(0)) await stop(child);
    for (const server of servers.splice(0)) {
      const closed = once(server, 'close');
      server.close();
      await closed;
    }
  });
  afterAll(() => {
    for (const ns of [host, outside]) ns.close();
  });

  const at = (ns: NetNS) => `--net=/proc/${process.pid}/fd/${ns.fd.number}`;
  const inside = (ns: NetNS, script: string) =>
    execFileSync('nsenter', [at(ns), 'sh', '-c', script], { encoding: 'utf8' });

  /** The command, on the host. */
  function iso(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    return new Promise((resolve) =>
      execFile('nsenter', [at(host), process.execPath, ...command, ...args], { env }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
      ),
    );
  }

  /** A container that runs until its input ends, and its namespace, opened by whom the kernel says it is. */
  async function start(...args: string[]) {
    const child = spawn(
      'nsenter',
      [at(host), process.execPath, ...command, 'run', '--rm', ...args, '-i', '/', 'sh', '-c', 'echo up; read _'],
      { env },
    );
    running.push(child);
    let said = '';
    child.stderr.on('data', (chunk) => {
      said += chunk;
    });
    const [up] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [Buffer | number];
    if (String(up) !== 'up\n') throw new Error(`it did not start: ${said}`);
    const name = args[args.indexOf('--name') + 1];
    const read = () =>
      readdirSync(join(folder, 'state/containers'))
        .filter((id) => id !== 'lock')
        .map((id) => JSON.parse(readFileSync(join(folder, 'state/containers', id, 'state.json'), 'utf8')))
        .find((state) => state.name === name) as { pid?: number };
    // It may speak before its command has written down that it runs.
    for (let i = 0; i < 500 && read().pid === undefined; i++) await sleep(10);
    const record = { pid: read().pid as number };
    return { child, pid: record.pid, netns: NetNS.open({ pid: record.pid }) };
  }

  async function stop(child: ChildProcess) {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.stdin?.end();
    await exited;
  }

  /** Answers with the address that it sees. */
  function serve(ns: NetNS, port: number, address = '0.0.0.0') {
    servers.push(
      ns.listen({ host: address, port }, (socket) => {
        socket.on('error', () => socket.destroy());
        socket.end(`${socket.remoteAddress}`);
      }),
    );
  }

  const reach = (from: NetNS, to: string, port: number) =>
    text(from.connect({ host: to, port })).catch((error: NodeJS.ErrnoException) => String(error.code));
  const file = (pid: number, path: string) => readFileSync(`/proc/${pid}/root${path}`, 'utf8');

  it('a network, a container in it with ports, names, limits and a list of whom it may reach; nothing stays', async () => {
    const before = () => [inside(host, 'ip -o link | cut -d: -f2'), inside(host, 'nft list tables')];
    const clean = before();
    expect(await iso('network', 'create', '--subnet', '10.88.0.0/24', '--ipv6', 'app')).toMatchObject({
      code: 0,
      stdout: 'app\n',
    });
    serve(outside, 80);
    serve(outside, 81);
    const web = await start(
      ...['--name', 'web', '--hostname', 'www.example', '--network', 'app', '--ip', '10.88.0.77'],
      ...[
        '--mac-address',
        '02:00:00:00:00:07',
        '--network-alias',
        'www',
        '-p',
        '8080:80',
        '-p',
        '0.0.0.0:8081-8082:80-81',
      ],
      ...[
        '--expose',
        '90',
        '-P',
        '--add-host',
        'up:host-gateway',
        '--add-host',
        'db:10.9.9.9',
        '--dns-search',
        'a.example',
      ],
      ...['--bandwidth-in', '50mbit', '--bandwidth-out', '20mbit', '--egress-allow', '192.0.2.2:80/tcp'],
    );
    const { netns, pid } = web;
    const [link] = JSON.parse(inside(netns, 'ip -j addr show eth0')) as [
      { address: string; addr_info: { local: string; scope: string }[] },
    ];
    expect(link.address).toBe('02:00:00:00:00:07');
    const addresses = link.addr_info.filter(({ scope }) => scope === 'global').map(({ local }) => local);
    expect(addresses).toEqual(['10.88.0.77', expect.stringMatching(/^fd/)]);
    expect(file(pid, '/etc/hosts')).toMatch(/^127\.0\.0\.1\tlocalhost\n[\s\S]*10\.88\.0\.77\twww\.example\t/);
    expect(file(pid, '/etc/hosts')).toMatch(/10\.88\.0\.1\tup\t[\s\S]*10\.9\.9\.9\tdb\t/);
    expect(file(pid, '/etc/resolv.conf')).toMatch(/nameserver 127\.0\.0\.11\nsearch a\.example\n/);
    expect(file(pid, '/etc/hostname')).toBe('www.example\n');

    // Who reaches it.
    for (const port of [80, 81, 90]) serve(netns, port);
    const ports = (await iso('port', 'web')).stdout;
    expect(ports).toMatch(
      /^80\/tcp -> 127\.0\.0\.1:8080\n80\/tcp -> 0\.0\.0\.0:8081\n81\/tcp -> 0\.0\.0\.0:8082\n90\/tcp -> 127\.0\.0\.1:\d+\n$/,
    );
    expect((await iso('port', 'web', '81')).stdout).toBe('0.0.0.0:8082\n');
    const listening = inside(host, 'ss -Hltn');
    expect(listening).toMatch(/ 127\.0\.0\.1:8080 /);
    expect(listening).toMatch(/ 0\.0\.0\.0:8082 /);
    expect(
      await Promise.all([
        reach(host, '127.0.0.1', 8080),
        reach(outside, '192.0.2.1', 8080),
        reach(outside, '192.0.2.1', 8081),
        reach(outside, '192.0.2.1', 8082),
        reach(host, '127.0.0.1', Number(/:(\d+)\n$/.exec(ports)?.[1])),
      ]),
    ).toEqual(['127.0.0.1', 'ECONNREFUSED', '192.0.2.2', '192.0.2.2', '127.0.0.1']);

    // Whom it reaches.
    expect(
      await Promise.all([reach(netns, '192.0.2.2', 80), reach(netns, '192.0.2.2', 81), reach(netns, '192.0.2.3', 80)]),
    ).toEqual(['192.0.2.1', 'EHOSTUNREACH', 'EHOSTUNREACH']);
    expect(inside(host, 'tc qdisc')).toMatch(
      /tbf .*rate 50Mbit[\s\S]*tbf .*rate 20Mbit|tbf .*rate 20Mbit[\s\S]*tbf .*rate 50Mbit/,
    );

    // A neighbour finds it by its names, is found by its own, and shares its namespace with a third.
    const neighbour = await iso(
      'run',
      '--rm',
      '--name',
      'two',
      '--network',
      'app',
      '/',
      'sh',
      '-c',
      'getent hosts www web; cat /etc/hosts',
    );
    expect(neighbour.stdout).toMatch(/^fd\S+ +www\nfd\S+ +web\n|^10\.88\.0\.77 +www\n10\.88\.0\.77 +web\n/);
    expect(neighbour.stdout).toMatch(/10\.88\.0\.2\ttwo\t/);
    const shared = await iso(
      'run',
      '--rm',
      '--network',
      'container:web',
      '/',
      'sh',
      '-c',
      'readlink /proc/self/ns/net; cat /etc/resolv.conf',
    );
    expect(shared.stdout).toBe(`net:[${netns.id}]\n${file(pid, '/etc/resolv.conf')}`);

    // Changed while it runs.
    expect(await iso('network', 'create', '--internal', '--subnet', '10.89.0.0/24', 'back')).toMatchObject({ code: 0 });
    expect(await iso('network', 'connect', '--ip', '10.89.0.9', '--alias', 'behind', 'back', 'web')).toMatchObject({
      code: 0,
      stderr: '',
    });
    expect(inside(netns, 'ip -o -4 addr show eth1')).toContain('10.89.0.9/24');
    expect(file(pid, '/etc/hosts')).toContain('10.89.0.9\twww.example');
    const inspected = JSON.parse((await iso('network', 'inspect', 'back')).stdout) as [
      { internal: boolean; members: { ip: string; names: string[] }[] },
    ];
    expect(inspected).toMatchObject([
      { internal: true, members: [{ ip: '10.89.0.9', names: expect.arrayContaining(['web', 'behind']) }] },
    ]);
    expect((await iso('network', 'inspect', '-f', '{{.internal}}', 'back')).stdout).toBe('true\n');
    expect((await iso('network', 'connect', 'back', 'web')).stderr).toBe(
      'iso: the container is in network back already\n',
    );
    const busy = await iso('network', 'rm', 'back');
    expect([busy.code, busy.stderr]).toEqual([125, expect.stringMatching(/^iso: .*web.*\n$/)]);
    expect(await iso('network', 'disconnect', 'back', 'web')).toMatchObject({ code: 0 });
    expect(inside(netns, 'ip -o link')).not.toContain('eth1');
    expect((await iso('network', 'ls')).stdout).toMatch(
      /^NAME +DRIVER +SCOPE +SUBNETS\napp +bridge +open +10\.88\.0\.0\/24,fd\S+\nback +bridge +internal +10\.89\.0\.0\/24\n$/,
    );

    netns.close();
    await stop(web.child);
    expect((await iso('network', 'prune')).stdout).toBe('app\nback\n');
    expect(before()).toEqual(clean);
    expect(inside(host, 'ss -Hltn')).toBe('');
  }, 240_000);

  it('a container whose command is killed leaves its address and its ports to the next', async () => {
    const first = await start('--name', 'one', '--network', 'bridge', '-p', '0.0.0.0:8090:80');
    first.netns.close();
    const exited = once(first.child, 'exit');
    const addresses = (await iso('network', 'inspect', 'bridge')).stdout;
    const ip = /"ip": "(.*)"/.exec(addresses)?.[1] as string;
    // nsenter has become the command itself.
    first.child.kill('SIGKILL');
    await exited;
    const again = await start('--name', 'one', '--network', 'bridge', '--ip', ip, '-p', '0.0.0.0:8090:80');
    serve(again.netns, 80);
    expect(await reach(outside, '192.0.2.1', 8090)).toBe('192.0.2.2');
    again.netns.close();
    await stop(again.child);
    expect((await iso('network', 'prune')).stdout).toBe('bridge\n');
  }, 120_000);

  it('a container that is left to itself joins its networks anew each time it starts, and leaves them', async () => {
    const made = await iso('run', '-d', '--name', 'own', '--network', 'bridge', '-p', '8091:80', '/', 'sleep', '100');
    expect(made).toMatchObject({ code: 0, stderr: '' });
    expect(await iso('restart', '-t', '0', 'own')).toMatchObject({ code: 0, stderr: '' });
    const [{ State, NetworkSettings }] = JSON.parse((await iso('inspect', 'own')).stdout) as [
      { State: { Pid: number }; NetworkSettings: { IPAddress: string } },
    ];
    using netns = NetNS.open({ pid: State.Pid });
    serve(netns, 80);
    expect(await reach(host, NetworkSettings.IPAddress, 80)).not.toContain('E');
    expect((await iso('ps', '--format', '{{.Ports}}')).stdout).toBe('127.0.0.1:8091->80/tcp\n');
    expect((await iso('rm', '-f', 'own')).stdout).toBe('own\n');
    expect((await iso('network', 'prune')).stdout).toBe('bridge\n');
  }, 120_000);

  it('bad input is one line, and leaves nothing', async () => {
    await iso('network', 'create', '--subnet', '10.88.0.0/24', 'app');
    serve(host, 7777);
    const state = () => [
      inside(host, 'ip -o link | cut -d: -f2'),
      inside(host, 'nft list ruleset'),
      readdirSync(join(folder, 'state/containers')).length,
    ];
    const before = state();
    const run = (...args: string[]) => ['run', '--rm', ...args, '/', 'true'];
    const bad = [
      run('--network', 'nowhere'),
      run('--network', 'app', '-p', '7777:80'),
      run('--network', 'app', '-p', '203.0.113.9:80:80'),
      run('--network', 'app', '--ip', '10.99.0.1'),
      run('--network', 'app', '--ip6', 'fd00::9'),
      run('--network', 'app', '--egress-allow', 'not a name'),
      run('--network', 'container:nobody'),
      run('-p', '80'),
      ['network', 'create', 'app'],
      ['network', 'create', '--subnet', '10.88.0.0/16', 'overlaps'],
      ['network', 'create', '--subnet', '10.0.0.0/33', 'malformed'],
      ['network', 'create', '-d', 'macvlan', 'orphan'],
      ['network', 'rm', 'nowhere'],
      ['network', 'connect', 'app', 'nobody'],
    ];
    // A few at a time: each is a Node that starts.
    const results: [string, number, string][] = [];
    const queue = [...bad];
    await Promise.all(
      Array.from({ length: 3 }, async () => {
        for (let args = queue.shift(); args; args = queue.shift()) {
          const { code, stderr } = await iso(...args);
          results.push([args.join(' '), code, stderr]);
        }
      }),
    );
    for (const [args, code, stderr] of results)
      expect([args, code, stderr]).toEqual([args, 125, expect.stringMatching(/^iso: [^\n]+\n$/)]);
    expect(results.find(([args]) => args.includes('7777:80'))?.[2]).toMatch(/7777/);
    expect(state()).toEqual(before);
    await iso('network', 'prune');
  }, 240_000);
});
