// Cgroups that systemd makes, as it shows them itself and as the container sees them.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from './testing/lab.js';

const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
];
const needs = (...more: string[]) => {
  const all = [...missing, ...more];
  return all.length ? ` [needs ${all.join(', ')}]` : '';
};
const booted = existsSync('/run/systemd/system');
/** An emulated machine takes ten times as long. */
const SLOW_MS = 240_000;
const name = `iso-test-${process.pid}`;

const without = needs(...(booted ? ['a machine without systemd'] : []));
describe.skipIf(without)(`where no systemd listens${without}`, () => {
  it('says so, and leaves nothing', () => {
    const lab = new Lab('/bin/busybox');
    const bundle = lab.bundle('none', ['true'], ({ linux }) =>
      Object.assign(linux as object, { cgroupsPath: `:${name}:a` }),
    );
    for (const words of [['--systemd-cgroup'], ['--cgroup-manager', 'systemd']])
      expect(lab.oci(...words, 'create', '--bundle', bundle, 'none')).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/systemd.*no system manager listens/),
      });
    expect(lab.oci('create', '--bundle', bundle, 'none').stderr).toMatch(/is for systemd: --systemd-cgroup/);
    expect(readdirSync(lab.store)).toEqual([]);
    rmSync(lab.folder, { recursive: true });
  });
});

const with_ = needs(...(booted ? [] : ['systemd as process 1']));
describe.skipIf(with_)(
  `cgroups by systemd${with_}`,
  () => {
    let lab: Lab;
    const oci = (...words: string[]) => lab.oci('--systemd-cgroup', ...words);
    const shown = (unit: string, ...properties: string[]) =>
      Object.fromEntries(
        execFileSync('systemctl', ['--no-pager', 'show', unit, ...properties.flatMap((one) => ['-p', one])], {
          encoding: 'utf8',
        })
          .trim()
          .split('\n')
          .map((line) => line.split(/=(.*)/s).slice(0, 2)),
      );
    const bundle = (id: string, script: string, cgroupsPath = `isotest.slice:${name}:${id}`) =>
      lab.bundle(id, ['sh', '-c', script], (config) => {
        const namespaces = [...(config.linux?.namespaces ?? []), { type: 'cgroup' }];
        const resources = {
          devices: [{ allow: false, access: 'rwm' }],
          memory: { limit: 64 << 20 },
          pids: { limit: 20 },
          cpu: { quota: 50_000, period: 100_000 },
          unified: { 'memory.high': '50331648' },
        };
        const cgroup = { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] };
        Object.assign(config, { mounts: [...(config.mounts ?? []), cgroup] });
        Object.assign(config.linux as object, { cgroupsPath, namespaces, resources });
      });

    beforeAll(() => {
      // What a service depends on mounts much where little has been started yet, and that stays.
      execFileSync('systemctl', ['start', 'sysinit.target']);
      lab = new Lab('/bin/busybox');
    }, SLOW_MS);
    afterEach(() => {
      for (const id of lab.oci('list', '-q').stdout.split('\n')) if (id !== '') oci('delete', '--force', id);
      execFileSync('systemctl', ['stop', 'isotest.slice']);
    }, SLOW_MS);
    afterAll(() => rmSync(lab.folder, { recursive: true, force: true }));

    it('a scope of the slice, with the limits, known to systemd and seen inside; changed; gone with the container', () => {
      const script =
        'cat /proc/self/cgroup; cd /sys/fs/cgroup; cat memory.max memory.high pids.max cpu.max; sleep 1000';
      const unit = `${name}-life.scope`;
      const out = join(lab.folder, 'pid');
      expect(oci('create', '--bundle', bundle('life', script), '--pid-file', out, 'life')).toMatchObject({
        code: 0,
        stderr: '',
      });
      const pid = readFileSync(out, 'utf8');
      const path = `/isotest.slice/${unit}/container`;
      expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toBe(`0::${path}\n`);
      const limits = ['ActiveState', 'MemoryMax', 'TasksMax', 'CPUQuotaPerSecUSec', 'Slice'];
      expect(shown(unit, ...limits)).toEqual({
        ActiveState: 'active',
        MemoryMax: String(64 << 20),
        TasksMax: '21',
        CPUQuotaPerSecUSec: '500ms',
        Slice: 'isotest.slice',
      });
      expect(oci('start', 'life').code).toBe(0);
      expect(oci('exec', 'life', 'cat', '/proc/self/cgroup').stdout).toBe('0::/\n');
      const read = (file: string) => oci('exec', 'life', 'cat', `/sys/fs/cgroup/${file}`).stdout.trim();
      expect(['memory.max', 'memory.high', 'pids.max', 'cpu.max'].map(read)).toEqual([
        '67108864',
        '50331648',
        '20',
        '50000 100000',
      ]);
      const changed = join(lab.folder, 'limits');
      writeFileSync(changed, JSON.stringify({ memory: { limit: 32 << 20 }, pids: { limit: 10 } }));
      expect(oci('update', '--resources', changed, 'life')).toMatchObject({ code: 0, stderr: '' });
      execFileSync('systemctl', ['daemon-reload']);
      expect(shown(unit, 'MemoryMax', 'TasksMax')).toEqual({ MemoryMax: String(32 << 20), TasksMax: '11' });
      expect(['memory.max', 'pids.max'].map(read)).toEqual([String(32 << 20), '10']);
      expect(readFileSync(`/sys/fs/cgroup${path}/../memory.max`, 'utf8')).toBe(`${32 << 20}\n`);
      expect(oci('pause', 'life').code).toBe(0);
      expect(JSON.parse(oci('state', 'life').stdout).status).toBe('paused');
      expect(oci('delete', '--force', 'life')).toMatchObject({ code: 0, stderr: '' });
      expect(shown(unit, 'LoadState', 'ActiveState')).toEqual({ LoadState: 'not-found', ActiveState: 'inactive' });
      expect(existsSync(`/sys/fs/cgroup${path}`)).toBe(false);
    });

    it('run to its end, or into its limit of memory, leaves no scope; a failed creation neither', () => {
      expect(oci('run', '--bundle', bundle('run', 'exit 4'), 'run')).toMatchObject({ code: 4, stderr: '' });
      expect(oci('run', '--bundle', bundle('oom', 'exec tail /dev/zero'), 'oom').code).toBe(137);
      const missing = lab.bundle('bad', ['/nowhere'], ({ linux }) =>
        Object.assign(linux as object, { cgroupsPath: `isotest.slice:${name}:bad` }),
      );
      expect(oci('create', '--bundle', missing, 'bad')).toMatchObject({
        code: 1,
        stderr: expect.stringMatching(/ENOENT/),
      });
      for (const id of ['run', 'oom', 'bad'])
        expect(shown(`${name}-${id}.scope`, 'ActiveState')).toEqual({ ActiveState: 'inactive' });
      expect(oci('create', '--bundle', bundle('path', 'true', '/a/b'), 'path').stderr).toMatch(/not slice:prefix:name/);
    });
  },
  SLOW_MS,
);
