import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { run as runProgram } from '@iso/process';
import { Profile, seccomp } from '@iso/seccomp';
import { afterAll, describe, expect, it } from 'vitest';
import { shell } from './attack/fixture.js';
import { type ContainerOptions, run } from './index.js';
import { command } from './testing/command.js';
import { lacking } from './testing/lacking.js';

const missing = lacking();
const NONE = '0'.repeat(16);
const ALL = '00000000a00425fb';
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The host's root with a set-uid grep in its /tmp. */
function layered(name: string): { root: string; volumes: NonNullable<ContainerOptions['volumes']> } {
  const file = join(folder, name);
  copyFileSync('/bin/grep', file);
  chmodSync(file, 0o4755);
  return { root: '/', volumes: [{ source: file, target: `/tmp/${name}`, readonly: true }] };
}

const link = (type: string) => readlinkSync(`/proc/self/ns/${type}`);

describe.skipIf(missing)(`options of processes${missing}`, () => {
  it.each<[string, Partial<ContainerOptions>, string, string]>([
    ['--shm-size', { shmSize: 1 << 20 }, 'df -k /dev/shm | tail -1 | tr -s " " | cut -d" " -f2', '1024\n'],
    [
      '--ulimit',
      { ulimits: { nofile: { soft: 50, hard: 60 }, core: 0 } },
      'ulimit -n; ulimit -Hn; ulimit -c',
      '50\n60\n0\n',
    ],
    [
      '--sysctl',
      { sysctls: { 'net.ipv4.ip_default_ttl': '42', 'kernel.shmmni': '77', 'kernel.domainname': 'x.y' } },
      'cd /proc/sys; cat net/ipv4/ip_default_ttl kernel/shmmni kernel/domainname',
      '42\n77\nx.y\n',
    ],
    [
      '--sysctl in a user namespace',
      { userns: 'private', sysctls: { 'net.ipv4.ip_default_ttl': '42' } },
      'cat /proc/sys/net/ipv4/ip_default_ttl',
      '42\n',
    ],
    [
      '--ipc none',
      { ipc: 'none' },
      'ls -d /dev/shm 2>/dev/null; readlink /proc/self/ns/ipc | grep -vF "$HOST_IPC" | cut -c1-3',
      'ipc\n',
    ],
    ['--ipc host', { ipc: 'host' }, 'readlink /proc/self/ns/ipc', `${link('ipc')}\n`],
    ['--pid host', { pid: 'host' }, 'readlink /proc/self/ns/pid; test $$ != 1', `${link('pid')}\n`],
    [
      '--uts host',
      { uts: 'host' },
      'hostname; readlink /proc/self/ns/uts; echo $HOSTNAME',
      `${hostname()}\n${link('uts')}\n${hostname()}\n`,
    ],
    ['--cgroupns host', { cgroupns: 'host' }, 'readlink /proc/self/ns/cgroup', `${link('cgroup')}\n`],
    ['--group-add', { groupAdd: ['daemon', '4242'] }, 'grep -ow 4242 /proc/self/status', '4242\n'],
    ['--cap-drop ALL', { capDrop: ['ALL'] }, 'grep CapEff /proc/self/status', 'CapEff:\t0000000000000000\n'],
    [
      '--cap-add, whose calls the filter lets through',
      { capAdd: ['SYS_CHROOT', 'SYS_ADMIN'] },
      'mount -t tmpfs none /mnt && hostname x && hostname',
      'x\n',
    ],
    [
      'no-new-privileges=false for a user, under a filter',
      { noNewPrivileges: false, user: '1000' },
      'grep -E "^(CapPrm|NoNewPrivs|Seccomp):" /proc/self/status',
      'CapPrm:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n',
    ],
    ['systempaths=unconfined', { systemPaths: 'unconfined' }, 'grep -c " /proc/" /proc/self/mountinfo; true', '0\n'],
    [
      '--privileged',
      { privileged: true },
      'grep -E "^(NoNewPrivs|Seccomp):" /proc/self/status; test -b /dev/loop0 -o -c /dev/kmsg && exec 3</dev/kmsg && echo opened; grep -c " /proc/" /proc/self/mountinfo; true',
      'NoNewPrivs:\t0\nSeccomp:\t0\nopened\n0\n',
    ],
    [
      '--privileged in a user namespace',
      { privileged: true, userns: 'private' },
      'unshare -Ur true && mount -t tmpfs none /mnt && grep CapEff /proc/self/status',
      'CapEff:\t000001ffffffffff\n',
    ],
  ])('%s', async (_name, options, script, expected) => {
    expect(await shell({ ...options, env: [`HOST_IPC=${link('ipc')}`] }, script)).toBe(expected);
  });

  it.each<[string, Partial<ContainerOptions>, string, string]>([
    ['root', {}, ALL, ALL],
    ['root, of a set-uid program', {}, ALL, ALL],
    ['a user', { user: '1000' }, NONE, ALL],
    ['a user, of a set-uid program', { user: '1000' }, NONE, ALL],
    ['a user, of a set-uid program without no_new_privs', { user: '1000', noNewPrivileges: false }, ALL, ALL],
    ['root without any', { capDrop: ['ALL'] }, NONE, NONE],
  ])('the five sets of %s are exact', async (name, options, held, bounding) => {
    // A program of the root's, set-uid there: the host's own copy has no such bit.
    const script = name.includes('set-uid') ? '/tmp/set-uid ^Cap /proc/self/status' : 'grep ^Cap /proc/self/status';
    const root = layered('set-uid');
    expect(await shell({ ...options, ...root }, script)).toBe(
      [`Inh:\t${NONE}`, `Prm:\t${held}`, `Eff:\t${held}`, `Bnd:\t${bounding}`, `Amb:\t${NONE}`, '']
        .map((line) => line && `Cap${line}`)
        .join('\n'),
    );
  });

  it('has the groups of its user by the root’s group file, and those that are asked for', async () => {
    const root = join(folder, 'root');
    for (const name of ['usr', 'etc']) mkdirSync(join(root, name), { recursive: true });
    for (const name of ['bin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
    writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/:/bin/sh\n');
    writeFileSync(join(root, 'etc/group'), 'root:x:0:root\nwheel:x:10:root,me\nme:x:1000:\nstaff:x:50:\n');
    const volumes = [{ source: '/usr', target: '/usr', readonly: true }];
    const groups = async (options: Partial<ContainerOptions>) =>
      (await shell({ ...options, root, volumes }, 'grep Groups /proc/self/status')).trim().replace('Groups:\t', '');
    // As podman has them.
    expect(await groups({})).toBe('0 10');
    expect(await groups({ user: 'me' })).toBe('10 1000');
    expect(await groups({ user: '1000' })).toBe('10 1000');
    expect(await groups({ user: '1000:50' })).toBe('50');
    expect(await groups({ groupAdd: ['staff'] })).toBe('0 10 50');
  });

  it('starts nothing with the caller’s keys where it can have none of its own', async () => {
    const refusing = Profile.parse({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [{ names: ['keyctl'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 }],
    }).filter({ capabilities: [] });
    const { stderr, code } = await runProgram(process.execPath, [...command, 'run', '--rm', '/', 'true'], {
      confine: [seccomp(refusing)],
      check: false,
    });
    expect({ stderr, code }).toEqual({ stderr: expect.stringMatching(/^iso: keyctl\(.*EPERM.*\n$/), code: 125 });
  });

  it('a profile that allows by capability follows those of the container', async () => {
    const seccomp = Profile.parse({
      defaultAction: 'SCMP_ACT_ALLOW',
      syscalls: [
        { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 122, excludes: { caps: ['CAP_SYS_NICE'] } },
      ],
    });
    const script = 'mkdir /tmp/x 2>&1 | grep -o quota; true';
    expect(await shell({ seccomp }, script)).toBe('quota\n');
    expect(await shell({ seccomp, capAdd: ['SYS_NICE'] }, script)).toBe('');
  });

  it.each<[string, Partial<ContainerOptions>]>([
    ['a sysctl that there is not', { sysctls: { 'net.ipv4.moon': '1' } }],
    ['a value that the kernel refuses', { sysctls: { 'kernel.shmmni': 'moon' } }],
    ['a limit that cannot be raised', { ulimits: { nofile: 2 ** 40 } }],
    ['a soft limit above the hard one', { ulimits: { core: { soft: 2, hard: 1 } } }],
    ['a group that there is not', { groupAdd: ['no-such-group'] }],
    ['a capability that there is not', { capDrop: ['MOON'] }],
    ['an ipc namespace that is none', { ipc: 'moon' as 'host' }],
  ])('%s is an error', async (_name, options) => {
    await expect(run({ root: '/', ...options, command: ['true'] })).rejects.toThrow();
  });
});
