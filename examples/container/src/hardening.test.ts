import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dockerCapabilities } from '@iso/capabilities';
import { Profile } from '@iso/seccomp';
import { LaunchProgram } from '@iso/sys';
import { expect, it } from 'vitest';
import { type HardeningOptions, hardening, parseSecurityOptions, privilegesOf } from './hardening.js';
import { type OwnNamespaces, sysctls } from './hardening-sysctl.js';

const usageError = expect.objectContaining({ name: 'UsageError' });

it('parses --security-opt as docker does, and refuses the rest', () => {
  const folder = mkdtempSync(join(tmpdir(), 'iso-hardening-'));
  try {
    const file = join(folder, 'profile.json');
    writeFileSync(file, '{"defaultAction": "SCMP_ACT_ALLOW"}');
    expect(parseSecurityOptions([])).toEqual({});
    expect(parseSecurityOptions(['seccomp=unconfined'])).toEqual({ seccomp: 'unconfined' });
    expect(parseSecurityOptions(['seccomp:unconfined', 'no-new-privileges', 'seccomp=builtin'])).toEqual({
      seccomp: 'default',
      noNewPrivileges: true,
    });
    expect(parseSecurityOptions(['no-new-privileges=false', 'systempaths=unconfined'])).toEqual({
      noNewPrivileges: false,
      systemPaths: 'unconfined',
    });
    expect(parseSecurityOptions(['no-new-privileges:true', `seccomp=${file}`]).seccomp).toBeInstanceOf(Profile);
    writeFileSync(file, '{"defaultAction": "ALLOW"}');
    for (const text of [
      'seccomp',
      'seccomp=',
      'apparmor=x',
      'no-new-privileges=maybe',
      'systempaths',
      'systempaths=masked',
      `seccomp=${file}`,
      `seccomp=${folder}/no`,
    ])
      expect(() => parseSecurityOptions([text]), text).toThrow(usageError);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

it('gives capabilities by docker’s rules', () => {
  const of = (options: HardeningOptions) => [...privilegesOf(options, true).capabilities].sort();
  const usual = dockerCapabilities.filter((name) => name !== 'MKNOD').sort();
  const all = of({ capAdd: ['ALL'] });
  expect(of({})).toEqual(usual);
  expect(all).toContain('SYS_ADMIN');
  expect(of({ privileged: true, capDrop: ['ALL'] })).toEqual(all);
  expect(of({ capAdd: ['all'], capDrop: ['CAP_SYS_ADMIN'] })).toEqual(all.filter((name) => name !== 'SYS_ADMIN'));
  expect(of({ capDrop: ['ALL'] })).toEqual([]);
  expect(of({ capAdd: ['net_admin'], capDrop: ['all'] })).toEqual(['NET_ADMIN']);
  expect(of({ capAdd: ['CAP_SYS_PTRACE'], capDrop: ['cap_chown'] })).toEqual(
    [...usual.filter((name) => name !== 'CHOWN'), 'SYS_PTRACE'].sort(),
  );
  // What is added is there, whatever is dropped.
  expect(of({ capAdd: ['KILL'], capDrop: ['KILL'] })).toContain('KILL');
  for (const name of ['', 'CHOWNED', 'CAP_', '0', 'CHOWN,KILL', 'CAP_CAP_CHOWN', '__proto__'])
    for (const option of ['capAdd', 'capDrop'] as const)
      expect(() => of({ [option]: [name] }), name).toThrow(usageError);
});

it('takes no_new_privs and the filter from who is privileged, unless they are asked for', () => {
  expect(privilegesOf({}, true)).toMatchObject({ noNewPrivileges: true, seccomp: 'default' });
  expect(privilegesOf({ privileged: true }, true)).toMatchObject({ noNewPrivileges: false, seccomp: 'unconfined' });
  const asked = { privileged: true, noNewPrivileges: true, seccomp: 'default' } as const;
  expect(privilegesOf(asked, true)).toMatchObject({ noNewPrivileges: true, seccomp: 'default' });
});

it('makes the filter before the last capability that installs it is gone', async () => {
  const steps = async (uid: number, options: HardeningOptions) => {
    const program = new LaunchProgram();
    for (const part of hardening(privilegesOf(options, true), { uid })) await part.confine(program);
    const text = program.explain();
    program.finish('failed');
    return text;
  };
  expect(await steps(1000, { noNewPrivileges: false })).toMatch(/capset\(\{effective: \[SYS_ADMIN\][\s\S]*seccomp\(/);
  expect(await steps(0, { noNewPrivileges: false })).not.toMatch(/SYS_ADMIN\]/);
  expect(await steps(1000, {})).toMatch(/PR_SET_NO_NEW_PRIVS[\s\S]*seccomp\(/);
});

it('sets sysctls of the container’s own namespaces, and of no other', () => {
  const own = { network: true, ipc: true, uts: true };
  const paths = (name: string, namespaces: OwnNamespaces = own) => {
    const program = new LaunchProgram();
    void sysctls({ [name]: '1' }, namespaces).confine(program);
    const [, path] = /open\("(.*)"\)/.exec(program.explain()) ?? [];
    program.finish('failed');
    return path;
  };
  expect(paths('net.ipv4.ip_forward')).toBe('/proc/sys/net/ipv4/ip_forward');
  expect(paths('net/ipv4/conf/eth0.1/forwarding')).toBe('/proc/sys/net/ipv4/conf/eth0.1/forwarding');
  expect(paths('net.ipv4.conf.eth0/1.forwarding')).toBe('/proc/sys/net/ipv4/conf/eth0.1/forwarding');
  expect(paths('kernel.shmmax')).toBe('/proc/sys/kernel/shmmax');
  expect(paths('kernel.domainname')).toBe('/proc/sys/kernel/domainname');
  expect(paths('fs.mqueue.msg_max')).toBe('/proc/sys/fs/mqueue/msg_max');
  for (const name of [
    'kernel.core_pattern',
    'kernel.hostname',
    'kernel.shmmax.x',
    'vm.drop_caches',
    'fs.mqueue',
    'fs.mqueue/../../kernel/core_pattern',
    'net',
    'net.',
    'net..x',
    'net/../kernel/core_pattern',
    'net.ipv4./../../kernel/core_pattern',
    'net/ipv4/\0',
    '/net/ipv4/x',
    '',
  ])
    expect(() => paths(name), name).toThrow(usageError);
  for (const [name, lacking] of [
    ['net.ipv4.ip_forward', 'network'],
    ['kernel.sem', 'ipc'],
    ['kernel.domainname', 'uts'],
  ] as const)
    expect(() => paths(name, { ...own, [lacking]: false }), name).toThrow(/no \w+ namespace of its own/);
});
