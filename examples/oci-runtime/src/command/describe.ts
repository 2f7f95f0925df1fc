import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { capabilityNames } from '@iso/capabilities';
import { defaultMaskedPaths, defaultReadonlyPaths } from '@iso/mounts';
import { Command } from 'commander';
import { mountOptions } from '../config/mount-options.js';
import { names } from '../config/namespaces.js';
import type { Config } from '../config/spec.js';
import { RuntimeError } from '../error.js';

const capabilities = ['CAP_AUDIT_WRITE', 'CAP_KILL', 'CAP_NET_BIND_SERVICE'];

/** A shell in a root beside it, as other runtimes begin. */
const example: Config = {
  ociVersion: '1.2.0',
  process: {
    terminal: true,
    user: { uid: 0, gid: 0 },
    args: ['sh'],
    env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'TERM=xterm'],
    cwd: '/',
    capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: 1024, hard: 1024 }],
    noNewPrivileges: true,
  },
  root: { path: 'rootfs', readonly: true },
  hostname: 'iso',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance'] },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  ],
  linux: {
    resources: { devices: [{ allow: false, access: 'rwm' }] },
    namespaces: [
      { type: 'pid' },
      { type: 'network' },
      { type: 'ipc' },
      { type: 'uts' },
      { type: 'mount' },
      { type: 'cgroup' },
    ],
    maskedPaths: defaultMaskedPaths,
    readonlyPaths: defaultReadonlyPaths,
  },
};

/** `iso-oci spec`. */
export const spec = new Command('spec')
  .description('write a config.json to begin with')
  .option('-b, --bundle <directory>', 'where to', '.')
  .action(({ bundle }: { bundle: string }) => {
    const path = join(bundle, 'config.json');
    if (existsSync(path)) throw new RuntimeError(`${path} is there already`);
    writeFileSync(path, `${JSON.stringify(example, null, 2)}\n`);
  });

/** `iso-oci features`, see features.md of the runtime specification. */
export const features = new Command('features').description('what it can do, as JSON').action(() => {
  const all = {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.2.0',
    hooks: ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop'],
    mountOptions,
    linux: {
      namespaces: Object.keys(names),
      capabilities: capabilityNames.map((name) => `CAP_${name}`),
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: true, rdma: true },
      seccomp: {
        enabled: true,
        archs: [process.arch === 'x64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'],
      },
      apparmor: { enabled: false },
      selinux: { enabled: false },
      intelRdt: { enabled: false },
      mountExtensions: { idmap: { enabled: true } },
    },
  };
  process.stdout.write(`${JSON.stringify(all, null, 2)}\n`);
});
