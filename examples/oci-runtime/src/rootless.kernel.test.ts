// A plain user's containers: what works without any privilege, and by which words the rest is refused.
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Config } from './config/spec.js';
import { Lab } from './testing/lab.js';

const [uid, gid] = [process.getuid?.() as number, process.getgid?.() as number];
const missing = [...(uid === 0 ? ['a plain user'] : []), ...(existsSync('/bin/busybox') ? [] : ['busybox-static'])];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';

describe.skipIf(needs)(`rootless${needs}`, () => {
  let lab: Lab;
  let count = 0;
  beforeAll(() => {
    lab = new Lab('/bin/busybox');
  });
  afterEach(() => {
    for (const id of lab.oci('list', '-q').stdout.split('\n')) if (id !== '') lab.oci('delete', '--force', id);
    expect(readdirSync(lab.store)).toEqual([]);
  });
  afterAll(() => rmSync(lab.folder, { recursive: true, force: true }));

  const one = (hostID: number) => [{ containerID: 0, hostID, size: 1 }];
  function bundle(args: string[], change: (config: Config & { linux: object }) => void = () => {}): [string, string] {
    const name = `p${++count}`;
    const path = lab.bundle(name, args, (config) => {
      const { cgroupsPath: _, resources, ...linux } = config.linux ?? {};
      Object.assign(config, {
        linux: {
          ...linux,
          // The rules for devices, which engines always write, are root's to apply.
          resources: { devices: (resources as { devices?: object[] } | undefined)?.devices },
          namespaces: [...(linux.namespaces ?? []), { type: 'user' }],
          uidMappings: one(uid),
          gidMappings: one(gid),
        },
      });
      change(config as Config & { linux: object });
    });
    return [name, path];
  }

  it('a whole life, as root of a user namespace of its own', () => {
    const [name, path] = bundle(['sleep', '1000']);
    expect(lab.oci('create', '--bundle', path, name)).toMatchObject({ code: 0, stderr: '' });
    expect(lab.oci('start', name)).toMatchObject({ code: 0, stderr: '' });
    const { pid } = JSON.parse(lab.oci('state', name).stdout);
    expect(readFileSync(`/proc/${pid}/uid_map`, 'utf8')).toMatch(new RegExp(`^ +0 +${uid} +1\n$`));
    const script = 'id -u; hostname; touch /tmp/x; ls /tmp; exit 4';
    expect(lab.oci('exec', name, 'sh', '-c', script)).toMatchObject({ code: 4, stdout: '0\nbox\nx\n' });
    expect(lab.oci('pause', name).stderr).toMatch(/no cgroup/);
    expect(lab.oci('kill', name, 'KILL').code).toBe(0);
    expect(lab.oci('delete', '--force', name)).toMatchObject({ code: 0, stderr: '' });
  });

  it('hooks, a filter without no_new_privs, a terminal', () => {
    const out = join(lab.folder, 'hook');
    const [name, path] = bundle(['sh', '-c', 'tty; grep -E "NoNew|Seccomp:" /proc/self/status'], (config) => {
      const hook = { path: '/bin/sh', args: ['sh', '-c', `id -u > ${out}`], env: ['PATH=/bin:/usr/bin'] };
      const seccomp = { defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['swapon'], action: 'SCMP_ACT_ERRNO' }] };
      Object.assign(config, { hooks: { createContainer: [hook] } });
      Object.assign(config.linux, { seccomp });
      Object.assign(config.process as object, { noNewPrivileges: false, terminal: true });
    });
    expect(lab.oci('run', '--bundle', path, name)).toMatchObject({
      code: 0,
      stderr: '',
      stdout: '/dev/pts/0\r\nNoNewPrivs:\t0\r\nSeccomp:\t2\r\n',
    });
    expect(readFileSync(out, 'utf8')).toBe('0\n');
  });

  it.each<[string, (config: Config & { linux: object }) => void, RegExp]>([
    ['limits', ({ linux }) => Object.assign(linux, { resources: { pids: { limit: 5 } } }), /EACCES.*delegated/],
    ['a cgroup', ({ linux }) => Object.assign(linux, { cgroupsPath: '/iso-test-x/y' }), /EACCES.*delegated/],
    [
      'ids of others',
      ({ linux }) => Object.assign(linux, { uidMappings: [{ containerID: 0, hostID: 70_000_000, size: 9 }] }),
      /newuidmap.*subuid/,
    ],
    [
      'no user namespace',
      (config) =>
        Object.assign(config.linux, {
          namespaces: (config as Config).linux?.namespaces?.filter(({ type }) => type !== 'user'),
          uidMappings: [],
          gidMappings: [],
        }),
      /EPERM.*user namespace/,
    ],
    [
      'an id that is not mapped',
      ({ process }) => Object.assign(process as object, { user: { uid: 5, gid: 0 } }),
      /setresuid.*map/,
    ],
  ])('refuses %s by a word of what is missing', (_, change, message) => {
    const [name, path] = bundle(['true'], change);
    expect(lab.oci('create', '--bundle', path, name)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(message),
    });
  });
});
