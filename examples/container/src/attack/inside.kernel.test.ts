// Attacks of a container's root on what its namespaces, masks, capabilities and filter keep from it. All of them run in one
// container, in which none succeeds; then each in a container without the one protection that is against it, in which it does. What
// they attack was made for that: nothing of the machine is changed by one that succeeds.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { detect } from '@iso/cgroups';
import { AT, syscall, syscallNumber } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lacking } from '../testing/lacking.js';
import { type Attack, perl, reaches, succeeding } from './fixture.js';

const missing = lacking('perl', 'unshare', 'setpriv', 'ipcmk');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const name = `iso-test-${process.pid}`;
const [EPERM, ENOSYS] = [1, 38];
const call = syscallNumber;

/** What is outside, for attacks to reach: processes, a socket, shared memory, a file beside a volume. */
const outside = { victim: 0, elsewhere: 0, shm: 0, key: 0, handle: '' };
const ends: (() => void)[] = [];

beforeAll(async () => {
  if (missing) return;
  const sleeper = spawn('unshare', ['--uts', 'sh', '-c', `hostname ${name}; echo ready; exec sleep 300`], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await once(sleeper.stdout, 'data');
  outside.elsewhere = sleeper.pid as number;
  ends.push(() => sleeper.kill('SIGKILL'));
  const server = createServer((socket) => socket.end('outside')).listen(`\0${name}`);
  await once(server, 'listening');
  ends.push(() => server.close());
  outside.shm = Number(/\d+/.exec(spawnSync('ipcmk', ['-M', '4096'], { encoding: 'utf8' }).stdout)?.[0]);
  ends.push(() => spawnSync('ipcrm', ['-m', String(outside.shm)]));
  writeFileSync(`/dev/shm/${name}`, 'outside');
  ends.push(() => rmSync(`/dev/shm/${name}`));
  mkdirSync(join(folder, 'volume'));
  writeFileSync(join(folder, 'secret'), 'outside');
  outside.handle = handleOf(join(folder, 'secret'));
});
afterAll(() => {
  for (const end of ends) end();
  rmSync(folder, { recursive: true, force: true });
});

/** What open_by_handle_at(2) takes. */
function handleOf(path: string): string {
  const handle = Buffer.alloc(8 + 128);
  handle.writeUInt32LE(128, 0);
  syscall('name_to_handle_at', AT.FDCWD, path, handle, Buffer.alloc(4), 0);
  return handle.subarray(0, 8 + handle.readUInt32LE(0)).toString('hex');
}

const admin = { capAdd: ['SYS_ADMIN'] };
const unfiltered = { seccomp: 'unconfined' } as const;
const unmasked = { systemPaths: 'unconfined' } as const;
const onlyX64 = process.arch === 'x64';

/** With the rows of docs/security.md. */
const attacks = (): Attack[] => [
  { name: 'mounts a file system', script: 'mount -t tmpfs none /media', off: admin },
  { name: 'uncovers what is masked', script: 'umount /proc/interrupts', off: admin },
  {
    name: 'mounts an unmasked proc',
    script: 'mount -t proc proc /media && head -c 1 /media/interrupts | grep -q .',
    off: admin,
  },
  {
    name: 'makes a read-only path writable',
    script: 'mount -o remount,bind,rw /proc/sys && test -w /proc/sys/kernel/domainname',
    off: admin,
  },
  {
    name: 'mounts its cgroup writable',
    script: 'mkdir /tmp/c && mount -t cgroup2 none /tmp/c && mount | grep "/tmp/c.*rw"',
    off: admin,
  },
  { name: 'reads what is masked', script: 'head -c 1 /proc/interrupts | grep -q .', off: unmasked },
  { name: 'writes a sysctl', script: 'echo evil >/proc/sys/kernel/domainname', off: unmasked },
  {
    name: 'makes a cgroup',
    script: `mkdir /sys/fs/cgroup/${name} && rmdir /sys/fs/cgroup/${name}`,
    off: { privileged: true },
  },
  {
    name: 'leads processes elsewhere in its cgroup',
    base: { accounting: true },
    script: 'f=$(ls /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs 2>/dev/null | head -1); echo $$ >$f',
    off: { privileged: true },
  },
  ...(detect().v1.memory === undefined
    ? []
    : [
        {
          name: 'has the host run a program when a cgroup is empty (CVE-2022-0492)',
          // The value that it has already: for the kernel that is a change like any other.
          script:
            'mkdir /tmp/v1 && mount -t cgroup -o memory none /tmp/v1 && v=$(cat /tmp/v1/release_agent) && echo "$v" >/tmp/v1/release_agent',
          off: { capAdd: ['SYS_ADMIN'], cgroupns: 'host' as const },
        },
      ]),
  { name: 'makes a device node', script: 'mknod /tmp/disk b 7 0', off: { capAdd: ['MKNOD'] } },
  {
    name: 'opens a device by a node of its own',
    base: { capAdd: ['MKNOD'], accounting: true },
    script: 'mknod /tmp/kmsg c 1 11 && exec 3</tmp/kmsg',
    off: { privileged: true },
  },
  {
    name: 'opens a file beside its volume by a handle',
    base: { volumes: [{ source: join(folder, 'volume'), target: '/volume', readonly: true }] },
    script: perl(
      `open(my $m, "<", "/volume"); my $h = pack("H*", "${outside.handle}"); my $fd = syscall(${call('open_by_handle_at')}, fileno($m), $h, 0); exit 1 if $fd < 0; open(my $f, "<&=", $fd); exit(<$f> eq "outside" ? 0 : 1)`,
    ),
    off: { capAdd: ['DAC_READ_SEARCH'] },
  },
  { name: 'reads the kernel’s log', script: reaches(call('syslog'), '10, 0, 0', [EPERM]), off: { capAdd: ['SYSLOG'] } },
  {
    name: 'sees processes outside',
    script: `kill -0 ${outside.elsewhere} && grep -q sleep /proc/${outside.elsewhere}/comm`,
    off: { pid: 'host' },
  },
  {
    name: 'joins a namespace outside',
    base: { pid: 'host' },
    script: `test "$(nsenter -t ${outside.elsewhere} -u hostname)" = ${name}`,
    off: { privileged: true },
  },
  {
    name: 'connects to an abstract socket outside',
    script: perl(
      `use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack("S a*", AF_UNIX, "\\0${name}")) or connect($s, pack("S a108", AF_UNIX, "\\0${name}")) or exit 1; exit(<$s> eq "outside" ? 0 : 1)`,
    ),
    off: { network: 'host' },
  },
  { name: 'finds shared memory outside', script: `test -s /dev/shm/${name}`, off: { ipc: 'host' } },
  {
    name: 'attaches shared memory outside',
    script: perl(`exit(shmctl(${outside.shm}, 2, my $d) ? 0 : 1)`),
    off: { ipc: 'host' },
  },
  {
    name: 'sees where its cgroup is',
    script: "cut -d: -f3 /proc/self/cgroup | grep -q '^/.'",
    base: { accounting: true },
    off: { cgroupns: 'host' },
  },
  {
    name: 'gains privileges by a set-uid program',
    script:
      'cp "$(command -v id)" /tmp/id && chmod 4755 /tmp/id && test "$(setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/id -u)" = 0',
    off: { noNewPrivileges: false },
  },
  { name: 'makes a user namespace', script: 'unshare -Ur true', off: unfiltered },
  {
    name: 'makes a user namespace by clone3, which hides its flags',
    script: reaches(call('clone3'), '0, 0', [ENOSYS]),
    off: unfiltered,
  },
  {
    name: 'gets at io_uring, behind the filter’s back',
    script: reaches(call('io_uring_setup'), '0, 0', [EPERM]),
    off: unfiltered,
  },
  { name: 'gets at keys', script: reaches(call('keyctl'), '6, -3, 0, 0, 0', [EPERM]), off: unfiltered },
  {
    name: 'gets at BPF',
    script: reaches(call('bpf'), '99, 0, 0', [EPERM]),
    off: { ...unfiltered, capAdd: ['BPF', 'SYS_ADMIN'] },
  },
  {
    name: 'opens a socket to the hypervisor',
    script: perl(`exit(socket(my $s, 40, 1, 0) || $! != ${EPERM} ? 0 : 1)`),
    off: unfiltered,
  },
  {
    name: 'switches address randomization off',
    script: reaches(call('personality'), '0x40000', [EPERM]),
    off: unfiltered,
  },
  {
    name: 'makes memory pages wait for it (userfaultfd)',
    script: reaches(call('userfaultfd'), '1', [EPERM]),
    off: unfiltered,
  },
  ...(onlyX64
    ? [
        {
          name: 'makes a call of the x32 ABI',
          script: perl(`syscall(0x40000000 | ${call('getpid')}); exit 0`),
          off: unfiltered,
        },
      ]
    : []),
];

describe.skipIf(missing)(`a container’s root${missing}`, () => {
  it('breaks out of nothing, and where one protection is off by what that is against', async () => {
    const all = attacks();
    const groups = new Map<string, Attack[]>();
    for (const attack of all) {
      const key = JSON.stringify(attack.base ?? {});
      groups.set(key, [...(groups.get(key) ?? []), attack]);
    }
    for (const [key, group] of groups) expect(await succeeding(JSON.parse(key), group), key).toEqual([]);
    const failing: string[] = [];
    for (const attack of all)
      if ((await succeeding({ ...attack.base, ...attack.off }, [attack])).length === 0) failing.push(attack.name);
    expect(failing, 'cannot fail').toEqual([]);
    expect(readFileSync(`/dev/shm/${name}`, 'utf8')).toBe('outside');
  });
});
