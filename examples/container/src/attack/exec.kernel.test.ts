// Attacks on commands that are run in a container which is hostile already: its files change while they start, its processes wait for them.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type NamespacesOptions, namespaces } from '@iso/namespaces';
import type { Child } from '@iso/process';
import { addressOf, CLONE, F, Fd, type LaunchProgram, O, type Part, syscall, syscallNumber } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { inside } from '../../../../test/confined.js';
import { fromSources } from '../../../../test/typescript.js';
import { type Container, type ExecOptions, run } from '../index.js';
import { lacking } from '../testing/lacking.js';
import { output } from './fixture.js';

const missing = lacking('perl', 'setpriv');
const SECRET = 'a secret of the host';
const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
const path = join(folder, 'root');
let box: Container;

beforeAll(async () => {
  if (missing) return;
  writeFileSync(join(folder, 'secret'), SECRET);
  for (const name of ['', 'usr', 'etc', 'tmp']) mkdirSync(join(path, name));
  for (const name of ['bin', 'lib', 'lib64', 'sbin']) symlinkSync(`usr/${name}`, join(path, name));
  const volumes = [{ source: '/usr', target: '/usr', readonly: true }];
  box = await run({ root: path, volumes, command: ['sleep', '300'], accounting: true, stdio: 'ignore' });
});
afterAll(async () => {
  await box?.[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const printed = async (child: Child) => output({ child, exited: child.exited });
const exec = async (script: string, options: ExecOptions = {}) =>
  printed(await box.exec(['sh', '-c', script], { stdio: ['ignore', 'pipe', 'pipe'], ...options }));

/** A launch that joins a container, and does nothing else for its own safety. */
const joining = (options: { exposed?: boolean } = {}): Part => ({
  confine(program) {
    program.join(box.child.pidfd, CLONE.NEWNS | CLONE.NEWPID, options);
  },
});

describe.skipIf(missing)(`a command in a hostile container${missing}`, () => {
  it('has no more than the container’s own processes', async () => {
    const script =
      "grep -E '^(Cap|NoNew|Seccomp|Groups|Umask|SigIgn|SigBlk)' /proc/self/status; cut -d: -f2- /proc/self/cgroup; umask; ulimit -a; ls /proc/self/fd | wc -l";
    const shown = await exec(script);
    const first = await run({
      root: '/',
      command: ['sh', '-c', script],
      accounting: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    expect(shown).toBe(await output(first));
    expect(shown).toMatch(/CapBnd:\t00000000a00425fb[\s\S]*NoNewPrivs:\t1\nSeccomp:\t2/);
    // Its session, its session keyring, its parent are not the container's first process's, nor ours.
    expect(
      await exec('cut -d" " -f4,6 /proc/$$/stat; test $(cut -d" " -f6 /proc/$$/stat) = $$ && echo leader'),
    ).toMatch(/^0 \d+\nleader\n$/);
    const all = ['mount', 'pid', 'net', 'uts', 'ipc', 'cgroup'].map((type) => [type, { pidfd: box.child.pidfd }]);
    const joined = namespaces(Object.fromEntries(all) as NamespacesOptions);
    expect(await inside(joined, script)).toMatch(/CapBnd:\t0000\w{3}[1-9a-f]\w*[\s\S]*NoNewPrivs:\t0\nSeccomp:\t0/);
  });

  it('has no descriptor and no working directory of the host (CVE-2024-21626, CVE-2016-9962)', async () => {
    using host = Fd.open(folder, { directory: true });
    const kept = Fd.own(syscall('fcntl', host, F.DUPFD, 100));
    try {
      expect(await exec('ls /proc/$$/fd')).toBe('0\n1\n2\n');
      await exec(`ln -sfn /proc/self/fd/${kept.number} /tmp/there`);
      for (const cwd of [
        `/proc/self/fd/${kept.number}`,
        '/proc/self/fd/7',
        '/tmp/there',
        '/proc/1/cwd',
        '/proc/1/root',
      ])
        await expect(box.exec(['pwd'], { cwd }), cwd).rejects.toMatchObject({ step: { phase: 'cwd' } });
      const PATH = `PATH=/proc/self/fd/${kept.number}:/tmp/there`;
      await expect(box.exec(['secret'], { env: [PATH] })).rejects.toMatchObject({ code: 'ENOENT' });
      const leaky: Part = {
        confine(program) {
          void joining().confine(program);
          program.step('landlock', 'chdir', [`/proc/self/fd/${kept.number}`]);
        },
      };
      expect(await inside(leaky, 'cat secret')).toBe(SECRET);
    } finally {
      kept.close();
    }
  });

  it('reads the container’s passwd as what it may be by now (CVE-2016-3697, CVE-2026-30892)', async () => {
    const began = Date.now();
    for (const [change, user, what] of [
      ['mkfifo /etc/passwd', 'victim', /no regular file/],
      ['ln -s /proc/1/root/../../../etc/passwd /etc/passwd', 'nobody', /ELOOP|unable to find user/],
      ['ln -s /dev/zero /etc/passwd', 'victim', /no regular file|unable to find user/],
      ['truncate -s 2G /etc/passwd', 'victim', /unable to find user/],
      ['printf "victim:x:0x10:0::/:\\n" >/etc/passwd', 'victim', /no id/],
      ['printf "victim:x:4294967296:0::/:\\n" >/etc/passwd', 'victim', /not an id/],
    ] as const) {
      expect(await exec(`rm -f /etc/passwd; ${change}`)).toBe('');
      await expect(box.exec(['true'], { user }), change).rejects.toThrow(what);
    }
    expect(Date.now() - began).toBeLessThan(5000);
    expect(await exec('rm -f /etc/passwd; printf "1000:x:1234:5678::/home:\\n" >/etc/passwd')).toBe('');
    for (const user of ['0x1', '-1', '1:', ':1', '', '4294967295', '4294967296', '2147483648:-1', '1:1:1', ' 1'])
      await expect(box.exec(['true'], { user }), user).rejects.toMatchObject({ name: 'UsageError' });
    const who = 'echo $(id -u):$(id -g) $HOME; grep Groups /proc/self/status';
    expect(await exec(who, { user: '2147483648:7' })).toBe('2147483648:7 /\nGroups:\t7 \n');
    expect(await exec(who, { user: '1001' })).toBe('1001:0 /\nGroups:\t0 \n');
    // A name that is a number is a name.
    expect(await exec(who, { user: '1000' })).toBe('1234:5678 /home\nGroups:\t5678 \n');
    // To the kernel, one more than there are is root.
    const wrapped: Part = {
      confine: (program) => void program.step('credentials', 'setresuid', Array(3).fill(2 ** 32)),
    };
    expect(await inside(wrapped, 'id -u')).toBe('0\n');
  });

  it('shows the container none of this process’s memory while it starts (CVE-2016-9962, CVE-2026-41163)', async () => {
    // Of a user namespace, where container root has the capability to trace; in the host's, that alone would be enough.
    await using owned = await run({
      root: '/',
      userns: 'private',
      capAdd: ['SYS_PTRACE'],
      command: ['sleep', '60'],
      stdio: 'ignore',
    });
    const secret = Buffer.from(SECRET);
    const spy = `
      $| = 1; print "ready\\n"; my $local = "." x ${secret.length}; my $tries = 0;
      for (my $end = time + 8; time < $end;) {
        opendir(my $d, "/proc"); my @pids = grep { /^\\d+$/ && $_ > 2 && $_ != $$ } readdir($d);
        for my $pid (@pids) {
          my $to = pack("QQ", unpack("Q", pack("p", $local)), ${secret.length}); my $from = pack("QQ", ${addressOf(secret)}, ${secret.length});
          $tries++; my $got = syscall(${syscallNumber('process_vm_readv')}, $pid + 0, $to, 1, $from, 1, 0);
          if ($got > 0 && $local eq "${SECRET}") { print "read\\n"; exit }
          if (open(my $m, "<", "/proc/$pid/mem") && sysseek($m, ${addressOf(secret)}, 0) && sysread($m, my $b, ${secret.length}) && $b eq "${SECRET}") { print "read\\n"; exit }
          print "tried\\n" if $tries == 1;
        }
      }`;
    const spying = async (launches: () => Promise<void>): Promise<string> => {
      const child = await owned.exec(['perl', '-e', spy], { stdio: ['ignore', 'pipe', 'pipe'] });
      let text = '';
      child.stdout?.on('data', (chunk) => (text += chunk));
      child.stderr?.on('data', (chunk) => (text += chunk));
      while (!text.includes('ready')) await sleep(5);
      for (let i = 0; i < 8 && !text.includes('read\n'); i++) await launches();
      await child[Symbol.asyncDispose]();
      return text.replace('ready\n', '');
    };
    // The process that joins stands still for a moment, as on a slow disk.
    const pause = (program: LaunchProgram) => {
      const moment = Buffer.alloc(16);
      moment.writeBigInt64LE(40_000_000n, 8);
      program.step('limits', 'ppoll', [null, 0, moment, null, 0]);
    };
    const launches = (exposed: boolean) => () =>
      inside(
        {
          confine(program) {
            const { pidfd } = owned.child;
            program.join(pidfd, CLONE.NEWUSER | CLONE.NEWNS | CLONE.NEWPID, { exposed });
            pause(program);
          },
        },
        'true',
      ).then(() => {});
    expect(await spying(launches(true))).toBe('tried\n');
    expect(await spying(launches(false))).toContain('read\n');
    expect(await spying(async () => void (await (await owned.exec(['true'])).exited))).not.toContain('read\n');
  }, 30_000);

  it('is refused where a process of the container could write to this process’s memory meanwhile', async () => {
    const command = ['sleep', '60'] as const;
    const options = { root: '/', stdio: 'ignore' } as const;
    const refusal = /^process \d+ of the container has CAP_SYS_PTRACE, .*--userns private/;
    const status = async (container: Container) => (await (await container.exec(['true'])).exited).code;
    {
      await using tracing = await run({ ...options, command, capAdd: ['SYS_PTRACE'] });
      await expect(tracing.exec(['true'])).rejects.toThrow(refusal);
      await expect(tracing.exec(['true'], { privileged: true })).rejects.toThrow(refusal);
      await expect(run({ ...options, command, pid: { pidfd: tracing.child.pidfd } })).rejects.toThrow(refusal);
    }
    {
      // Dropped from the bounding set it is permitted still.
      const drop = `syscall(${syscallNumber('prctl')}, 24, 19, 0, 0, 0); $| = 1; print "dropped\\n"; sleep 60`;
      await using sly = await run({
        ...options,
        stdio: ['ignore', 'pipe', 'ignore'],
        command: ['perl', '-e', drop],
        capAdd: ['SYS_PTRACE'],
      });
      await once(sly.child.stdout as never, 'data');
      expect(readFileSync(`/proc/${sly.child.pid}/status`, 'utf8')).toMatch(/^CapBnd:\t00000000a00425fb$/m);
      await expect(sly.exec(['true'])).rejects.toThrow(refusal);
    }
    await using first = await run({ ...options, command });
    expect(await status(first)).toBe(0);
    {
      // Another container among its processes.
      await using beside = await run({
        ...options,
        command,
        pid: { pidfd: first.child.pidfd },
        capAdd: ['SYS_PTRACE'],
      });
      await expect(first.exec(['true'])).rejects.toThrow(refusal);
      await expect(beside.exec(['true'])).rejects.toThrow(refusal);
    }
    expect(await status(first)).toBe(0);
    for (const harmless of [{ privileged: true }, { userns: 'private', capAdd: ['SYS_PTRACE'] }] as const) {
      await using container = await run({ ...options, ...harmless, command });
      expect(await status(container)).toBe(0);
    }
  }, 30_000);

  it('is no program of the host, which the container would hold on to and overwrite (CVE-2019-5736)', async () => {
    // Node's own language: what runs is Node.
    const file = join(folder, 'root/tmp/script');
    const hold = (fd: string) => `#!/proc/self/exe
      const { openSync } = require('node:fs'); const { spawn } = require('node:child_process');
      const fd = openSync('/proc/self/exe', ${O.PATH});
      const write = 'i=0; while [ $i -lt 100 ]; do i=$((i+1)); { echo overwritten >${fd}; } 2>/dev/null && exit; sleep 0.02; done';
      spawn('sh', ['-c', write], { stdio: ['ignore', 'ignore', 'ignore', fd], detached: true }).unref();`;
    writeFileSync(file, hold('/proc/self/fd/3'), { mode: 0o755 });
    symlinkSync('/proc/self/exe', join(path, 'tmp/link'));
    const before = statSync(process.execPath);
    const volumes = [
      { source: '/usr', target: '/usr', readonly: true },
      { source: join(path, 'tmp'), target: '/x', readonly: true },
    ];
    for (const init of [false, true]) {
      for (const name of ['/x/link', '/proc/self/exe', '/proc/1/exe'])
        await expect(run({ root: path, volumes, command: [name], init }), name).rejects.toMatchObject({
          code: 'ELOOP',
        });
      // What a program goes on to is not seen before it has: it goes on to a sealed file of a few hundred bytes.
      const child = await run({ root: path, volumes, command: ['/x/script'], init, stdio: 'ignore' });
      expect((await child.exited).code).toBe(125);
    }
    // So does a command.
    await exec('cp -r /tmp /copy; printf "#!/copy/script" >/copy/again; chmod 755 /copy/again');
    for (const name of ['/copy/link', '/proc/self/exe'])
      await expect(box.exec([name], { stdio: 'ignore' }), name).rejects.toMatchObject({ code: 'ELOOP' });
    for (const name of ['/copy/script', '/copy/again']) {
      const child = await box.exec([name], { stdio: 'ignore' });
      expect((await child.exited).code, name).toBe(125);
    }
    const { ino, mtimeMs, size } = statSync(process.execPath);
    expect({ ino, mtimeMs, size }).toEqual({ ino: before.ino, mtimeMs: before.mtimeMs, size: before.size });

    // A Node of the test's own, whose launch does not look; nothing keeps its file once it has ended.
    const sentinel = join(folder, 'node');
    copyFileSync(process.execPath, sentinel);
    const launch = `import { rootfs } from '@iso/mounts'; import { spawn } from '@iso/process';
      const child = await spawn(${JSON.stringify(file)}, [], { confine: [rootfs({ directory: '/' })], stdio: 'inherit', env: process.env });
      await child.exited;`;
    const driver = join(import.meta.dirname, 'caller.driver.ts');
    const { stderr } = spawnSync(sentinel, [...fromSources, '--input-type=module', '-e', launch], {
      encoding: 'utf8',
      cwd: join(driver, '..'),
    });
    expect(stderr).toBe('');
    for (let i = 0; i < 100 && statSync(sentinel).size !== 'overwritten\n'.length; i++) await sleep(20);
    expect(readFileSync(sentinel, 'utf8').slice(0, 100)).toBe('overwritten\n');
  }, 30_000);

  it('fills no memory here with what nobody reads', async () => {
    const rss = process.memoryUsage().rss;
    await using child = await box.exec(['cat', '/dev/zero'], { stdio: ['ignore', 'pipe', 'pipe'] });
    await sleep(300);
    expect(process.memoryUsage().rss - rss).toBeLessThan(64 * 2 ** 20);
    // Who keeps what it reads is full of it.
    const chunks: Buffer[] = [];
    let length = 0;
    child.stdout?.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length < 2 ** 27) chunks.push(chunk);
    });
    while (length < 2 ** 27) await sleep(5);
    expect(process.memoryUsage().rss - rss).toBeGreaterThan(64 * 2 ** 20);
  });

  it('says that the container has ended, whatever it meets of that', async () => {
    const short = await run({ root: '/', command: ['sleep', '60'], stdio: 'ignore' });
    const starts = Array.from({ length: 8 }, () =>
      short.exec(['true'], { stdio: 'ignore' }).then(({ exited }) => exited),
    );
    short.child.kill('SIGKILL');
    for (const start of await Promise.allSettled(starts))
      if (start.status === 'rejected') expect(String(start.reason)).toMatch(/the container has ended/);
    await short.exited;
    await expect(short.exec(['true'])).rejects.toThrow('the container has ended');
  });
});
