import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { detect } from '@iso/cgroups';
import { afterAll, describe, expect, it } from 'vitest';
import { explainContainer, run } from './index.js';
import { command } from './testing/command.js';

const root = process.getuid?.() === 0;
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function iso(...args: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [...command, ...args], { encoding: 'utf8' });
}
const limits = (() => {
  const layout = detect();
  return (
    root &&
    (layout.kind !== 'unified' || readFileSync(`${layout.unified}/cgroup.controllers`, 'utf8').includes('memory'))
  );
})();

/** An emulated machine starts a Node in seconds. */
const slow = process.env.ISO_SLOW ? ' [the same under every kernel, and slow under this one]' : '';

describe('iso run', () => {
  it('is pid 1 with its own host name, clean signals, no foreign descriptor; the host’s mounts stay', () => {
    const before = readFileSync('/proc/self/mountinfo', 'utf8');
    const { stdout, stderr, status } = iso(
      'run',
      '--rm',
      '--hostname',
      'box',
      '/',
      'sh',
      '-c',
      'echo $$; hostname; ls /proc/self/fd; grep -E "SigBlk|SigIgn" /proc/self/status; id -u; touch /tmp/inside && echo wrote',
    );
    expect(stderr).toBe('');
    expect(status).toBe(0);
    expect(stdout).toBe('1\nbox\n0\n1\n2\n3\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n0\nwrote\n');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).toBe(before);
    expect(existsSync('/tmp/inside')).toBe(false);
  });

  it.skipIf(!limits)(
    'has its own cgroup as the root of its cgroup namespace [needs root and the memory controller]',
    () => {
      const { stdout } = iso('run', '--rm', '-m', '32m', '--pids-limit', '50', '/', 'cat', '/proc/self/cgroup');
      for (const line of stdout.trim().split('\n')) expect(line).toMatch(/^\d+:[^:]*:\/$/);
    },
  );

  it.skipIf(!limits || detect().kind === 'unified')(
    'sees its own limits on a machine with v1 hierarchies, and nobody else’s groups [needs root and v1 controllers]',
    () => {
      const script =
        'cat /sys/fs/cgroup/memory/memory.limit_in_bytes; head -1 /sys/fs/cgroup/memory/cgroup.procs; ls /sys/fs/cgroup; for d in /sys/fs/cgroup /sys/fs/cgroup/*; do touch $d/x 2>/dev/null && echo wrote; ls -d $d/*/ 2>/dev/null | grep -v ^/sys/fs/cgroup/[^/]*/$; done; true';
      const all = detect().hierarchies.map(({ mount }) => mount.split('/').at(-1));
      for (const options of [[], ['--userns', 'private'], ['--network', 'host'], ['--cgroupns', 'host']]) {
        const [limit, pid, ...names] = iso('run', '--rm', '-m', '32m', ...options, '/', 'sh', '-c', script)
          .stdout.trim()
          .split('\n');
        expect([limit, pid], options.join(' ')).toEqual([String(32 << 20), '1']);
        expect(names, options.join(' ')).toEqual(expect.arrayContaining(['memory', 'pids', 'cpu']));
        expect(names.filter((name) => !all.includes(name))).toEqual([]);
      }
    },
    60_000,
  );

  it.skipIf(slow)(
    `has the exit codes of docker${slow}`,
    () => {
      expect(iso('run', '--rm', '/', 'sh', '-c', 'exit 7').status).toBe(7);
      expect(iso('run', '--rm', '/', 'sh', '-c', 'kill -9 $$; sleep 1').status).toBe(0);
      expect(iso('run', '--rm', '--init', '/', 'sh', '-c', 'exit 7').status).toBe(7);
      expect(iso('run', '--rm', '--init', '/', 'no-such-command').status).toBe(127);
      expect(iso('run', '--rm', '/', 'no-such-command').status).toBe(127);
      expect(iso('run', '--rm', '/', '/etc/passwd').status).toBe(126);
      expect(iso('run', '--rm', '/no/such/root', 'true').status).toBe(125);
      expect(iso('run', '--rm', '--no-such-option', '/', 'true').status).toBe(125);
      expect(iso('run', '--rm', '--network', 'moon', '/', 'true').status).toBe(125);
      expect(iso('run', '--rm', '-w', '/no/such', '/', 'true').status).toBe(125);
    },
    60_000,
  );

  it.skipIf(slow)(
    `says what is wrong in one line${slow}`,
    () => {
      writeFileSync(join(folder, 'file'), '');
      for (const args of [
        [],
        ['run'],
        ['moon'],
        ['run', '--rm', '/no/such/root', 'true'],
        ['run', '--rm', join(folder, 'file'), 'true'],
        ['run', '--rm', '--bad', '/', 'true'],
        ['run', '--rm', '--userns', 'moon', '/', 'true'],
      ]) {
        const { status, stdout, stderr } = iso(...args);
        expect(status, args.join(' ')).toBe(125);
        expect(stdout).toBe('');
        if (args.length) expect(stderr, args.join(' ')).toMatch(/^iso: [^\n]+\n$/);
      }
      for (const args of [
        ['-w', 'usr'],
        ['-w', '/etc/passwd'],
        ['-v', '/no/such:/data'],
        ['-v', '/etc:/a/../b'],
        ['-v', '/etc:/'],
        ['--tmpfs', '/../x'],
        ['--tmpfs', '/x:moon'],
        ['-m', '5m'],
        ['--pids-limit', '0'],
        ['--hostname', 'a b'],
        ['--name', '../x'],
        ['-u', 'nobody-here'],
        ['-u', '4294967295'],
      ]) {
        const { status, stderr } = iso('run', '--rm', ...args, '/', 'true');
        expect(status, args.join(' ')).toBe(125);
        expect(stderr, args.join(' ')).toMatch(/^iso: [^\n]+\n$/);
      }
    },
    120_000,
  );

  it('passes environment, working directory, volumes, tmpfs', () => {
    mkdirSync(join(folder, 'data'), { recursive: true });
    writeFileSync(join(folder, 'data/file'), 'from the host');
    const { stdout, stderr } = iso(
      'run',
      '--rm',
      '-e',
      'A=b c',
      '-w',
      '/usr',
      '-v',
      `${join(folder, 'data')}:/data:ro`,
      '--tmpfs',
      '/memory:size=64k',
      '/',
      'sh',
      '-c',
      'echo "$A"; pwd; cat /data/file; touch /data/x 2>/dev/null || echo ro; stat -f -c %T /memory; env | grep -c SECRET',
    );
    expect(stderr).toBe('');
    expect(stdout).toBe('b c\n/usr\nfrom the hostro\ntmpfs\n0\n');
  });

  it('takes the options of volumes and memory file systems', () => {
    const tmpfs = '/memory:size=64k,mode=750,uid=0,gid=0,exec,suid,dev';
    const script = `grep -E ' /(memory|plain|data) ' /proc/self/mountinfo | cut -d' ' -f5,6; stat -c '%a %u:%g' /memory; stat -c %a /plain; stat -f -c '%b %S' /memory`;
    const volume = `${join(folder, 'data')}:/data:ro,rslave`;
    const { stdout, stderr } = iso(
      ...['run', '--rm', '--tmpfs', tmpfs, '--tmpfs', '/plain', '-v', volume, '/', 'sh', '-c', script],
    );
    expect(stderr).toBe('');
    const [memory, plain, data, ...rest] = stdout.trim().split('\n');
    expect(memory).toBe('/memory rw,relatime');
    expect(plain).toBe('/plain rw,nosuid,nodev,noexec,relatime');
    expect(data).toMatch(/^\/data ro/);
    expect(rest).toEqual(['750 0:0', '1777', '16 4096']);
  });

  it('starts a root that has nothing but a program, read-only or not', () => {
    const path = join(folder, 'bare');
    for (const name of ['usr', 'lib64', 'lib', 'bin']) mkdirSync(join(path, name), { recursive: true });
    const mounts = ['usr', 'lib64', 'lib', 'bin'].flatMap((name) => ['-v', `/${name}:/${name}:ro`]);
    for (const options of [[], ['--read-only']]) {
      const { stdout, stderr } = iso(
        'run',
        '--rm',
        ...options,
        ...mounts,
        path,
        'sh',
        '-c',
        'ls -d /proc/1 /dev/null /sys/fs',
      );
      expect(stderr).toBe('');
      expect(stdout).toBe('/dev/null\n/proc/1\n/sys/fs\n');
    }
    expect(readdirSync(path).sort()).toEqual(['bin', 'lib', 'lib64', 'usr']);
  });

  it('gives its process nothing of the caller: session, environment, keys, privileges to gain', () => {
    const script =
      'grep -E "^(NoNewPrivs|CapInh|CapAmb|SigCgt|Seccomp)" /proc/1/status; cut -d" " -f6 /proc/1/stat; env | sort; umask; cat /proc/keys';
    const { stdout } = spawnSync(
      process.execPath,
      [...command, 'run', '--rm', '--hostname', 'box', '/', 'cat', '/proc/self/status'],
      {
        encoding: 'utf8',
        env: { ...process.env, SECRET: 'x' },
      },
    );
    expect(stdout).toMatch(/^NoNewPrivs:\t1$/m);
    expect(stdout).toMatch(/^Seccomp:\t2$/m);
    for (const set of ['CapInh', 'CapAmb', 'SigBlk', 'SigIgn', 'SigCgt', 'SigPnd'])
      expect(stdout).toMatch(new RegExp(`^${set}:\t0000000000000000$`, 'm'));
    const lines = iso('run', '--rm', '--hostname', 'box', '/', 'sh', '-c', script).stdout.split('\n');
    expect(lines).toContain('1');
    expect(lines.filter((line) => /^[A-Z]+=/.test(line))).toEqual([
      'HOME=/root',
      'HOSTNAME=box',
      'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      'PWD=/',
    ]);
    expect(lines).toContain('0022');
  });

  it('prints its launch program', async () => {
    const text = await explainContainer({ root: '/', command: ['true'] });
    expect(text).toMatch(/clone3\([\s\S]*pivot_root\("\.", "\."\)[\s\S]*close_range[\s\S]*execve/);
    expect(iso('run', '--explain', '/', 'true').stdout).toContain('pivot_root');
  });

  it('refuses a working directory that leads out by a magic link', async () => {
    for (const fd of [3, 7, 20]) {
      await expect(run({ root: '/', command: ['true'], cwd: `/proc/self/fd/${fd}` })).rejects.toMatchObject({
        step: { phase: 'cwd' },
      });
    }
  });

  it('starts a read-only root', async () => {
    const box = await run({
      root: '/',
      readonly: true,
      command: ['sh', '-c', 'touch /x 2>/dev/null && exit 1; exit 0'],
    });
    expect(await box.exited).toMatchObject({ code: 0 });
  });
});

describe.skipIf(root)('as a plain user [needs another than root]', () => {
  it('says who can grant what is missing', () => {
    const { status, stderr } = iso('run', '--rm', '-m', '64m', '/', 'true');
    expect(status).toBe(125);
    expect(stderr).toMatch(/^iso: mkdir.*EACCES.*delegated to this user.*\n$/);
    expect(iso('run', '--rm', '-u', '1', '/', 'true').stderr).toMatch(/^iso: .*newuidmap.*subuid\n$/);
    expect(iso('run', '--rm', '--userns', 'host', '/', 'true').stderr).toMatch(/^iso: .*needs root.*\n$/);
  });

  it('is user 0 inside and itself outside; its writes stay inside', () => {
    const { stdout, stderr } = iso(
      'run',
      '--rm',
      '/',
      'sh',
      '-c',
      'id -u; cat /proc/self/uid_map; echo x >/etc/iso-was-here && cat /etc/iso-was-here',
    );
    expect(stderr).toBe('');
    expect(stdout.replace(/ +/g, ' ')).toBe(`0\n 0 ${process.getuid?.()} 1\nx\n`);
    expect(existsSync('/etc/iso-was-here')).toBe(false);
  });
});

describe.skipIf(!root)('as root [needs root]', () => {
  it('runs as a user of the root’s own passwd file, which may be an attack', async () => {
    const { stdout } = iso(
      'run',
      '--rm',
      '-u',
      'nobody',
      '/',
      'sh',
      '-c',
      'id -u; id -G; grep Groups /proc/self/status',
    );
    expect(stdout).toMatch(/^65534\n65534\nGroups:\s*65534 \n$/);
    const path = join(folder, 'root');
    for (const name of ['etc', 'proc', 'dev', 'sys']) mkdirSync(join(path, name), { recursive: true });
    spawnSync('mkfifo', [join(path, 'etc/passwd')]);
    await expect(run({ root: path, user: 'x', command: ['/x'] })).rejects.toThrow(
      /no regular file|unable to find user/,
    );
    rmSync(join(path, 'etc/passwd'));
    spawnSync('mknod', [join(path, 'etc/passwd'), 'c', '1', '5']);
    await expect(run({ root: path, user: 'x', command: ['/x'] })).rejects.toThrow(/no regular file/);
    rmSync(join(path, 'etc/passwd'));
    // The mebibyte that is read ends within this line, before the last digit of its id.
    const line = 'late:x:10';
    writeFileSync(join(path, 'etc/passwd'), `${'#'.repeat(2 ** 20 - line.length - 1)}\n${line}00:0::/:\n`);
    await expect(run({ root: path, user: 'late', command: ['/x'] })).rejects.toThrow(/unable to find user/);
    rmSync(join(path, 'etc/passwd'));
    symlinkSync('/proc/self/environ', join(path, 'etc/passwd'));
    await expect(run({ root: path, user: 'x', command: ['/x'] })).rejects.toThrow();
  });

  it('does not execute through a link to this program (CVE-2019-5736)', async () => {
    const path = join(folder, 'exe');
    for (const name of ['etc', 'proc', 'dev', 'sys', 'bin']) mkdirSync(join(path, name), { recursive: true });
    symlinkSync('/proc/self/exe', join(path, 'bin/x'));
    await expect(run({ root: path, command: ['/bin/x'] })).rejects.toMatchObject({
      code: 'ELOOP',
      step: { phase: 'exec' },
    });
  });

  it('leaves its root nothing to undo what confines it with', async () => {
    const tries = [
      'umount /proc/sys',
      'umount /proc/interrupts',
      'mount -o remount,bind,rw /proc/sys',
      'mount -o remount,rw /sys',
      'mount -t proc proc /media',
      'mount -t tmpfs none /media',
      'mknod /tmp/disk b 8 0',
      'unshare -m true',
      'echo 1 >/proc/sys/vm/drop_caches',
      'echo 1 >/proc/sys/user/max_user_namespaces',
    ];
    // With a user namespace of its own it cannot have another, in which it would be able to do all of that.
    const own = ['unshare -Ur true', 'unshare -UrmC mount -t cgroup2 none /media'];
    const script = (commands: string[]) => commands.map((command) => `(${command}) 2>/dev/null && echo '${command}'`);
    for (const userns of root ? (['host', 'private'] as const) : (['private'] as const)) {
      const box = await run({
        root: '/',
        userns,
        command: [
          'sh',
          '-c',
          [...script([...tries, ...(userns === 'private' ? own : [])]), 'grep ^Cap.nd /proc/self/status'].join(';'),
        ],
      });
      let text = '';
      box.child.stdout?.on('data', (chunk) => (text += chunk));
      await box.exited;
      expect(text, userns).toBe('CapBnd:\t00000000a00425fb\n');
    }
  });

  it('takes no word for less confinement that it does not know', async () => {
    for (const options of [{ network: 'bridge' }, { userns: 'auto' }, { network: '' }])
      await expect(run({ root: '/', command: ['true'], ...(options as object) })).rejects.toMatchObject({
        name: 'UsageError',
      });
  });

  it('has a private user namespace when it is told to', async () => {
    const box = await run({
      root: '/',
      userns: 'private',
      command: ['sh', '-c', 'readlink /proc/self/ns/user; id -u'],
    });
    let text = '';
    box.child.stdout?.on('data', (chunk) => (text += chunk));
    await box.exited;
    expect(text).toMatch(/^user:\[\d+\]\n0\n$/);
    expect(text).not.toContain(readlinkSync('/proc/self/ns/user'));
  });

  it.skipIf(!limits)('limits, and says that memory ran out [needs the memory controller]', async () => {
    const box = await run({
      root: '/',
      command: ['sh', '-c', 'x=0123456789abcdef; while :; do x=$x$x; done'],
      memory: 24 * 1024 * 1024,
      pidsLimit: 10,
      cpus: 1,
    });
    expect(await box.exited).toMatchObject({ signal: 'SIGKILL', oomKilled: true });
  });
});
