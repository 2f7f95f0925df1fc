import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, fstatSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fd, LaunchProgram, launch, reap, StringArray, syscall } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { listNetNS, NetNS } from '../index.js';
import { home, inside, ip, outside, root } from '../testing/judge.js';

const SIOCGSKNS = 0x894c;

describe.skipIf(!root)('NetNS [needs root]', () => {
  it('create: new, alone, its loopback up', () => {
    using lab = NetNS.create();
    expect(readlinkSync(`/proc/self/fd/${lab.fd.number}`)).toBe(`net:[${lab.id}]`);
    expect(lab.id).not.toBe(Number(/\d+/.exec(readlinkSync('/proc/self/ns/net'))?.[0]));
    expect(ip(lab, 'link')).toMatchObject([{ ifname: 'lo', flags: expect.arrayContaining(['UP', 'LOWER_UP']) }]);
    using down = NetNS.create({ loopback: false });
    expect(ip(down, 'link')[0]?.flags).not.toContain('UP');
  });

  it('has a number of its own that no other has, and its inode', () => {
    using a = NetNS.create();
    using b = NetNS.create();
    using again = NetNS.open({ fd: a.fd });
    expect(a.cookie).not.toBe(b.cookie);
    expect(again.cookie).toBe(a.cookie);
    expect(a.equals(again)).toBe(true);
    expect(a.equals(b)).toBe(false);
  });

  it('lives as long as the last of its objects; nothing that was made with it holds it longer', async () => {
    using outer = NetNS.create();
    const lab = NetNS.create();
    outer.rtnl.links.create({ kind: 'veth', name: 'v0', peer: { name: 'v1', netns: lab } });
    const other = lab.duplicate();
    expect([other.id, other.equals(lab)]).toEqual([lab.id, true]);
    lab.close();
    expect(() => lab.rtnl.links.list()).toThrow();
    expect(ip(other, 'link').map((link) => link.ifname)).toEqual(other.rtnl.links.list().map(({ name }) => name));
    // A veth goes with its peer's namespace.
    expect(ip(outer, 'link').length).toBe(2);
    other.close();
    await expect.poll(() => ip(outer, 'link').length, { timeout: 10_000 }).toBe(1);
  });

  it('may belong to another user namespace, and is worked in all the same', async () => {
    const child = spawn('unshare', ['-U', '--map-root-user', 'sh', '-c', 'echo; read x'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const owner = Fd.open(`/proc/${child.pid}/ns/user`);
    using lab = NetNS.create({ owner });
    lab.rtnl.links.create({ kind: 'bridge', name: 'br0', up: true });
    lab.sysctl.set('net.ipv4.ip_forward', 1);
    const server = lab.listen({ port: 80, host: '127.0.0.1' });
    await once(server, 'listening');
    // It has no power over it but by that user namespace, which the kernel says owns it.
    const net = `/proc/${process.pid}/fd/${lab.fd.number}`;
    const command = `nsenter --user=/proc/${child.pid}/ns/user --net=${net} sh -c 'ip -o link; ss -Hltn; cat /proc/sys/net/ipv4/ip_forward'`;
    expect(outside(command)).toMatch(/br0[\s\S]*127\.0\.0\.1:80[\s\S]*1\n$/);
    using again = NetNS.open({ fd: lab.fd });
    expect(again.rtnl.links.list().map((link) => link.name)).toEqual(['lo', 'br0']);
    server.close();
    await once(server, 'close');
    owner.close();
    child.stdin.end();
    await once(child, 'exit');
  });

  it('opens by pid, path and descriptor', async () => {
    using lab = NetNS.create();
    const child = spawn('nsenter', [`--net=/proc/${process.pid}/fd/${lab.fd.number}`, 'sh', '-c', 'echo; read x'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    const pid = child.pid as number;
    using byPid = NetNS.open({ pid });
    using byPath = NetNS.open({ path: `/proc/${pid}/ns/net` });
    expect([byPid.id, byPath.id]).toEqual([lab.id, lab.id]);
    expect(listNetNS().find(({ id }) => id === lab.id)?.pids).toEqual([pid]);
    child.stdin.end();
    await once(child, 'exit');
    using self = NetNS.self();
    expect(`net:[${self.id}]`).toBe(readlinkSync('/proc/self/ns/net'));
  });

  it.each([
    ['a file', { path: '/dev/null' }],
    ['another namespace', { path: '/proc/self/ns/mnt' }],
    ['a pid of 0', { pid: 0 }],
    ['a name with a slash', { name: '../lab' }],
  ])('open refuses %s', (_, source) => {
    expect(() => NetNS.open(source)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('open of what is missing says ENOENT', () => {
    expect(() => NetNS.open({ path: '/run/netns/iso-test-missing' })).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
  });

  it('sockets stay inside, whoever uses them', () => {
    using lab = NetNS.create();
    using socket = lab.socket(2, 1);
    // Which namespace a socket is in is told by the kernel itself; python is no part of this project.
    const inode = execFileSync(
      'python3',
      ['-c', `import fcntl, os; print(os.fstat(fcntl.ioctl(3, ${SIOCGSKNS})).st_ino)`],
      { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit', socket.number] },
    );
    expect(Number(inode)).toBe(lab.id);
    expect(readFileSync(`/proc/self/fdinfo/${socket.number}`, 'utf8')).toMatch(/flags:\s*02000002/);
  });

  // /sys is as its mount was made: whoever is moved into a namespace sees the links of another one there.
  it('its links are those of the namespace, whatever /sys shows', () => {
    using lab = NetNS.create();
    lab.rtnl.links.create({ kind: 'ifb', name: 'only-inside' });
    const script = `
      import { readdirSync } from 'node:fs';
      import { NetNS } from '@iso/netns';
      const names = NetNS.self().rtnl.links.list().map(({ name }) => name);
      console.log(JSON.stringify([names, readdirSync('/sys/class/net')]));`;
    const [names, shown] = JSON.parse(
      execFileSync(
        'nsenter',
        [
          `--net=/proc/${process.pid}/fd/${lab.fd.number}`,
          process.execPath,
          ...fromSources,
          '--input-type=module',
          '-e',
          script,
        ],
        { encoding: 'utf8', cwd: home },
      ),
    ) as [string[], string[]];
    expect(names).toEqual(ip(lab, 'link').map((link) => link.ifname));
    expect(names).toContain('only-inside');
    expect(lab.rtnl.links.list().map(({ name }) => name)).toEqual(names);
    // That is the trap: /sys inside is still the one of outside.
    expect(shown).not.toContain('only-inside');
    expect(shown).toEqual(readdirSync('/sys/class/net'));
  });

  it('Unix sockets: abstract names are of one namespace, paths are of all', () => {
    using one = NetNS.create();
    using two = NetNS.create();
    const directory = mkdtempSync(join(tmpdir(), 'iso-unix-'));
    const [AF_UNIX, SOCK_STREAM] = [1, 1];
    const address = (name: string) => Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(name)]);
    const path = address(`${join(directory, 'socket')}\0`);
    const abstract = address('\0iso-test');
    const bound = (ns: NetNS, at: Buffer) => {
      const socket = ns.socket(AF_UNIX, SOCK_STREAM);
      syscall('bind', socket, at, at.length);
      syscall('listen', socket, 1);
      return socket;
    };
    const connect = (ns: NetNS, at: Buffer) => {
      using socket = ns.socket(AF_UNIX, SOCK_STREAM);
      syscall('connect', socket, at, at.length);
    };
    try {
      using here = bound(one, abstract);
      connect(one, abstract);
      expect(() => connect(two, abstract)).toThrow(expect.objectContaining({ code: 'ECONNREFUSED' }));
      using there = bound(two, abstract);
      connect(two, abstract);
      expect(there.number).not.toBe(here.number);
      using file = bound(one, path);
      connect(two, path);
      expect(file.closed).toBe(false);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('a failing step closes what it opened', () => {
    using lab = NetNS.create();
    expect(() => lab.socket(2, 77)).toThrow(expect.objectContaining({ code: 'EINVAL', syscall: 'socket' }));
  });

  it('is a part of a launch: the process starts inside', async () => {
    using lab = NetNS.create();
    using out = Fd.own(openTemporary());
    const program = new LaunchProgram();
    lab.confine(program);
    program.step('fds', 'dup3', [out, 1, 0]);
    program.step('exec', 'execve', [
      '/bin/readlink',
      new StringArray(['readlink', '/proc/self/ns/net']),
      new StringArray([]),
    ]);
    const { pidfd } = launch(program);
    expect(reap(pidfd, { block: true })?.code).toBe(0);
    pidfd.close();
    expect(readFileSync(`/proc/self/fd/${out.number}`, 'utf8').trim()).toBe(`net:[${lab.id}]`);
  });

  it('settings are written inside and nowhere else', () => {
    using lab = NetNS.create();
    const before = readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8');
    lab.sysctl.set('net.ipv4.ip_forward', 1);
    lab.rtnl.links.create({ kind: 'ifb', name: 'a.b' });
    lab.sysctl.set('net/ipv4/conf/a.b/forwarding', '0');
    expect(inside(lab, 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/a.b/forwarding')).toBe('1\n0\n');
    expect(lab.sysctl.get('net.ipv4.ip_forward')).toBe('1');
    expect(readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8')).toBe(before);
    expect(() => lab.sysctl.set('net.ipv4.ip_forward', 'x')).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => lab.sysctl.get('net.ipv4.nope')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    for (const name of ['kernel.hostname', 'net/../kernel/hostname', 'net', ''])
      expect(() => lab.sysctl.get(name), name).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }));
  });

  it('no thread of this process ever moves, nor do the threads of its pool', () => {
    using lab = NetNS.create();
    lab.sysctl.set('net.ipv4.ip_forward', 1);
    lab.socket(2, 1).close();
    const own = readlinkSync('/proc/self/ns/net');
    const threads = execFileSync('sh', ['-c', `readlink /proc/${process.pid}/task/*/ns/net | sort -u`], {
      encoding: 'utf8',
    });
    expect(threads.trim()).toBe(own);
    expect(fstatSync(lab.fd.number).ino).toBe(lab.id);
  });

  it('is pinned for `ip netns` and unpinned, in a mount namespace of the test’s own', () => {
    const script = `
      import { NetNS, listNetNS } from '@iso/netns';
      import { execFileSync } from 'node:child_process';
      const run = (...args) => execFileSync('ip', args, { encoding: 'utf8' });
      const fail = (what) => { throw new Error(what) };
      const code = (work) => { try { work() } catch (error) { return error.code } };
      {
        const lab = NetNS.create();
        lab.rtnl.links.create({ kind: 'bridge', name: 'br7' });
        lab.pin('lab one');
        if (code(() => lab.pin('lab one')) !== 'EEXIST') fail('pinned twice');
        lab.close();
      }
      if (!run('netns', 'list').includes('lab one')) fail('not listed by ip');
      if (!run('-n', 'lab one', 'link').includes('br7')) fail('not reached by ip');
      const found = NetNS.open({ name: 'lab one' });
      if (!found.rtnl.links.list().some((link) => link.name === 'br7')) fail('not the same');
      if (listNetNS().find(({ id }) => id === found.id)?.names[0] !== 'lab one') fail('not listed');
      run('netns', 'add', 'theirs');
      NetNS.open({ name: 'theirs' }).close();
      NetNS.unpin('theirs');
      NetNS.unpin('lab one');
      if (run('netns', 'list').trim() !== '') fail('still there');
      if (code(() => NetNS.unpin('lab one')) !== 'ENOENT') fail('unpinned twice');
      for (const name of ['', '.', '..', 'a/b', 'a'.repeat(256)])
        if (code(() => found.pin(name)) !== 'ERR_INVALID_ARG_VALUE') fail('took ' + name);
      found.close();
    `;
    const before = existsSync('/run/netns');
    const body = 'mount -t tmpfs run /run && exec "$@"';
    const node = [process.execPath, ...fromSources, '--input-type=module', '-e', script];
    execFileSync('unshare', ['-m', 'sh', '-c', body, 'sh', ...node], {
      cwd: home,
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    expect(existsSync('/run/netns')).toBe(before);
  });

  it('ends when it is let go', async () => {
    using watcher = NetNS.create();
    const lab = NetNS.create();
    watcher.rtnl.links.create({ kind: 'veth', name: 'left', peer: { name: 'right', netns: lab } });
    lab.close();
    lab.close();
    await expect.poll(() => ip(watcher, 'link').length, { timeout: 10_000 }).toBe(1);
  });
});

function openTemporary(): number {
  const folder = execFileSync('mktemp', ['-d'], { encoding: 'utf8' }).trim();
  const fd = Fd.open(`${folder}/out`, { flags: 0o102, mode: 0o600 });
  execFileSync('rm', ['-r', folder]);
  return fd.release();
}
