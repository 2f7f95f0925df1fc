import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { inside, ip, root } from '../testing/judge.js';
import { reach, World } from '../testing/world.js';
import { HostsFile, ResolvFile, readResolvConf, Sandbox } from './index.js';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

describe.skipIf(!root)('Sandbox [needs root]', () => {
  let world: World;
  let directory: string;
  beforeEach(() => {
    world = new World();
    directory = mkdtempSync(join(tmpdir(), 'iso-sandbox-'));
  });
  afterEach(async () => {
    rmSync(directory, { recursive: true });
    await world.close();
  });

  /** The way out, as the kernel takes it. */
  const way = (destination: string) => ip(world.a, `route get ${destination}`)[0]?.dev;

  it('is in several networks: the way out is that of the highest priority, and moves when that is left', async () => {
    const front = world.network({ name: 'front', subnets: ['10.50.1.0/24', 'fd00:50:0:1::/64'] });
    const back = world.network({ name: 'back', subnets: ['10.50.2.0/24', 'fd00:50:0:2::/64'] });
    const third = world.network({ name: 'third', subnets: ['10.50.3.0/24'] });
    const inner = world.network({ name: 'inner', subnets: ['10.50.4.0/24'], internal: true });
    const sandbox = await Sandbox.create({ netns: world.a });
    world.serve(world.outside, 80);
    const ways = () => [way('192.0.2.2'), way('2001:db8::2'), sandbox.gateway?.link];
    expect((await sandbox.connect(front)).link).toBe('eth0');
    expect(ways()).toEqual(['eth0', 'eth0', 'eth0']);
    expect((await sandbox.connect(back)).link).toBe('eth1');
    expect(ways()).toEqual(['eth0', 'eth0', 'eth0']);
    await sandbox.connect(third, { priority: 5 });
    // It has no IPv6, for which the first one stays.
    expect(ways()).toEqual(['eth2', 'eth0', 'eth2']);
    await sandbox.connect(inner, { priority: 100 });
    expect(ways()).toEqual(['eth2', 'eth0', 'eth2']);
    expect(await reach(world.a, '192.0.2.2', 80)).toBe('192.0.2.1');
    await sandbox.disconnect(third);
    expect(ways()).toEqual(['eth0', 'eth0', 'eth0']);
    await sandbox.disconnect(front);
    expect(ways()).toEqual(['eth1', 'eth1', 'eth1']);
    expect(await reach(world.a, '2001:db8::2', 80)).toBe('2001:db8::1');
    expect((await sandbox.connect(front, { priority: -1 })).link).toBe('eth0');
    expect(ways()).toEqual(['eth1', 'eth1', 'eth1']);
    await expect(sandbox.connect(front)).rejects.toThrow(code('EEXIST'));
    await expect(sandbox.disconnect(third)).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(sandbox.connect(third, { priority: 1e9 })).rejects.toThrow(code('ERR_INVALID_ARG_VALUE'));
    await expect(sandbox.connect(third, { link: 'eth0' })).rejects.toThrow(code('EEXIST'));
    expect(sandbox.endpoints.map(({ link }) => link)).toEqual(['eth1', 'eth3', 'eth0']);
    await sandbox.close();
    await sandbox.close();
    expect(ip(world.a, 'link').map((link) => link.ifname)).toEqual(['lo']);
    expect(third.members).toEqual([]);
  });

  it('answers by whichever link, where the machine filters by reverse path', async () => {
    world.a.sysctl.set('net.ipv4.conf.all.rp_filter', 1);
    const [front, back] = [1, 2].map((n) => world.network({ name: `n${n}`, subnets: [`10.50.${n}.0/24`] }));
    await using sandbox = await Sandbox.create({ netns: world.a });
    // At once: each takes a link of its own.
    const both = [front, back].map((network) => sandbox.connect(network as NonNullable<typeof network>));
    const links = (await Promise.all(both)).map(({ link }) => link);
    expect(links).toEqual(['eth0', 'eth1']);
    for (const link of links) expect(inside(world.a, `cat /proc/sys/net/ipv4/conf/${link}/rp_filter`).trim()).toBe('2');
  });

  it('writes its names into files that others write too, and has a name server that knows its networks as they are', async () => {
    const [hosts, resolvConf] = [join(directory, 'hosts'), join(directory, 'resolv.conf')];
    writeFileSync(hosts, '127.0.0.1\tlocalhost\n192.0.2.9 theirs # not ours');
    writeFileSync(resolvConf, 'options rotate\n');
    const { ino } = statSync(hosts);
    const front = world.network({ name: 'front', subnets: ['10.50.1.0/24', 'fd00:50:0:1::/64'] });
    await front.attach(world.b, { names: ['db'] });
    await using sandbox = await Sandbox.create({
      netns: world.a,
      hostname: 'box',
      hosts,
      resolvConf,
      extraHosts: { 'host.internal': ['10.50.1.1'] },
      dns: { search: ['example'], options: ['ndots:0'] },
      nameServer: {},
    });
    const theirs = '127.0.0.1\tlocalhost\n192.0.2.9 theirs # not ours\n';
    const extra = '10.50.1.1\thost.internal\t# iso\n';
    expect(readFileSync(hosts, 'utf8')).toBe(theirs + extra);
    expect(readFileSync(resolvConf, 'utf8')).toBe(
      '# iso: begin\nnameserver 127.0.0.11\nsearch example\noptions ndots:0\n# iso: end\noptions rotate\n',
    );
    // glibc is the judge: what getent finds, with these files in their places.
    // The name server is in this process, which must not wait meanwhile.
    const files = `mount --bind ${hosts} /etc/hosts && mount --bind ${resolvConf} /etc/resolv.conf`;
    const getent = async (name: string) => {
      const net = `--net=/proc/${process.pid}/fd/${world.a.fd.number}`;
      const command = `unshare -m sh -c '${files} && getent ahostsv4 ${name}' || true`;
      const { stdout } = await promisify(execFile)('nsenter', [net, 'sh', '-c', command]);
      return stdout.split(/\s+/)[0];
    };
    expect(await getent('db')).toBe('');
    await sandbox.connect(front, { names: ['web'] });
    expect(readFileSync(hosts, 'utf8')).toBe(`${theirs}10.50.1.3\tbox\t# iso\nfd00:50:0:1::3\tbox\t# iso\n${extra}`);
    const found = ['db', 'web', 'box', 'theirs', 'host.internal'].map(getent);
    expect(await Promise.all(found)).toEqual(['10.50.1.2', '10.50.1.3', '10.50.1.3', '192.0.2.9', '10.50.1.1']);
    writeFileSync(hosts, `${readFileSync(hosts, 'utf8')}192.0.2.10 added\n`);
    await sandbox.disconnect(front);
    expect(readFileSync(hosts, 'utf8')).toBe(`${theirs}192.0.2.10 added\n${extra}`);
    expect(statSync(hosts).ino).toBe(ino);
    expect(await getent('db')).toBe('');
  });
});

describe('files of names', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'iso-files-'));
  });
  afterEach(() => rmSync(directory, { recursive: true }));

  it('a resolv.conf that somebody took over is left alone', () => {
    const path = join(directory, 'resolv.conf');
    const file = new ResolvFile(path);
    expect(file.write({ servers: ['10.0.0.1'] })).toBe(true);
    expect(file.write({ servers: ['10.0.0.2'], search: ['a', 'b'] })).toBe(true);
    expect(readFileSync(path, 'utf8')).toBe('# iso: begin\nnameserver 10.0.0.2\nsearch a b\n# iso: end\n');
    writeFileSync(path, 'nameserver 192.0.2.1\n');
    expect(file.write({ servers: ['10.0.0.3'] })).toBe(false);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 192.0.2.1\n');
    const again = new ResolvFile(path);
    expect(again.write({ servers: ['10.0.0.4'] })).toBe(true);
    expect(again.write(undefined)).toBe(true);
    expect(readFileSync(path, 'utf8')).toBe('nameserver 192.0.2.1\n');
  });

  it('what would be a line of its own, and a link in place of the file, are refused', () => {
    const path = join(directory, 'hosts');
    writeFileSync(path, 'theirs\n');
    for (const entry of [
      { address: '10.0.0.1', names: ['a\n10.0.0.2 bank'] },
      { address: '10.0.0.1', names: ['a # b'] },
      { address: '10.0.0.1', names: [] },
      { address: 'x', names: ['a'] },
    ])
      expect(() => new HostsFile(path).write([entry])).toThrow(code('ERR_INVALID_ARG_VALUE'));
    for (const conf of [{ servers: ['dns'] }, { servers: [], search: ['a b'] }, { servers: [], options: ['a\nb'] }])
      expect(() => new ResolvFile(path).write(conf)).toThrow(code('ERR_INVALID_ARG_VALUE'));
    expect(readFileSync(path, 'utf8')).toBe('theirs\n');
    symlinkSync('hosts', join(directory, 'link'));
    expect(() => new HostsFile(join(directory, 'link')).write([])).toThrow(code('ELOOP'));
    expect(() => new HostsFile(directory).write([])).toThrow(code('EISDIR'));
  });

  it('a resolv.conf is read as the C library reads it', () => {
    const text =
      '# nameserver 1.1.1.1\nnameserver 127.0.0.53\nnameserver x\nnameserver ::1 ; second\nsearch a b\ndomain c\noptions ndots:1 rotate\n';
    expect(readResolvConf(text)).toEqual({
      servers: ['127.0.0.53', '::1'],
      search: ['c'],
      options: ['ndots:1', 'rotate'],
    });
  });
});
