import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errand, LaunchProgram } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { inside } from '../../../test/confined.js';
import { inNode } from './fixture.js';
import * as api from './index.js';
import { listNamespaces, Namespace, type NamespaceNode, namespaces, namespaceTree, UserNamespace } from './index.js';

const root = process.getuid?.() === 0;
const userNamespaces = (() => {
  try {
    UserNamespace.create('root').close();
    return true;
  } catch {
    return false;
  }
})();

interface Row {
  ns: number;
  type: string;
  nprocs: number;
  pns: number;
  ons: number;
}

describe('listNamespaces', () => {
  it('shows what lsns shows: types, members, owners, parents', () => {
    // A kernel thread or a process of somebody's may come and go between the two looks.
    for (let attempt = 0; ; attempt++) {
      const ours = listNamespaces();
      const text = execFileSync('lsns', ['-J', '-o', 'NS,TYPE,NPROCS,PNS,ONS'], { encoding: 'utf8' });
      const theirs = (JSON.parse(text) as { namespaces: Row[] }).namespaces;
      const found = theirs.map(({ ns }) => ours.find(({ id }) => id === ns));
      const shown = found.map((entry) => entry && [entry.id, entry.type, entry.parent ?? 0, entry.owner ?? 0]);
      const expected = theirs.map(({ ns, type, pns, ons }) => [ns, type === 'mnt' ? 'mount' : type, pns, ons]);
      const counts = theirs.every(({ nprocs }, i) => Math.abs((found[i]?.pids.length ?? 0) - nprocs) <= 2);
      if (attempt < 5 && (!counts || JSON.stringify(shown) !== JSON.stringify(expected))) continue;
      expect(shown).toEqual(expected);
      expect(counts).toBe(true);
      return;
    }
  });

  it.skipIf(!userNamespaces)('shows what has no process, and who holds it [needs user namespaces]', () => {
    using user = UserNamespace.create('root');
    using net = Namespace.create('net', { owner: user });
    const entry = listNamespaces({ type: 'net' }).find(({ id }) => id === net.id);
    expect(entry).toEqual({
      type: 'net',
      id: net.id,
      pids: [],
      holders: [process.pid],
      pins: [],
      owner: user.id,
      parent: undefined,
    });
    expect(net.members()).toEqual([]);
    expect(listNamespaces({ type: 'net' }).every(({ type }) => type === 'net')).toBe(true);
    const find = (nodes: NamespaceNode[], id: number): NamespaceNode | undefined =>
      nodes.map((node) => (node.id === id ? node : find(node.children, id))).find((node) => node);
    const tree = namespaceTree();
    expect(find(tree, user.id)?.children.map(({ id }) => id)).toContain(net.id);
    const own = Number(/\d+/.exec(readlinkSync('/proc/self/ns/user'))?.[0]);
    expect(find(namespaceTree('parent'), own)?.children.map(({ id }) => id)).toContain(user.id);
    using here = Namespace.self('net');
    expect(here.members()).toContain(process.pid);
  });

  it.skipIf(!userNamespaces)(
    'shows what is pinned, and a user namespace that only its children keep [needs user namespaces]',
    () => {
      const out = inNode(
        `const { mkdirSync } = await import('node:fs'); mkdirSync('/mnt/a b');
       const uts = ns.Namespace.create('uts'); uts.pin('/mnt/a b/uts'); const { id } = uts; uts.close();
       const middle = ns.UserNamespace.create('root'); const net = ns.Namespace.create('net', { owner: middle });
       const between = middle.id; middle.close();
       console.log(JSON.stringify([ns.listNamespaces().find((entry) => entry.id === id), ns.listNamespaces().find((entry) => entry.id === between), id, between]));
       ns.Namespace.unpin('/mnt/a b/uts'); console.log(ns.listNamespaces().some((entry) => entry.id === id)); net.close();`,
        `exec unshare -Urm sh -c 'mount -t tmpfs tmpfs /mnt; exec "$0" "$@"' "$0" "$@"`,
      );
      const [line = '', after] = out.trim().split('\n');
      const [pinned, middle, id, between] = JSON.parse(line);
      expect(pinned).toMatchObject({ type: 'uts', id, pids: [], pins: ['/mnt/a b/uts'], holders: [] });
      expect(middle).toMatchObject({ type: 'user', id: between, pids: [], holders: [] });
      expect(after).toBe('false');
    },
  );
});

describe.skipIf(!root)('pins [needs root]', () => {
  it('says why a mount namespace cannot be pinned to a shared mount, and leaves no file', () => {
    const out = inNode(
      `const { existsSync } = await import('node:fs'); const mount = ns.Namespace.create('mount');
       const attempt = (path) => { try { mount.pin(path); return 'pinned'; } catch (error) { return error.code + ' ' + error.hint; } };
       console.log(attempt('/mnt/shared/x')); console.log(existsSync('/mnt/shared/x'));
       console.log(attempt('/mnt/private/x')); ns.Namespace.open({ path: '/mnt/private/x' }, 'mount').close(); ns.Namespace.unpin('/mnt/private/x');
       console.log(existsSync('/mnt/private/x'));`,
      // On one processor: each gives namespaces numbers of its own, and which is older is told by these.
      `exec taskset -c 0 unshare -m sh -c 'mount -t tmpfs tmpfs /mnt; for n in shared private; do mkdir /mnt/$n; mount -t tmpfs tmpfs /mnt/$n; mount --make-$n /mnt/$n; done; exec "$0" "$@"' "$0" "$@"`,
    );
    expect(out).toMatch(/^EINVAL .*not shared.*\nfalse\npinned\nfalse\n$/);
  });

  it('unpins nothing but a namespace', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    for (const path of [folder, '/proc', '/etc/passwd']) expect(() => Namespace.unpin(path)).toThrow(TypeError);
    expect(() => Namespace.unpin(join(folder, 'missing'))).toThrow(/ENOENT/);
    using uts = Namespace.create('uts');
    mkdirSync(join(folder, 'directory'));
    for (const path of [join(folder, 'directory'), join(folder, 'missing/x')])
      expect(() => uts.pin(path)).toThrow(/mount\(uts/);
    expect(readdirSync(folder)).toEqual(['directory']);
    rmSync(folder, { recursive: true });
  });
});

it.skipIf(!userNamespaces)(
  'no function of the package moves a thread of this process [needs user namespaces]',
  async () => {
    const threads = () =>
      readdirSync('/proc/self/task').map((task) =>
        readdirSync(`/proc/self/task/${task}/ns`)
          .map((name) => readlinkSync(`/proc/self/task/${task}/ns/${name}`))
          .join(),
      );
    const before = new Set(threads());
    expect(before.size).toBe(1);
    using user = UserNamespace.create('root');
    using net = Namespace.create('net', { owner: user });
    const calls: Record<keyof typeof api, () => unknown> = {
      idMapText: () => api.idMapText([{ inside: 0, outside: 0, count: 1 }]),
      parseIdMap: () => api.parseIdMap('0 0 1'),
      parseSubordinateIds: () => api.parseSubordinateIds(''),
      subordinateIds: () => api.subordinateIds('/etc/subuid'),
      subordinateMap: () => api.subordinateMap(0, []),
      types: () => api.types,
      tracers: () => api.tracers({ pid: process.pid }),
      listNamespaces: () => listNamespaces(),
      namespaceTree: () => namespaceTree(),
      namespaces: () =>
        inside(namespaces({ user: 'root', pid: 'new', mount: 'new', net: 'new', time: { boottime: 5 } }), 'true'),
      UserNamespace: () => UserNamespace.create('self').close(),
      Namespace: () => {
        const seen: Namespace[] = [
          Namespace.self('net'),
          net.owner(),
          user.parent(),
          Namespace.open({ pid: process.pid }, 'uts'),
        ];
        for (const type of ['mount', 'uts', 'ipc', 'cgroup', 'time', 'net'] as const)
          seen.push(Namespace.create(type, { owner: user }));
        net.equals(seen[0] as Namespace);
        user.ownerUid();
        net.members();
        expect(() => net.pin('/proc/no')).toThrow();
        expect(() => Namespace.unpin('/proc')).toThrow();
        const program = new LaunchProgram('errand');
        user.confine(program);
        net.confine(program);
        errand(program);
        for (const namespace of seen) namespace.close();
      },
    };
    for (const [name, call] of Object.entries(calls)) {
      await call();
      expect([name, new Set(threads())]).toEqual([name, before]);
    }
    expect(Object.keys(calls).sort()).toEqual(Object.keys(api).sort());
  },
);

it.skipIf(!userNamespaces)('an errand runs inside: what it opens is open here [needs user namespaces]', () => {
  using user = UserNamespace.create('root');
  using uts = Namespace.create('uts', { owner: user, hostname: 'there' });
  const run = (build: (program: LaunchProgram) => void) => {
    const program = new LaunchProgram('errand');
    user.confine(program);
    uts.confine(program);
    build(program);
    errand(program);
  };
  run((program) => void program.step('host', 'sethostname', ['changed', 7]));
  const nsenter = ['-U', `-u/proc/${process.pid}/fd/${uts.fd.number}`, '--preserve-credentials', 'hostname'];
  nsenter[0] = `--user=/proc/${process.pid}/fd/${user.fd.number}`;
  expect(execFileSync('nsenter', nsenter, { encoding: 'utf8' })).toBe('changed\n');
});
