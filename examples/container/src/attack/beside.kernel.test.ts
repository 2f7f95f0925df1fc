// Beside podman's and runc's defaults: what the kernel says of a process in each. All that is different stands here, and in
// docs/security.md with the reason.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacking } from '../testing/lacking.js';
import { shell } from './fixture.js';

const long = process.env.ISO_LONG ? lacking('busybox', 'podman') : ' [needs ISO_LONG=1]';
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const path = join(folder, 'root');
const look = 'cat /proc/self/status; cat /proc/self/mountinfo; ls -l /dev';

beforeAll(() => {
  if (long) return;
  for (const name of ['', 'bin', 'proc', 'sys', 'dev', 'etc', 'tmp']) mkdirSync(join(path, name));
  const { stdout } = spawnSync('sh', ['-c', 'command -v busybox'], { encoding: 'utf8' });
  copyFileSync(stdout.trim(), join(path, 'bin/busybox'));
  for (const name of ['sh', 'cat', 'ls']) symlinkSync('busybox', join(path, 'bin', name));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What is a matter of confinement, a line each. Cgroup hierarchies are the machine's, and judged apart. */
function view(text: string): Set<string> {
  const lines = new Set<string>();
  for (const line of text.split('\n')) {
    const [, field, value] = /^(Cap\w+|NoNewPrivs|Seccomp|Groups|Umask):\s*(.*?)\s*$/.exec(line) ?? [];
    if (field) lines.add(`${field} ${value}`);
    const [, target = '', flags = '', type = ''] = /^\d+ \d+ \S+ \S+ (\S+) (\S+) (?:\S+ )*?- (\S+) /.exec(line) ?? [];
    const kept = flags
      .split(',')
      .filter((flag) => flag !== 'relatime')
      .join();
    if (/^\/(proc|sys)\/./.test(target) && !target.startsWith('/sys/fs/cgroup')) {
      lines.add(`${/tmpfs$/.test(type) ? 'masked' : /^ro/.test(flags) ? 'read-only' : 'mounted'} ${target}`);
    } else if (target.startsWith('/sys/fs/cgroup/'))
      lines.add(/^ro/.test(flags) ? 'cgroups read-only' : `${target} ${flags}`);
    else if (target && target !== '/sys/fs/cgroup')
      lines.add(`mount ${target} ${target === '/' ? kept : `${type} ${kept}`}`);
    const [, mode, device, name] = /^([cb]\S+) +\d+ +\S+ +\S+ +(\d+, +\d+) .* (\S+)$/.exec(line) ?? [];
    if (name) lines.add(`device ${name} ${device?.replace(/ +/, ' ')} ${mode}`);
  }
  return lines;
}

function differences(ours: Set<string>, theirs: Set<string>): string[] {
  const only = (a: Set<string>, b: Set<string>, sign: string) =>
    [...a].filter((line) => !b.has(line)).map((line) => `${sign} ${line}`);
  return [...only(ours, theirs, '+'), ...only(theirs, ours, '-')]
    .filter((line) => !/cgroups read-only/.test(line))
    .sort();
}

/** In a mount namespace of its own: crun refuses a hybrid layout, and one of them may work where another does not. */
function beside(commands: readonly string[]): string {
  for (const command of commands) {
    const { stdout, status } = spawnSync('unshare', ['-m', '--propagation', 'private', 'sh', '-c', command], {
      encoding: 'utf8',
    });
    if (status === 0 && stdout.includes('CapEff')) return stdout;
  }
  return '';
}

describe.skipIf(long)(`what the kernel says of a container${long}`, () => {
  it('is what it says of podman’s, but for a list', async () => {
    const options = `--rm --network none --ulimit nofile=1024:1024 --ulimit nproc=1000:1000 --rootfs ${path}`;
    const run = `run ${options} sh -c '${look}'`;
    const theirs = beside([`podman ${run}`, `podman --runtime "$(command -v runc)" ${run}`]);
    expect(theirs, 'podman runs nothing here, by crun or by runc').not.toBe('');
    expect(differences(view(await shell({ root: path }, look)), view(theirs)).filter(onlyHere)).toEqual([
      // NET_RAW and AUDIT_WRITE, as docker.
      ...['CapBnd', 'CapEff', 'CapPrm'].map((set) => `+ ${set} 00000000a00425fb`),
      // Docker leaves this to an option.
      '+ NoNewPrivs 1',
      // Docker's list: since 2025.
      '+ masked /proc/interrupts',
      '+ mount /dev tmpfs rw,nosuid',
      '+ mount /etc/hostname tmpfs rw',
      '+ mount /etc/hosts tmpfs rw',
      ...['CapBnd', 'CapEff', 'CapPrm'].map((set) => `- ${set} 00000000800405fb`),
      '- NoNewPrivs 0',
      '- masked /sys/dev/block',
      '- mount /dev tmpfs rw,nosuid,noexec',
    ]);
  });

  it('is what it says of runc’s, but for a list', async () => {
    const bundle = join(folder, 'bundle');
    mkdirSync(bundle);
    const [runtime] = ['runc', 'crun'].filter((name) => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0);
    expect(runtime, 'neither runc nor crun is installed').toBeDefined();
    spawnSync(runtime as string, ['spec'], { cwd: bundle });
    const config = JSON.parse(readFileSync(join(bundle, 'config.json'), 'utf8'));
    Object.assign(config.process, { terminal: false, args: ['sh', '-c', look] });
    // Raising a limit takes a capability that not every root has.
    delete config.process.rlimits;
    config.root = { path, readonly: false };
    writeFileSync(join(bundle, 'config.json'), JSON.stringify(config));
    const run = `${runtime} run -b ${bundle} iso-test-${process.pid}`;
    const v2 = 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup';
    const theirs = beside([run, `${v2}; ${run}`]);
    expect(theirs, `${runtime} runs nothing here`).not.toBe('');
    expect(differences(view(await shell({ root: path }, look)), view(theirs)).filter(onlyHere)).toEqual([
      // A specification to be filled in: three capabilities and no filter.
      ...['CapBnd', 'CapEff', 'CapPrm'].map((set) => `+ ${set} 00000000a00425fb`),
      '+ Seccomp 2',
      '+ masked /proc/interrupts',
      '+ mount /etc/hostname tmpfs rw',
      '+ mount /etc/hosts tmpfs rw',
      '+ mount /proc proc rw,nosuid,nodev,noexec',
      ...['CapBnd', 'CapEff', 'CapPrm'].map((set) => `- ${set} 0000000020000420`),
      '- Seccomp 0',
      '- mount /proc proc rw',
    ]);
  });
});

/** Files that an engine brings along say nothing of confinement. */
function onlyHere(line: string): boolean {
  return !/^- mount (\/etc\/host|\/run\/|\/etc\/resolv)/.test(line);
}
