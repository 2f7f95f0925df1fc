import { existsSync, readFileSync } from 'node:fs';
import { syscallNumbers } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { defaultProfile, Profile } from './index.js';

const docker =
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE';
const capabilities = docker.split(' ');
const x64 = { architecture: 'x64' } as const;
const allow = (names: string[], more = {}) => ({ names, action: 'SCMP_ACT_ALLOW', ...more });
const profile = (...syscalls: object[]) => Profile.parse({ defaultAction: 'SCMP_ACT_ERRNO', syscalls });

describe('Profile', () => {
  it('applies rules by capability, architecture and kernel', () => {
    const given = profile(
      allow(['chroot'], { includes: { caps: ['CAP_SYS_CHROOT', 'CAP_SYS_ADMIN'] } }),
      allow(['clone3'], { excludes: { caps: ['CAP_SYS_ADMIN'] } }),
      allow(['arch_prctl'], { includes: { arches: ['amd64', 'x32'] } }),
      allow(['reboot'], { excludes: { arches: ['arm64'] } }),
      allow(['ptrace'], { includes: { minKernel: '4.8' } }),
      allow(['acct'], { excludes: { minKernel: '6.1' } }),
    );
    const both = given.filter({ capabilities: ['SYS_CHROOT', 'cap_sys_admin'], kernel: '4.8.3-generic', ...x64 });
    expect(['chroot', 'clone3', 'arch_prctl', 'reboot', 'ptrace', 'acct'].map((call) => both.evaluate(call))).toEqual([
      'allow',
      { errno: 'EPERM' },
      'allow',
      'allow',
      'allow',
      'allow',
    ]);
    const arm = given.filter({ capabilities: ['SYS_CHROOT'], kernel: '4.7', architecture: 'arm64' });
    expect(['chroot', 'clone3', 'reboot', 'ptrace'].map((call) => arm.evaluate(call))).toEqual([
      { errno: 'EPERM' },
      'allow',
      { errno: 'EPERM' },
      { errno: 'EPERM' },
    ]);
    expect(given.filter({ kernel: '6.10', ...x64 }).evaluate('acct')).toEqual({ errno: 'EPERM' });
  });

  it('reads conditions: the mask first, alternatives on one argument', () => {
    const filter = profile(
      allow(['clone'], { args: [{ index: 0, value: 0x7e020000, op: 'SCMP_CMP_MASKED_EQ' }] }),
      allow(['personality'], {
        args: [
          { index: 0, value: 1, op: 'SCMP_CMP_EQ' },
          { index: 0, value: 8, op: 'SCMP_CMP_EQ' },
        ],
      }),
      allow(['socket'], {
        args: [
          { index: 0, value: 2, op: 'SCMP_CMP_GE' },
          { index: 1, value: 3, op: 'SCMP_CMP_NE' },
        ],
      }),
    ).filter(x64);
    expect(filter.evaluate('clone', [0x1200011])).toBe('allow');
    expect(filter.evaluate('clone', [0x10000011])).toEqual({ errno: 'EPERM' });
    expect([1, 8, 9].map((value) => filter.evaluate('personality', [value]) === 'allow')).toEqual([true, true, false]);
    expect(
      [
        [2, 1],
        [2, 3],
        [1, 1],
      ].map((args) => filter.evaluate('socket', args) === 'allow'),
    ).toEqual([true, false, false]);
  });

  it('lets a rule without conditions decide, wherever it stands', () => {
    const conditional = {
      names: ['ioctl'],
      action: 'SCMP_ACT_KILL',
      args: [{ index: 1, value: 1, op: 'SCMP_CMP_EQ' }],
    };
    expect(
      profile(conditional, allow(['ioctl']))
        .filter(x64)
        .evaluate('ioctl', [0, 1]),
    ).toBe('allow');
  });

  it('reads actions with their data, in all spellings', () => {
    const given = Profile.parse({
      defaultAction: 'SCMP_ACT_ERRNO',
      defaultErrnoRet: 38,
      flags: ['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW'],
      syscalls: [
        { name: 'read', action: 'SCMP_ACT_ERRNO', errnoRet: 5 },
        { name: 'write', action: 'SCMP_ACT_ERRNO', errno: 'EIO' },
        { name: 'open', action: 'SCMP_ACT_TRACE', errnoRet: 99 },
        { name: 'close', action: 'SCMP_ACT_KILL' },
        { name: 'stat', action: 'SCMP_ACT_KILL_PROCESS' },
        { name: 'fstat', action: 'SCMP_ACT_NOTIFY' },
        { names: ['lstat', 'chown32', 'made_up'], action: 'SCMP_ACT_TRAP', args: null, comment: 'why' },
      ],
    });
    const filter = given.filter(x64);
    expect(
      ['read', 'write', 'open', 'close', 'stat', 'fstat', 'lstat', 'poll'].map((call) => filter.evaluate(call)),
    ).toEqual([
      { errno: 'EIO' },
      { errno: 'EIO' },
      { trace: 99 },
      'kill-thread',
      'kill-process',
      'notify',
      'trap',
      { errno: 'ENOSYS' },
    ]);
    expect(given.ignored).toEqual(['chown32', 'made_up']);
    expect(given.flags).toEqual(['log', 'spec-allow']);
  });

  it('refuses what is not known, and what makes no sense', () => {
    const rule = (more: object) => ({ defaultAction: 'SCMP_ACT_ALLOW', syscalls: [{ names: ['read'], ...more }] });
    const arg = (more: object) =>
      rule({ action: 'SCMP_ACT_KILL', args: [{ index: 0, value: 1, op: 'SCMP_CMP_EQ', ...more }] });
    for (const [source, message] of [
      ['{"defaultAction":', /no JSON/],
      ['[]', /must be an object/],
      ['null', /must be an object/],
      [{}, /no defaultAction/],
      [{ defaultAction: 'ALLOW' }, /defaultAction: no action: ALLOW/],
      [{ defaultAction: 'constructor' }, /no action: constructor/],
      [{ defaultAction: 'SCMP_ACT_ERRNO', defaultErrnoRet: 5000 }, /from 1 to 4095/],
      [{ defaultAction: 'SCMP_ACT_ERRNO', defaultErrno: 'EWHAT' }, /no errno is called EWHAT/],
      [{ defaultAction: 'SCMP_ACT_ALLOW', syscall: [] }, /the profile has no "syscall"/],
      [{ defaultAction: 'SCMP_ACT_ALLOW', syscalls: {} }, /syscalls must be an array of objects/],
      [{ defaultAction: 'SCMP_ACT_ALLOW', flags: ['SECCOMP_FILTER_FLAG_NOPE'] }, /no flag: SECCOMP_FILTER_FLAG_NOPE/],
      [{ defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_Z80'] }, /no architecture: SCMP_ARCH_Z80/],
      [{ defaultAction: 'SCMP_ACT_ALLOW', archMap: [{ architecture: 'x' }] }, /no architecture: x/],
      [rule({}), /rule 1 has no action/],
      [rule({ action: 'SCMP_ACT_KILLED' }), /rule for read: no action: SCMP_ACT_KILLED/],
      [rule({ action: 'SCMP_ACT_KILL', name: 'write' }), /either names or name/],
      [rule({ action: 'SCMP_ACT_KILL', exclude: {} }), /rule 1 has no "exclude"/],
      [rule({ action: 'SCMP_ACT_KILL', excludes: { cap: [] } }), /excludes of rule 1 has no "cap"/],
      [rule({ action: 'SCMP_ACT_KILL', includes: { minKernel: '4' } }), /minKernel is as 4.8/],
      [rule({ action: 'SCMP_ACT_KILL', includes: { caps: 'CAP_KILL' } }), /caps must be an array of strings/],
      [arg({ index: 6 }), /index is from 0 to 5/],
      [arg({ op: 'EQ' }), /no operator: EQ/],
      [arg({ value: -1 }), /no value: -1/],
      [arg({ value: '1' }), /value must be a number/],
      [arg({ valueThree: 1 }), /has no "valueThree"/],
    ] as const) {
      const expected = { code: 'ERR_SECCOMP', reason: 'profile', message: expect.stringMatching(message) };
      expect(() => Profile.parse(source), JSON.stringify(source)).toThrow(expect.objectContaining(expected));
    }
  });
});

describe('the default profile', () => {
  const filter = defaultProfile.filter({ capabilities, ...x64 });
  const mayDo = (call: string, ...args: (number | bigint)[]) => filter.evaluate(call, args) === 'allow';

  it('knows all its names', () => {
    expect(defaultProfile.ignored).toEqual([]);
  });

  it('keeps namespaces, mounts, keys, modules, io_uring and foreign sockets away', () => {
    for (const call of [
      'unshare',
      'setns',
      'mount',
      'fsopen',
      'open_tree',
      'keyctl',
      'add_key',
      'bpf',
      'io_uring_setup',
    ])
      expect(mayDo(call), call).toBe(false);
    for (const call of ['init_module', 'kexec_load', 'userfaultfd', 'perf_event_open'])
      expect(mayDo(call), call).toBe(false);
    expect([1, 2, 16, 37, 38, 39, 40, 41].map((family) => mayDo('socket', family))).toEqual([
      ...[true, true, true, true],
      ...[false, true, false, true],
    ]);
    expect(mayDo('clone', 0x1200011)).toBe(true);
    for (const bit of [17, 25, 26, 27, 28, 29, 30]) expect(mayDo('clone', 2 ** bit + 17), String(bit)).toBe(false);
    expect(filter.evaluate('clone3')).toEqual({ errno: 'ENOSYS' });
    expect(filter.evaluate(600)).toEqual({ errno: 'ENOSYS' });
  });

  it('is small', () => {
    expect(filter.instructions).toBeLessThan(150);
  });

  const theirs = '/usr/share/containers/seccomp.json';
  it.skipIf(!existsSync(theirs))("differs from podman's of 2023 where it is said [needs containers-common]", () => {
    const other = Profile.parse(readFileSync(theirs, 'utf8')).filter({ capabilities, ...x64 });
    const stricter: string[] = [];
    const looser: string[] = [];
    for (const [call, number] of syscallNumbers.x64) {
      const [ours, podmans] = [filter, other].map((it) => it.evaluate(number, [1]) === 'allow');
      if (ours && !podmans) looser.push(call);
      if (podmans && !ours) stricter.push(call);
    }
    // Podman of then leaves it to the capabilities.
    expect(stricter.join(' ')).toBe(
      'syslog pivot_root mount umount2 reboot mbind set_mempolicy get_mempolicy keyctl unshare setns open_tree move_mount fsopen ' +
        'fsconfig fsmount fspick clone3 pidfd_getfd mount_setattr',
    );
    // Of these most are newer than it.
    expect(looser.join(' ')).toBe(
      'vmsplice io_pgetevents uretprobe futex_waitv cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue ' +
        'statmount listmount mseal setxattrat getxattrat listxattrat removexattrat',
    );
  });
});
