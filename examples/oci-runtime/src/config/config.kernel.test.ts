// What config.json asks for, as the container's own /proc shows it.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Lab } from '../testing/lab.js';
import type { Config } from './spec.js';

const missing = [
  ...(process.getuid?.() === 0 ? [] : ['root']),
  ...(existsSync('/bin/busybox') ? [] : ['busybox-static']),
];
const needs = missing.length ? ` [needs ${missing.join(', ')}]` : '';

describe.skipIf(needs)(`config.json${needs}`, () => {
  let lab: Lab;
  let count = 0;
  beforeAll(() => {
    lab = new Lab('/bin/busybox');
  });
  afterEach(() => {
    const find = ['/sys/fs/cgroup', '-depth', '-path', `*/iso-test-${process.pid}*`, '-type', 'd'];
    for (const path of execFileSync('find', find, { encoding: 'utf8' }).split('\n')) if (path !== '') rmdirSync(path);
    expect(readdirSync(lab.store)).toEqual([]);
  });
  afterAll(() => rmSync(lab.folder, { recursive: true, force: true }));

  const run = (script: string, change: (config: Config & Record<string, unknown>) => void, ...options: string[]) => {
    const id = `c${++count}`;
    const bundle = lab.bundle(id, ['sh', '-c', script], change);
    return lab.oci(...options, 'run', '--bundle', bundle, id);
  };
  const seccomp = {
    defaultAction: 'SCMP_ACT_ALLOW',
    syscalls: [{ names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 122 }],
  };

  it('installs a filter without no_new_privs, and leaves no capability that it took for it', () => {
    const script = 'grep -E "Cap|NoNew|Seccomp:" /proc/self/status; mkdir /tmp/x';
    const { stdout, stderr } = run(script, (config) => {
      Object.assign(config.process as object, { noNewPrivileges: false });
      Object.assign(config.linux as object, { seccomp });
    });
    const none = '0000000000000000';
    const all = ['Inh', 'Prm', 'Eff', 'Bnd', 'Amb'].map(
      (set) => `Cap${set}:\t${/Inh|Amb/.test(set) ? none : '0000000000000021'}\n`,
    );
    expect(stdout).toBe(`${all.join('')}NoNewPrivs:\t0\nSeccomp:\t2\n`);
    expect(stderr).toMatch(/[Qq]uota/);
    // A plain user's: nothing of it is left either.
    const plain = run('grep -E "Cap(Prm|Eff)" /proc/self/status', (config) => {
      Object.assign(config.process as object, { noNewPrivileges: false, user: { uid: 1000, gid: 1000 } });
      Object.assign(config.linux as object, { seccomp });
    });
    expect(plain.stdout).toBe(`CapPrm:\t${none}\nCapEff:\t${none}\n`);
  });

  it('says what is wrong with a filter that keeps it from giving up what it took', () => {
    const bad = { ...seccomp, syscalls: [{ names: ['capset'], action: 'SCMP_ACT_ERRNO' }] };
    const { code, stderr } = run('true', (config) => {
      Object.assign(config.process as object, { noNewPrivileges: false });
      Object.assign(config.linux as object, { seccomp: bad });
    });
    expect(code).toBe(1);
    expect(stderr).toMatch(/must allow capset/);
  });

  it('fills memory with what the root has there: tmpcopyup', () => {
    const from = join(lab.rootfs, 'data');
    mkdirSync(join(from, 'below'), { recursive: true });
    writeFileSync(join(from, 'below/file'), 'kept', { mode: 0o644 });
    chownSync(join(from, 'below/file'), 12, 34);
    chmodSync(from, 0o1750);
    symlinkSync('/etc/passwd', join(from, 'link'));
    execFileSync('mkfifo', [join(from, 'fifo')]);
    const mount = { destination: '/data', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup', 'nosuid', 'ro'] };
    const script =
      'cat /data/below/file; stat -c " %a %u %g" /data/below/file; stat -c %a /data; stat -c %N /data/link; stat -c %F /data/fifo; touch /data/x';
    const { stdout, stderr } = run(script, (config) =>
      Object.assign(config, { mounts: [...(config.mounts ?? []), mount] }),
    );
    expect(stdout).toBe("kept 644 12 34\n1750\n'/data/link' -> '/etc/passwd'\nfifo\n");
    expect(stderr).toMatch(/Read-only/);
  });

  it('refuses to fill it with more than it holds, and leaves nothing', () => {
    mkdirSync(join(lab.rootfs, 'big'), { recursive: true });
    execFileSync('truncate', ['-s', '2G', join(lab.rootfs, 'big/file')]);
    const mount = { destination: '/big', type: 'tmpfs', source: 'tmpfs', options: ['tmpcopyup', 'size=1m'] };
    const { code, stderr } = run('true', (config) =>
      Object.assign(config, { mounts: [...(config.mounts ?? []), mount] }),
    );
    rmSync(join(lab.rootfs, 'big'), { recursive: true });
    expect(code).toBe(1);
    expect(stderr).toMatch(/ENOSPC/);
  });

  it('makes devices by their numbers, with mode and owner, on a /dev with the options that it is given', () => {
    const devices = [
      { path: '/dev/net/tun', type: 'c', major: 10, minor: 200, fileMode: 0o600, uid: 7, gid: 8 },
      { path: '/dev/zero2', type: 'c', major: 1, minor: 5 },
      { path: '/dev/pipe', type: 'p' },
      { path: '/dev/null', type: 'c', major: 1, minor: 3, fileMode: 0o600 },
    ];
    const { stdout } = run(
      'cd /dev; stat -c "%n %F %a %u %g %t %T" net/tun zero2 pipe null; grep " /dev " /proc/self/mountinfo',
      (config) => {
        Object.assign(config.linux as object, { devices });
        const dev = (config.mounts as { destination: string; options: string[] }[]).find(
          (one) => one.destination === '/dev',
        );
        dev?.options.push('noexec');
      },
    );
    const [tun, zero, pipe, nothing, mount] = stdout.split('\n');
    expect([tun, zero, pipe]).toEqual([
      'net/tun character special file 600 7 8 a c8',
      'zero2 character special file 666 0 0 1 5',
      'pipe fifo 666 0 0 0 0',
    ]);
    expect(nothing).toBe('null character special file 600 0 0 1 3');
    expect(mount).toMatch(/ \/dev rw,nosuid,noexec .* rw,size=65536k,mode=755$/);
  });

  it('maps ids of a bind, and says which it cannot', () => {
    const from = join(lab.folder, 'mapped');
    mkdirSync(from);
    writeFileSync(join(from, 'file'), '');
    chownSync(join(from, 'file'), 5, 6);
    const map = [{ containerID: 0, hostID: 1000, size: 100 }];
    const mount = {
      destination: '/mnt',
      type: 'bind',
      source: from,
      options: ['bind'],
      uidMappings: map,
      gidMappings: map,
    };
    const add = (more: object) => (config: object) =>
      Object.assign(config, { mounts: [...((config as Config).mounts ?? []), { ...mount, ...more }] });
    expect(run('stat -c "%u %g" /mnt/file', add({})).stdout).toBe('1005 1006\n');
    expect(run('true', add({ uidMappings: [] })).stderr).toMatch(/uidMappings and gidMappings/);
    expect(run('true', add({ type: 'tmpfs', options: [] })).stderr).toMatch(/binds alone/);
  });

  it('knows the options of mounts, recursive ones too, and refuses words that are none', () => {
    const options = ['rbind', 'rro', 'rnosuid', 'rnodev', 'rnoexec', 'rnoatime', 'rslave'];
    const mount = (...more: string[]) => ({
      destination: '/mnt',
      type: 'bind',
      source: lab.folder,
      options: [...options, ...more],
    });
    const add =
      (...more: string[]) =>
      (config: object) =>
        Object.assign(config, { mounts: [...((config as Config).mounts ?? []), mount(...more)] });
    const look = 'grep " /mnt " /proc/self/mountinfo';
    expect(run(look, add()).stdout).toMatch(/ \/mnt ro,nosuid,nodev,noexec,noatime /);
    expect(run(look, add('rexec', 'rw', 'relatime')).stdout).toMatch(/ \/mnt rw,nosuid,nodev,relatime /);
    expect(run('true', add('rosy')).stderr).toMatch(/no option of its mount: rosy/);
  });

  it('makes the root shared where that is asked for, and no peer of the host', () => {
    const { stdout } = run('cat /proc/self/mountinfo', (config) =>
      Object.assign(config.linux as object, { rootfsPropagation: 'rshared' }),
    );
    const lines = stdout.trim().split('\n');
    expect(lines.every((line) => / shared:\d+ /.test(line))).toBe(true);
    const host: string[] = readFileSync('/proc/self/mountinfo', 'utf8').match(/(?<=shared:)\d+/g) ?? [];
    expect(stdout.match(/(?<=shared:)\d+/g)?.filter((group) => host.includes(group))).toEqual([]);
  });

  it('runs startContainer hooks inside, as who the program will be; where one fails there is no program', () => {
    const out = '/tmp/hook';
    const hook = (script: string) => ({ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin', 'MINE=x'] });
    const { stdout } = run(`cat ${out}; echo program`, (config) => {
      Object.assign(config.process?.user as object, { uid: 1000, gid: 1000 });
      const script = `echo $(id -u) $MINE $(hostname) $(cat | grep -o '"status":"[a-z]*"') > ${out}`;
      Object.assign(config, { hooks: { startContainer: [hook(script)] } });
    });
    expect(stdout).toBe('1000 x box "status":"created"\nprogram\n');
    const failed = run('echo program', (config) =>
      Object.assign(config, { hooks: { startContainer: [hook('exit 3')] } }),
    );
    expect(failed).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/startContainer hook .* 3/) });
    const slow = run('echo program', (config) =>
      Object.assign(config, { hooks: { startContainer: [{ ...hook('sleep 60'), timeout: 1 }] } }),
    );
    expect(slow).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(/timed out/) });
  });

  it('schedules: policies, classes of disks, personalities', () => {
    const { stdout } = run(
      'cat /proc/self/sched | grep policy; uname -m; cat /proc/self/personality; ionice',
      (config) => {
        Object.assign(config.process as object, {
          scheduler: { policy: 'SCHED_BATCH', nice: 5 },
          ioPriority: { class: 'IOPRIO_CLASS_IDLE', priority: 0 },
        });
        Object.assign(config.linux as object, { personality: { domain: 'LINUX32' } });
      },
    );
    expect(stdout).toMatch(/policy +: +3\ni686\n[\s\S]*idle/);
    const wrong = run('true', (config) =>
      Object.assign(config.process as object, { scheduler: { policy: 'SCHED_NONE' } }),
    );
    expect(wrong.stderr).toMatch(/SCHED_NONE/);
  });

  it('does without a cgroup where it is told to', () => {
    const own = readFileSync('/proc/self/cgroup', 'utf8');
    expect(run('cat /proc/self/cgroup; exit 4', () => {}, '--cgroup-manager', 'disabled')).toMatchObject({
      code: 4,
      stdout: own,
    });
    expect(existsSync(`/sys/fs/cgroup/pids/iso-test-${process.pid}`)).toBe(false);
  });

  it('finds its cgroup in every hierarchy, also where an engine has made the parent in some of them', () => {
    const made = ['pids', 'cpu']
      .map((name) => join('/sys/fs/cgroup', name))
      .filter((path) => existsSync(join(path, 'tasks')));
    for (const path of made) mkdirSync(join(path, `iso-test-${process.pid}`));
    const { stdout } = run('cat /proc/self/cgroup', () => {});
    const lines = stdout
      .trim()
      .split('\n')
      // v2 freezes, and v1's freezer is not joined beside it.
      .filter((line) => !/name=|:freezer:/.test(line));
    expect(lines.filter((line) => !line.includes(`/iso-test-${process.pid}/c${count}`))).toEqual([]);
  });
});
