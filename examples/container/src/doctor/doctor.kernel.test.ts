import { execFileSync, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { command } from '../testing/command.js';
import { lacking } from '../testing/lacking.js';
import type { Finding } from './finding.js';

const needs = lacking('unshare', 'ip', 'setpriv');
const home = mkdtempSync(join(tmpdir(), 'iso-test-doctor-'));

function examine(...before: string[]): { code: number | null; of: (area: string, name: string) => Finding } {
  const line = [...before, process.execPath, ...command, 'doctor', '--format', 'json'];
  const env = { ...process.env, ISO_ROOT: home };
  const { status, stdout } = spawnSync(line[0] as string, line.slice(1), { encoding: 'utf8', env });
  const findings = stdout
    .trim()
    .split('\n')
    .map((text) => JSON.parse(text) as Finding);
  const of = (area: string, name: string) =>
    findings.find((finding) => finding.area === area && finding.name === name) as Finding;
  return { code: status, of };
}

describe.skipIf(needs)(`iso doctor${needs}`, () => {
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  describe('as root', () => {
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8');
    let found: ReturnType<typeof examine>;
    beforeAll(() => {
      found = examine();
    });

    it('says of links what ip(8) finds', () => {
      for (const kind of ['dummy', 'bridge', 'vxlan', 'ifb']) {
        const more = kind === 'vxlan' ? ['id', '7', 'dstport', '4789'] : [];
        const line = ['--net', 'ip', 'link', 'add', 'try0', 'type', kind, ...more];
        const works = spawnSync('unshare', line).status === 0;
        expect(found.of('network', `${kind} links`).state, kind).toBe(works ? 'yes' : 'no');
      }
    });

    it('says of drivers and cgroups what the kernel lists', () => {
      const filesystems = readFileSync('/proc/filesystems', 'utf8');
      for (const [driver, name] of [
        ['overlay2', 'overlay'],
        ['aufs', 'aufs'],
      ] as const)
        expect(found.of('storage', driver).state).toBe(new RegExp(`\\b${name}$`, 'm').test(filesystems) ? 'yes' : 'no');
      const offered = `${readFileSync('/proc/cgroups', 'utf8').replace(/^blkio/m, 'io')}`;
      for (const controller of ['memory', 'pids', 'io'])
        expect(found.of('cgroups', controller).state).toBe(
          new RegExp(`^${controller}\\s.*1$`, 'm').test(offered) ? 'yes' : 'no',
        );
    });

    it('says why not, and who can change it', () => {
      const aufs = found.of('storage', 'aufs');
      if (aufs.state === 'yes') return;
      expect(aufs.detail).toMatch(/patches/);
      expect(aufs.change).toMatch(/who chooses the kernel/);
    });

    it('starts a container, and leaves nothing', () => {
      expect(found.code).toBe(0);
      expect(found.of('container', 'of this machine’s own root').state).toBe('yes');
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(mounts);
      expect(readdirSync(home)).toEqual([]);
      const groups = execFileSync('find', ['/sys/fs/cgroup', '-name', 'doctor-*'], { encoding: 'utf8' });
      expect(groups).toBe('');
    });
  });

  it('tells a session that lacks a capability whom to ask', () => {
    const { code, of } = examine('setpriv', '--bounding-set=-sys_admin', '--inh-caps=-sys_admin');
    expect(code).toBe(1);
    expect(of('namespaces', 'net')).toMatchObject({
      state: 'no',
      detail: expect.stringMatching(/EPERM/),
      change: expect.stringMatching(/who started this session/),
    });
    expect(of('container', 'of this machine’s own root').state).toBe('no');
  });

  it('works for a plain user', () => {
    chownSync(home, 65534, 65534);
    const { of } = examine('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups');
    expect(of('namespaces', 'user').state).toBe('yes');
    // What cannot be delegated is not said to be.
    for (const controller of ['cpu', 'memory', 'pids']) {
      const v1 = readFileSync('/proc/self/cgroup', 'utf8').match(new RegExp(`^[1-9]\\d*:.*\\b${controller}\\b`, 'm'));
      const { state, change } = of('cgroups', controller);
      if (v1) expect([state, change]).toEqual(['no', expect.stringMatching(/v1 controllers cannot be delegated/)]);
    }
    // One mechanism, one answer.
    expect(of('namespaces', 'time').state).toBe('yes');
    expect(of('kernel interfaces', 'time namespaces')).toBeUndefined();
    const mode = statSync('/dev/net/tun').mode & 0o6;
    for (const program of ['pasta', 'slirp4netns'].filter((name) => lacking(name) === ''))
      expect(of('network', `a way out by ${program}`)).toMatchObject(
        mode === 0o6
          ? { state: 'yes' }
          : { state: 'no', detail: '/dev/net/tun cannot be opened: EACCES', change: 'root: chmod 666 /dev/net/tun' },
      );
    expect(of('session', 'ranges of ids')).toMatchObject({ state: 'no', change: expect.stringMatching(/usermod/) });
  });
});
