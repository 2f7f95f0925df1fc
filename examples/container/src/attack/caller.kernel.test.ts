// What a container must not have of who starts it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Pty, spawn } from '@iso/process';
import { attempt, syscall, syscallNumber } from '@iso/sys';
import { afterAll, expect, it } from 'vitest';
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
