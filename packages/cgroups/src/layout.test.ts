import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { detect, hierarchyOf, onlyVersion, parseProcCgroup } from './layout.js';

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A machine's files, as they were recorded. */
function recorded(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'iso-layout-'));
  folders.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const v1 = (id: number, name: string, options: string, top = '/') =>
  `${id} 25 0:${id} ${top} /sys/fs/cgroup/${name} rw,nosuid shared:9 - cgroup cgroup rw,${options}`;

describe('detect', () => {
  it('unified, as systemd mounts it', () => {
    const root = recorded({
      'proc/self/mountinfo':
        '30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n',
      'proc/self/cgroup': '0::/user.slice/user-1000.slice/session-3.scope\n',
      'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc\n',
    });
    const layout = detect({ root });
    expect(layout).toMatchObject({ kind: 'unified', unified: `${root}/sys/fs/cgroup`, v1: {} });
    expect(layout.hierarchies[0]).toMatchObject({
      own: '/user.slice/user-1000.slice/session-3.scope',
      options: expect.arrayContaining(['nsdelegate']),
    });
    expect(hierarchyOf(layout, 'io')?.version).toBe(2);
    expect(hierarchyOf(layout, 'devices')?.version).toBe(2);
    expect(hierarchyOf(layout, 'net_cls')).toBeUndefined();
    expect(() => onlyVersion(layout, 1)).toThrow(/v1/);
  });

  it('legacy, with joint controllers and blkio by its v2 name', () => {
    const layout = detect({
      mountinfo: [
        v1(31, 'cpu,cpuacct', 'cpu,cpuacct'),
        v1(32, 'net_cls,net_prio', 'net_cls,net_prio'),
        v1(33, 'blkio', 'blkio'),
        v1(34, 'systemd', 'xattr,name=systemd'),
        v1(35, 'cpuset', 'cpuset,noprefix'),
      ].join('\n'),
      cgroup: '4:cpuset:/\n3:blkio:/a:b/c\n2:net_cls,net_prio:/\n1:name=systemd:/init\n7:cpu,cpuacct:/x (deleted)\n',
    });
    expect(layout.kind).toBe('legacy');
    expect(layout.v1.cpu).toBe('/sys/fs/cgroup/cpu,cpuacct');
    expect(layout.v1.cpuacct).toBe(layout.v1.cpu);
    expect(layout.v1.io).toBe('/sys/fs/cgroup/blkio');
    expect(hierarchyOf(layout, 'io')?.own).toBe('/a:b/c');
    expect(hierarchyOf(layout, 'cpu')?.own).toBe('/x');
    expect(layout.hierarchies.find((one) => one.name === 'systemd')?.own).toBe('/init');
    expect(hierarchyOf(layout, 'freezer')).toBeUndefined();
  });

  it('hybrid: controllers on v1, freezing on v2', () => {
    const layout = detect({
      mountinfo: [
        v1(31, 'freezer', 'freezer'),
        v1(32, 'memory', 'memory'),
        '33 25 0:33 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
      ].join('\n'),
      cgroup: '2:memory:/\n0::/\n',
    });
    expect(layout.kind).toBe('hybrid');
    expect(hierarchyOf(layout, 'freezer')?.version).toBe(2);
    expect(hierarchyOf(layout, 'memory')?.version).toBe(1);
    expect(hierarchyOf(onlyVersion(layout, 1), 'freezer')?.version).toBe(1);
  });

  it('in a container: the bound subtree’s top is taken off, what is outside has no path', () => {
    const mountinfo = v1(31, 'memory', 'memory', '/docker/abc');
    const own = (cgroup: string) => detect({ mountinfo, cgroup }).hierarchies[0]?.own;
    expect(own('2:memory:/docker/abc\n')).toBe('/');
    expect(own('2:memory:/docker/abc/job\n')).toBe('/job');
    expect(own('2:memory:/docker/abcd\n')).toBeUndefined();
    expect(own('2:memory:/../x\n')).toBeUndefined();
    expect(own('')).toBeUndefined();
  });

  it('takes the mount that shows where this process is, and unescapes its path', () => {
    const mountinfo = [v1(31, 'memory', 'memory', '/elsewhere'), v1(32, 'my\\040memory', 'memory')].join('\n');
    expect(detect({ mountinfo, cgroup: '2:memory:/\n' }).v1.memory).toBe('/sys/fs/cgroup/my memory');
  });

  it('says so where there is none', () => {
    expect(() => detect({ mountinfo: '23 1 0:21 / /proc rw - proc proc rw\n', cgroup: '' })).toThrow(
      expect.objectContaining({ code: 'EUNSUPPORTED' }),
    );
  });
});

it('parseProcCgroup splits at two colons only', () => {
  expect(parseProcCgroup('0::/a:b (deleted)\n12:cpu,cpuacct:/\n')).toEqual([
    { controllers: [], path: '/a:b', deleted: true },
    { controllers: ['cpu', 'cpuacct'], path: '/', deleted: false },
  ]);
});
