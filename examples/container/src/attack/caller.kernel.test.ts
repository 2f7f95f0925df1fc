// What a container must not have of who starts it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { rootfs } from '@iso/mounts';
import { Pty, spawn } from '@iso/process';
import { attempt, Fd, O, syscall, syscallNumber } from '@iso/sys';
import { afterAll, describe, expect, it } from 'vitest';
import { fromSources } from '../../../../test/typescript.js';
import { run } from '../index.js';
import { lacking } from '../testing/lacking.js';
import { output, perl, shell } from './fixture.js';

const missing = lacking('setpriv', 'perl');
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it.skipIf(missing)(
  `its variables, groups, inheritable capabilities, descriptors and mask (CVE-2022-24769, CVE-2022-36109, CVE-2021-21334)${missing}`,
  () => {
    writeFileSync(join(folder, 'secret'), 'a secret of the host\n');
    const driver = join(import.meta.dirname, 'caller.driver.ts');
    const node = ['exec', process.execPath, ...fromSources, driver, `20<${folder}`, `21<${folder}/secret`];
    const line = `umask 0; ${node.join(' ')}`;
    const given = ['--inh-caps', '+net_raw,+net_admin', '--groups', '4,24,27', 'bash', '-c', line];
    const env = { ...process.env, SECRET: 'SECRET of the host' };
    const { stdout, stderr } = spawnSync('setpriv', given, { encoding: 'utf8', env });
    expect(stderr).toBe('');
    const { inside, within, plain } = JSON.parse(stdout) as Record<'inside' | 'within' | 'plain', string>;
    const clean = 'Umask:\t0022\nGroups:\t \nCapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n';
    expect(inside).toBe(clean);
    expect(within).toBe(clean);
    for (const mark of [
      'Umask:\t0000',
      'Groups:\t4 24 27',
      'CapInh:\t0000000000003000',
      'SECRET of the host',
      'fd 20',
      'a secret of the host',
    ])
      expect(plain).toContain(mark);
  },
);

const legacy = (() => {
  try {
    return readFileSync('/proc/sys/dev/tty/legacy_tiocsti', 'utf8').trim() === '1';
  } catch {
    // A kernel before 6.2, which had nothing else.
    return true;
  }
})();

it.skipIf(missing || !legacy)(
  `its terminal, into which it would type (CVE-2017-5226, CVE-2019-10063)${missing || ' [needs legacy TIOCSTI]'}`,
  async () => {
    using pty = Pty.open();
    // Once as it is, once with bits that the kernel cuts off.
    const type = perl(
      `my $c = "\\n"; ioctl(STDIN, 0x5412, $c); $c = "\\n"; syscall(${syscallNumber('ioctl')}, 0, 0x100005412, $c); print "end"`,
    );
    const typed = () => {
      const count = Buffer.alloc(4);
      syscall('ioctl', pty.peer, FIONREAD, count);
      return count.readInt32LE(0);
    };
    const stdio = [pty.peer, 'pipe', 'pipe'] as const;
    expect(await output(await run({ root: '/', command: ['sh', '-c', type], stdio }))).toBe('end');
    await using box = await run({ root: '/', command: ['sleep', '60'] });
    const child = await box.exec(['sh', '-c', type], { stdio });
    expect(await output({ child, exited: child.exited })).toBe('end');
    expect(typed()).toBe(0);
    // As its controlling terminal, it is its own to type into.
    const own = await spawn('sh', ['-c', type], { stdio, controllingTerminal: 0 });
    expect(await output({ child: own, exited: own.exited })).toBe('end');
    expect(typed()).toBeGreaterThan(0);
  },
);

const FIONREAD = 0x541b;

it.skipIf(missing)(`its keys${missing}`, async () => {
  const name = `iso-test-${process.pid}`;
  const SESSION = -3;
  const UNLINK = 9;
  const key = syscall('add_key', 'user', name, Buffer.from('secret'), 6, SESSION);
  try {
    // The filter, which keeps it from keys too, is not on trial.
    const search = perl(
      `my ($t, $n) = ("user", "${name}"); exit(syscall(${syscallNumber('keyctl')}, 10, ${SESSION}, $t, $n, 0) > 0 ? 0 : 1)`,
    );
    const script = `${search} && echo found; true`;
    expect(await shell({ seccomp: 'unconfined' }, script)).toBe('');
    const plain = await spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'pipe'] });
    expect(await output({ child: plain, exited: plain.exited })).toBe('found\n');
  } finally {
    attempt('keyctl', UNLINK, key, SESSION);
  }
});

describe.skipIf(missing)(`its null device, whose file is root’s, in a container too${missing}`, () => {
  const nodes = ['null', 'zero', 'full', 'random', 'urandom', 'tty'].map((name) => `/dev/${name}`);
  const times = () => nodes.map((path) => statSync(path).mtimeMs);
  const before = times();
  const { dev, ino } = statSync('/dev/null');
  const host = `${dev} ${ino}\n`;
  const device = "stat -Lc '%d %i %t %T' /dev/null | grep -o '.* 1 3$' | cut -d' ' -f1,2";
  const seen = "stat -Lc '%d %i' /proc/self/fd/0 /proc/self/fd/3";
  // Of what root may change, that which nobody minds where it does succeed.
  const change = 'touch -d 2001-01-01 /proc/self/fd/0; true';
  afterAll(() => {
    for (const [i, path] of nodes.entries()) {
      const was = before[i] as number;
      if (statSync(path).mtimeMs !== was) utimesSync(path, Date.now() / 1000, was / 1000);
    }
  });

  it('is the container’s own, for its first process and for commands, given or ignored', async () => {
    using given = Fd.open('/dev/null', { flags: O.RDONLY });
    for (const stdin of ['ignore', given] as const) {
      const stdio = [stdin, 'pipe', 'pipe', given] as const;
      const script = `${seen}; ${device}; echo written >&3; wc -c <&3; ${change}`;
      const first = await output(await run({ root: '/', command: ['sh', '-c', script], stdio }));
      expect(first).toMatch(/^(\d+ \d+\n)\1{2}0\n$/);
      expect(first).not.toContain(host);
      await using box = await run({ root: '/', command: ['sleep', '60'], stdio: 'ignore' });
      const child = await box.exec(['sh', '-c', script], { stdio });
      const second = await output({ child, exited: child.exited });
      expect(second).toMatch(/^(\d+ \d+\n)\1{2}0\n$/);
      expect(second).not.toContain(host);
    }
    expect(times()).toEqual(before);
    const plain = await spawn('sh', ['-c', seen], { stdio: ['ignore', 'pipe', 'pipe', given] });
    expect(await output({ child: plain, exited: plain.exited })).toBe(host + host);
  });

  it('is read-only in a user namespace, which is given the host’s', async () => {
    const script = `for node in ${nodes.join(' ')}; do touch -d 2001-01-01 $node && echo $node; done 2>/dev/null; ${change}`;
    const text = await shell({ userns: 'private' }, `${script}; ${device}; echo >/dev/null && echo written`);
    expect(text.replace(/^\w+: .*Read-only file system\n/gm, '')).toBe(`${host}written\n`);
    expect(times()).toEqual(before);
  });

  it('is not given to a command where the container has put something else in its place', async () => {
    await using box = await run({ root: '/', command: ['sleep', '60'], stdio: 'ignore' });
    const stdio = ['pipe', 'pipe', 'pipe'] as const;
    for (const [place, code] of [
      ['true', 'ENOENT'],
      ['ln -s zero /dev/null', 'ELOOP'],
      ['mkfifo /dev/null', 'EFAULT'],
      ['mkdir /dev/null', 'EISDIR'],
      ['touch /dev/null', 'EFAULT'],
      ['ln /dev/zero /dev/null', 'EFAULT'],
      ['ln /dev/full /dev/null', 'ENOSPC'],
      ['ln /dev/tty /dev/null', 'ENXIO'],
    ] as const) {
      const child = await box.exec(['sh', '-c', `rm -rf /dev/null; ${place}`], { stdio });
      expect(await output({ child, exited: child.exited })).toBe('');
      await expect(box.exec(['true'], { stdio: 'ignore' }), place).rejects.toMatchObject({
        code,
        step: { phase: 'sysctl' },
        hint: expect.stringMatching(/null device/),
      });
    }
  });

  it('is kept by a new root that has none', async () => {
    const root = join(folder, 'bare');
    for (const name of ['usr', 'lib', 'lib64', 'bin']) mkdirSync(join(root, name), { recursive: true });
    const mounts = ['/usr', '/lib', '/lib64', '/bin'].map((path) => ({
      type: 'bind' as const,
      source: path,
      target: path,
      readonly: true,
    }));
    const confine = [rootfs({ directory: root, mounts })];
    const child = await spawn('/bin/sh', ['-c', 'read line; echo ended'], {
      stdio: ['ignore', 'pipe', 'pipe'],
      confine,
    });
    expect(await output({ child, exited: child.exited })).toBe('ended\n');
  });
});
