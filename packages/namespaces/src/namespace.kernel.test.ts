import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { Namespace, namespaces, parseIdMap, types, UserNamespace } from './index.js';

const root = process.getuid?.() === 0;
const userNamespaces = (() => {
  try {
    UserNamespace.create('root').close();
    return true;
  } catch {
    return false;
  }
})();

describe.skipIf(!root)('Namespace.create [needs root]', () => {
  it.each(['net', 'uts', 'ipc', 'cgroup', 'time', 'mount'] as const)(
    '%s: new, alone, owned by the caller’s user namespace',
    (type) => {
      const own = Namespace.create(type);
      const self = Namespace.self(type);
      const user = Namespace.self('user');
      const owner = own.owner();
      expect(own.equals(self)).toBe(false);
      expect(readlinkSync(`/proc/self/fd/${own.fd.number}`)).toMatch(
        new RegExp(`^${types[type].file}:\\[${own.id}\\]$`),
      );
      expect(owner.equals(user)).toBe(true);
      expect(() => Namespace.open({ fd: own.fd }, type === 'net' ? 'uts' : 'net')).toThrow(/not/);
      for (const namespace of [own, self, user, owner]) namespace.close();
    },
  );

  it('is what nsenter finds: names, loopback, clocks', () => {
    const enter = (option: string, namespace: Namespace, ...command: string[]) =>
      execFileSync('nsenter', [`${option}=/proc/${process.pid}/fd/${namespace.fd.number}`, ...command], {
        encoding: 'utf8',
      });
    const uts = Namespace.create('uts', { hostname: 'box', domainname: 'dom' });
    expect(enter('--uts', uts, 'cat', '/proc/sys/kernel/hostname', '/proc/sys/kernel/domainname')).toBe('box\ndom\n');
    const net = Namespace.create('net');
    expect(enter('--net', net, 'ip', '-j', 'link')).toContain('"LOOPBACK","UP"');
    const time = Namespace.create('time', { boottime: 100_000 });
    const uptime = Number(enter('--time', time, 'cat', '/proc/uptime').split(' ')[0]);
    expect(uptime - Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0])).toBeGreaterThan(99_990);
    for (const namespace of [uts, net, time]) namespace.close();
  });

  it('pins and unpins', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    const path = join(folder, 'net');
    const own = Namespace.create('net');
    own.pin(path);
    own.close();
    expect(execFileSync('nsenter', [`--net=${path}`, 'ls', '/proc/thread-self/net'], { encoding: 'utf8' })).toContain(
      'dev',
    );
    const again = Namespace.open({ path }, 'net');
    expect(again.id).toBe(own.id);
    again.close();
    Namespace.unpin(path);
    rmSync(folder, { recursive: true });
  });

  it('creates all of them for a process, as /proc shows', async () => {
    const all = namespaces({
      mount: 'new',
      pid: 'new',
      ipc: 'new',
      cgroup: 'new',
      net: 'new',
      uts: { hostname: 'box' },
      time: { monotonic: 5000 },
    });
    const text = await inside(
      all,
      'echo $$; cat /proc/sys/kernel/hostname; for n in mnt ipc cgroup net uts time; do readlink /proc/self/ns/$n; done',
    );
    const [pid, name, ...links] = text.trim().split('\n');
    expect([pid, name]).toEqual(['1', 'box']);
    expect(links).toHaveLength(6);
    for (const link of links) expect(link).not.toBe(readlinkSync(`/proc/self/ns/${link.split(':')[0]}`));
  });

  it('joins what exists: by object, by pid, by path', async () => {
    const net = Namespace.create('net');
    const uts = Namespace.create('uts', { hostname: 'joined' });
    const text = await inside(
      namespaces({ net, uts: { path: `/proc/self/fd/${uts.fd.number}` }, ipc: { pid: process.pid } }),
      'readlink /proc/self/ns/net; cat /proc/sys/kernel/hostname',
    );
    expect(text).toBe(`net:[${net.id}]\njoined\n`);
    net.close();
    uts.close();
  });
});

describe.skipIf(!userNamespaces)('UserNamespace [needs user namespaces]', () => {
  it('makes the caller root, with the maps that were asked for', async () => {
    const text = await inside(
      namespaces({ user: 'root' }),
      'id -u; id -g; cat /proc/self/uid_map; cat /proc/self/setgroups; grep CapEff /proc/self/status',
    );
    const [uid, gid, map, setgroups, caps] = text.trim().split('\n');
    expect([uid, gid, setgroups]).toEqual(['0', '0', root ? 'allow' : 'deny']);
    expect(parseIdMap(map ?? '')).toEqual([{ inside: 0, outside: process.getuid?.(), count: 1 }]);
    expect(caps).toMatch(/CapEff:\s+0+1ff/);
  });

  it('owns what is made with it, a pid namespace too', async () => {
    const own = UserNamespace.create('root');
    const text = await inside(
      namespaces({ user: own, pid: 'new', net: 'new', uts: { hostname: 'mine' } }),
      'echo $$; cat /proc/sys/kernel/hostname; readlink /proc/self/ns/user',
    );
    expect(text).toBe(`1\nmine\nuser:[${own.id}]\n`);
    const net = Namespace.create('net', { owner: own });
    const owner = net.owner();
    expect(owner.equals(own)).toBe(true);
    expect(own.ownerUid()).toBe(process.getuid?.());
    const parent = own.parent();
    expect(parent.id).toBe(Number(/\d+/.exec(readlinkSync('/proc/self/ns/user'))?.[0]));
    for (const namespace of [own, net, owner, parent]) namespace.close();
  });

  it.skipIf(!root)('writes ranges [needs root]', () => {
    const own = UserNamespace.create({
      uidMap: [{ inside: 0, outside: 100_000, count: 65_536 }],
      gidMap: [
        { inside: 0, outside: 100_000, count: 10 },
        { inside: 10, outside: 200_000, count: 5 },
      ],
    });
    const text = execFileSync(
      'nsenter',
      [`--user=/proc/${process.pid}/fd/${own.fd.number}`, 'cat', '/proc/self/uid_map', '/proc/self/gid_map'],
      { encoding: 'utf8' },
    );
    expect(parseIdMap(text)).toEqual([
      { inside: 0, outside: 100_000, count: 65_536 },
      { inside: 0, outside: 100_000, count: 10 },
      { inside: 10, outside: 200_000, count: 5 },
    ]);
    own.close();
  });

  it('says what is wrong with maps', () => {
    expect(() => UserNamespace.create({ uidMap: [], gidMap: [] })).toThrow(TypeError);
    if (!root)
      expect(() =>
        UserNamespace.create({
          uidMap: [{ inside: 0, outside: 0, count: 10 }],
          gidMap: [{ inside: 0, outside: 0, count: 1 }],
        }),
      ).toThrow(/newuidmap|subuid/);
  });
});
