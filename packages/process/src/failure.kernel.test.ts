import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CLONE, Fd, type KernelError, type Part } from '@iso/sys';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { importSource } from '../../../test/typescript.js';
import { inNode } from './fixture.js';
import { run, spawn } from './index.js';

const root = process.getuid?.() === 0;
const v2 = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) => existsSync(join(path, 'cgroup.controllers')));
/** A directory whose children have a pids limit. */
const pids = existsSync('/sys/fs/cgroup/pids/cgroup.procs')
  ? '/sys/fs/cgroup/pids'
  : v2 && readFileSync(join(v2, 'cgroup.subtree_control'), 'utf8').includes('pids') && v2;
let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
  chmodSync(folder, 0o755);
});
afterEach(() => rmSync(folder, { recursive: true }));

const file = (name: string, text: string, mode: number) => {
  writeFileSync(join(folder, name), text, { mode });
  return join(folder, name);
};

describe('a command that cannot be executed', () => {
  it.each<[string, string, () => string]>([
    ['missing', 'ENOENT', () => join(folder, 'missing')],
    ['missing interpreter', 'ENOENT', () => file('x', '#!/no/such/interpreter\n', 0o755)],
    ['not executable', 'EACCES', () => file('x', '#!/bin/sh\n', 0o644)],
    ['a directory', 'EACCES', () => folder],
    ['a script without #!', 'ENOEXEC', () => file('x', 'echo hello\n', 0o755)],
    ['an empty file', 'ENOEXEC', () => file('x', '', 0o755)],
    ['below a file', 'ENOTDIR', () => join(file('x', '', 0o755), 'y')],
    ['a name too long', 'ENAMETOOLONG', () => join(folder, 'n'.repeat(300))],
  ])('%s: %s, with the step and what to do', async (_, code, make) => {
    const path = make();
    const error = await spawn(path).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ name: 'KernelError', code, syscall: 'execve', path, step: { phase: 'exec' } });
    if (['ENOENT', 'EACCES', 'ENOEXEC'].includes(code)) expect((error as KernelError).hint).toMatch(/it is/);
  });

  it('is looked for as execvp does: a refusal is remembered, the search goes on', async () => {
    const there = join(folder, 'there');
    mkdirSync(there);
    file('tool', 'no program', 0o644);
    writeFileSync(join(there, 'tool'), '#!/bin/sh\necho found', { mode: 0o755 });
    const look = (...path: string[]) => run('tool', [], { env: { PATH: path.join(':') } });
    expect((await look('/no/such', folder, there, '/usr/bin')).stdout).toBe('found\n');
    await expect(look(folder, '/no/such')).rejects.toMatchObject({ code: 'EACCES' });
    await expect(look('/no/such', '/etc/passwd')).rejects.toMatchObject({ code: 'ENOTDIR' });
    await expect(look('/no/such', '/usr/lib')).rejects.toMatchObject({
      code: 'ENOENT',
      hint: expect.stringMatching(/PATH/),
    });
    expect((await run('tool', [], { cwd: there, env: { PATH: '/no/such:' } })).stdout).toBe('found\n');
    await expect(run('tool', [], { cwd: there, env: { PATH: '/usr/bin' } })).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('arguments: 16 KiB, the longest that the kernel takes, one more, and too many', { timeout: 300_000 }, async () => {
    const page = Number((await run('getconf', ['PAGESIZE'])).stdout);
    const longest = 32 * page - 1;
    const length = (argument: string) => run('sh', ['-c', 'echo ${#1}', 'sh', argument]);
    expect((await length('y'.repeat(16_384))).stdout).toBe('16384\n');
    expect((await length('y'.repeat(longest))).stdout).toBe(`${longest}\n`);
    for (const argument of ['y'.repeat(longest + 1), 'é'.repeat(longest / 2 + 1)])
      await expect(length(argument)).rejects.toMatchObject({ code: 'E2BIG', hint: expect.stringMatching(/32 pages/) });
    expect((await run('sh', ['-c', 'echo $#', 'sh', ...Array<string>(100_000).fill('a')])).stdout).toBe('100000\n');
    await expect(run('true', Array<string>(100_000).fill('z'.repeat(100)))).rejects.toMatchObject({ code: 'E2BIG' });
  });

  it.each<[string, unknown[]]>([
    ['a NUL in the path', ['a\0b']],
    ['a NUL in an argument', ['true', ['a\0']]],
    ['a NUL in the environment', ['true', [], { env: { A: 'b\0' } }]],
    ['a variable without a name', ['true', [], { env: { '': 'b' } }]],
    ['a variable with = in its name', ['true', [], { env: { 'A=B': 'b' } }]],
    ['an argument that is no string', ['true', [1]]],
    ['no string at all', [undefined]],
    ['nothing', ['']],
    ['groups that are no array', ['true', [], { groups: 0 }]],
    ['processors that are no array', ['true', [], { affinity: 0 }]],
    ['a NUL in cwd', ['true', [], { cwd: '/\0' }]],
  ])('%s is refused before anything starts', async (_, [path, args, options]) => {
    await expect(spawn(path as string, args as string[], options as object)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARG_VALUE',
    });
  });
});

describe('cwd', () => {
  it('names its step', async () => {
    for (const [cwd, code] of [
      ['/no/such', 'ENOENT'],
      ['/etc/passwd', 'ENOTDIR'],
    ] as const)
      await expect(spawn('true', [], { cwd })).rejects.toMatchObject({
        code,
        path: cwd,
        step: { phase: 'cwd' },
        hint: expect.any(String),
      });
  });

  it.skipIf(!root)('does not lead out of a root of its own, whatever is open [needs root]', async () => {
    for (const name of ['bin', 'proc']) mkdirSync(join(folder, name));
    writeFileSync(join(folder, 'bin/true'), readFileSync('/bin/true'), { mode: 0o755 });
    using outside = Fd.open('/', { directory: true });
    const jail: Part = {
      confine(program) {
        program.ownRoot();
        program.unshare(0x20000);
        program.step('mount', 'mount', ['none', '/', null, 0x44000, null]);
        program.step('mount', 'mount', ['proc', join(folder, 'proc'), 'proc', 0, null]);
        program.step('root', 'chroot', [folder]);
      },
    };
    const start = (cwd: string) => spawn('/bin/true', [], { confine: [jail], stdio: 'ignore', cwd });
    for (const cwd of ['/proc/self/root/..', `/proc/self/fd/${outside.number}`, '/proc/1/root', '/proc/1/cwd'])
      await expect(start(cwd)).rejects.toMatchObject({
        step: { phase: 'cwd' },
        hint: expect.stringMatching(/inside the root/),
      });
    await expect(start('/nowhere')).rejects.toMatchObject({ code: 'ENOENT' });
    // The root is a bare directory that no dynamic program runs in; that it comes to the exec is what counts.
    await expect(start('/bin')).rejects.toMatchObject({ step: { phase: 'exec' } });
  });
});

describe('a mount namespace that is joined', () => {
  it.skipIf(!root)('is a root of its own: no magic link is executed, no environment goes in [needs root]', async () => {
    using own = Fd.open('/proc/self/ns/mnt');
    const joined: Part = { confine: (program) => program.join(own, CLONE.NEWNS) };
    symlinkSync('/proc/self/exe', join(folder, 'entry'));
    const error = await run(join(folder, 'entry'), ['-p', '1'], { confine: [joined] }).catch(
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code: 'ELOOP', step: { phase: 'exec' } });
    process.env.ISO_TEST_SECRET = 'secret';
    try {
      expect((await run('env', [], { confine: [joined] })).stdout).not.toContain('secret');
      expect((await run('env', [], { confine: [joined], env: { A: 'b' } })).stdout).toBe('A=b\n');
    } finally {
      delete process.env.ISO_TEST_SECRET;
    }
  });
});

describe('a launch that hides the memory of this process', () => {
  it.skipIf(!root)('is over before a plain user looks at its own files in /proc again [needs root]', async () => {
    const out = await inNode(
      `const { spawn } = await import('node:child_process'); const { readFileSync, readlinkSync } = await import('node:fs');
       const { CLONE, Fd } = await import('@iso/sys');
       const turn = () => new Promise((resolve) => setImmediate(resolve));
       const other = spawn('unshare', ['-Ur', 'sleep', '60']); const link = (pid) => readlinkSync('/proc/' + pid + '/ns/user');
       for (const end = Date.now() + 30_000; link(other.pid) === link('self') && Date.now() < end; ) await turn();
       const user = Fd.open('/proc/' + other.pid + '/ns/user'); other.kill('SIGKILL');
       const moment = Buffer.alloc(16); moment.writeInt32LE(20_000_000, 8);
       const part = { confine(program) { program.ownRoot(); program.join(user, CLONE.NEWUSER); program.step('host', 'nanosleep', [moment, null]); } };
       let over = false; const run = iso.run('true', [], { confine: [part] }).finally(() => { over = true; });
       let denied = 0; while (!over) { await turn(); try { readFileSync('/proc/self/environ'); } catch { denied++; } }
       await run; console.log(denied);`,
      { shell: 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"' },
    );
    expect(out).toBe('0\n');
  });
});

describe('a child that may not be killed', () => {
  it.skipIf(!root)(
    'ends nobody: a timeout, an abort and stop() tell it [needs root]',
    { timeout: 120_000 },
    async () => {
      // Set-uid, it becomes root altogether, as su(1) does.
      const tool = join(folder, 'setpriv');
      copyFileSync('/usr/bin/setpriv', tool);
      chmodSync(tool, 0o4755);
      const out = await inNode(
        `const start = (options) => iso.spawn('${tool}', ['--reuid', '0', 'sleep', '2'], { stdio: 'ignore', ...options });
       const told = (child) => new Promise((resolve) => child.once('error', (error) => resolve(error.code)));
       const late = await start({ timeout: 1000 });
       const abort = new AbortController();
       const aborted = await start({ signal: abort.signal });
       const silent = await start({ timeout: 1000 });
       const sleep = new Promise((resolve) => setTimeout(resolve, 1000)); const codes = [told(late), told(aborted)];
       await sleep; abort.abort();
       console.log(...await Promise.all(codes), await silent.stop().catch(({ code }) => code));
       for (const child of [late, aborted, silent]) console.log((await child.exited).code);
       const loud = iso.run('${tool}', ['--reuid', '0', 'sh', '-c', 'echo much; sleep 1'], { maxBuffer: 1 });
       console.log((await loud.catch((error) => error)).name);`,
        { shell: 'exec setpriv --reuid 65534 --regid 65534 --clear-groups "$0" "$@"' },
      );
      expect(out).toBe('EPERM EPERM EPERM\n0\n0\n0\nOutputLimitError\n');
    },
  );
});

describe('limits', () => {
  it('EMFILE, at every place where it can strike: typed, and all is as before', { timeout: 120_000 }, async () => {
    const out = await inNode(
      `const { closeSync, openSync, readdirSync } = await import('node:fs'); const held = [];
       (await iso.spawn('true', [], { stdio: 'ignore' })); await new Promise((resolve) => setTimeout(resolve, 100));
       try { for (;;) held.push(openSync('/dev/null')); } catch {}
       const codes = new Set(); let ran = 0;
       for (let free = 0; free < 14; free++) {
         try { const { code } = await iso.run('true', [], { input: '' }); ran += code === 0 ? 1 : 0; }
         catch (error) { codes.add(error.code); }
         closeSync(held.pop());
       }
       await new Promise((resolve) => setTimeout(resolve, 100));
       const { execFileSync } = await import('node:child_process');
       for (const fd of held) closeSync(fd);
       const left = execFileSync('ps', ['--ppid', String(process.pid), '-o', 'comm='], { encoding: 'utf8' });
       console.log([...codes].join(), ran > 0, left.includes('true'));`,
      { shell: 'ulimit -n 64; exec "$0" "$@"' },
    );
    expect(out.trim()).toBe('EMFILE true false');
  });

  it.skipIf(!root || !pids)(
    'EAGAIN by the pids limit says so [needs root, the pids controller]',
    { timeout: 120_000 },
    async () => {
      const group = join(pids as string, `iso-test-pids-${process.pid}`);
      mkdirSync(group);
      try {
        const out = await inNode(
          `const { readFileSync, writeFileSync } = await import('node:fs');
         await iso.run('true');
         const now = Number(readFileSync(${JSON.stringify(`${group}/pids.current`)}, 'utf8'));
         writeFileSync(${JSON.stringify(`${group}/pids.max`)}, String(now + 3));
         const children = []; let error;
         for (let i = 0; i < 10 && !error; i++)
           await iso.spawn('sleep', ['60'], { stdio: 'ignore' }).then((child) => children.push(child), (reason) => { error = reason; });
         for (const child of children) child.kill();
         await Promise.all(children.map((child) => child.exited));
         console.log(error.code, error.syscall, children.length, error.hint);`,
          { shell: `echo $$ >${group}/cgroup.procs; exec "$0" "$@"` },
        );
        expect(out).toMatch(/^EAGAIN clone3 3 .*pids\.max/);
      } finally {
        rmdirSync(group);
      }
    },
  );

  it.skipIf(!root || !v2)(
    'a frozen cgroup does not hold this process: it gives up when told to [needs root, cgroup v2]',
    async () => {
      const group = join(v2 as string, `iso-test-frozen-${process.pid}`);
      mkdirSync(group);
      writeFileSync(join(group, 'cgroup.freeze'), '1');
      const directory = Fd.open(group, { directory: true });
      let ticks = 0;
      const timer = setInterval(() => ticks++, 10);
      try {
        const part: Part = {
          confine(program) {
            program.cgroup(directory);
            program.mayBlock();
          },
        };
        const signal = AbortSignal.timeout(400);
        await expect(spawn('true', [], { confine: [part], signal })).rejects.toMatchObject({ name: 'TimeoutError' });
        await expect(spawn('true', [], { confine: [part], timeout: 100 })).rejects.toMatchObject({
          name: 'TimeoutError',
        });
        expect(ticks).toBeGreaterThan(5);
        expect(readFileSync(join(group, 'cgroup.procs'), 'utf8')).toBe('');
        const child = spawn('sh', ['-c', 'exit 6'], { confine: [part], stdio: 'ignore' });
        await sleep(100);
        writeFileSync(join(group, 'cgroup.freeze'), '0');
        expect((await (await child).exited).code).toBe(6);
      } finally {
        clearInterval(timer);
        directory.close();
        writeFileSync(join(group, 'cgroup.freeze'), '0');
        rmdirSync(group);
      }
    },
  );
});

describe('a thousand children at once', () => {
  const count = (children: number) => `
    const { readdirSync } = await import('node:fs');
    const threads = () => readdirSync('/proc/self/task').length, fds = () => readdirSync('/proc/self/fd').length;
    await iso.run('true'); await new Promise((resolve) => setTimeout(resolve, 50));
    const before = [threads(), fds()];
    const children = [];
    for (let i = 0; i < ${children}; i++) children.push(await iso.spawn('sh', ['-c', 'read x; exit ' + (i % 256)], { stdio: ['pipe', 'ignore', 'ignore'] }));
    const during = threads();
    for (const child of children) child.stdin.end();
    const exits = await Promise.all(children.map((child) => child.exited));
    await new Promise((resolve) => setTimeout(resolve, 200));
    const right = exits.filter((exit, i) => exit.code === i % 256).length;
    // Node starts the threads of its pool one by one.
    const report = [right, during - before[0] <= 4, fds() - before[1]].join();`;

  it('have no thread each, leave no descriptor, and tell each its own exit', { timeout: 300_000 }, async () => {
    expect(await inNode(`${count(1000)} console.log(report);`)).toBe('1000,true,0\n');
  });

  it('in a worker thread too', { timeout: 300_000 }, async () => {
    const children = process.env.ISO_LONG ? 1000 : 200;
    const worker = `${importSource(new URL('index.ts', import.meta.url))}.then(async (iso) => { ${count(children)}
      require('node:worker_threads').parentPort.postMessage(report); });`;
    const out = await inNode(`
      const { Worker } = await import('node:worker_threads');
      const worker = new Worker(${JSON.stringify(worker)}, { eval: true, execArgv: ['--conditions=iso-source'] });
      console.log(await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject)));
      await worker.terminate();`);
    expect(out).toBe(`${children},true,0\n`);
  });

  it('are all gone', () => {
    expect(
      readdirSync('/proc/self/task').flatMap(
        (task) => readFileSync(`/proc/self/task/${task}/children`, 'utf8').trim() || [],
      ),
    ).toEqual([]);
  });
});
