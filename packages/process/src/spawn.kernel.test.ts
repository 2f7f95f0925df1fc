import { spawn as nodeSpawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { CLONE, Fd, KernelError, type Part } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { importSource } from '../../../test/typescript.js';
import { ExitError, explain, run, spawn } from './index.js';

const root = process.getuid?.() === 0;

/** /proc/self/status of a child as the kernel wrote it. */
async function status(options: Parameters<typeof run>[2] = {}): Promise<Record<string, string>> {
  const { stdout } = await run('/bin/cat', ['/proc/self/status'], options);
  return Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split(/:\s*/) as [string, string]),
  );
}

describe('spawn', () => {
  it('runs a program and tells how it ended', async () => {
    const child = await spawn('sh', ['-c', 'echo out; echo err >&2; exit 3']);
    const seen: string[] = [];
    child.on('spawn', () => seen.push('spawn'));
    child.on('exit', (code) => seen.push(`exit ${code}`));
    const closed = new Promise<void>((resolve) => child.on('close', () => resolve(void seen.push('close'))));
    let text = '';
    child.stdout?.on('data', (chunk) => (text += chunk));
    child.stderr?.on('data', (chunk) => (text += chunk));
    const exit = await child.exited;
    await closed;
    expect(exit).toMatchObject({ code: 3, signal: null, timedOut: false });
    expect(exit.usage.maxRssBytes).toBeGreaterThan(100_000);
    expect(text.split('\n').sort()).toEqual(['', 'err', 'out']);
    expect(seen).toEqual(['spawn', 'exit 3', 'close']);
  });

  it('dies of a signal, visibly', async () => {
    const child = await spawn('sleep', ['60'], { stdio: 'ignore' });
    expect(readFileSync(`/proc/${child.pid}/comm`, 'utf8')).toBe('sleep\n');
    expect(child.kill('SIGUSR1')).toBe(true);
    expect(await child.exited).toMatchObject({ code: null, signal: 'SIGUSR1' });
    expect(child.kill()).toBe(false);
  });

  it('passes exactly the descriptors that were asked for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    const file = join(folder, 'x');
    writeFileSync(file, '');
    const extra = openSync(file, 'r');
    try {
      const { stdout } = await run(
        'sh',
        ['-c', 'for f in /proc/self/fd/*; do echo "$(basename $f) $(readlink $f)"; done'],
        {
          stdio: ['ignore', 'pipe', 'pipe', 'ignore', extra],
        },
      );
      const rows = stdout
        .trim()
        .split('\n')
        .filter((row) => /^\d+ ./.test(row));
      expect(
        rows
          .filter((row) => !row.includes('/proc/'))
          .map((row) => row.split(' ')[0])
          .sort(),
      ).toEqual(['0', '1', '2', '4']);
      expect(stdout).toContain(`4 ${file}`);
    } finally {
      closeSync(extra);
      rmSync(folder, { recursive: true });
    }
  });

  it('swaps descriptors that stand in each other’s place', async () => {
    const { stdout } = await run('sh', ['-c', 'readlink /proc/self/fd/1; readlink /proc/self/fd/2'], {
      stdio: ['ignore', 'pipe', 1],
    });
    expect(stdout).toContain('pipe:');
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    const out = openSync(join(folder, 'swap'), 'w+');
    await run('sh', ['-c', 'exec 5>&1; readlink /proc/self/fd/5 >&2'], { stdio: [0, 2, out] });
    expect(readFileSync(join(folder, 'swap'), 'utf8').trim()).toBe(readlinkSync('/proc/self/fd/2'));
    closeSync(out);
    rmSync(folder, { recursive: true });
  });

  it('gives a fresh signal state: nothing blocked, nothing ignored', async () => {
    expect(await status()).toMatchObject({ SigBlk: '0000000000000000', SigIgn: '0000000000000000' });
    expect((await run('sh', ['-c', 'yes | head -1'])).stdout).toBe('y\n');
  });

  it('sets cwd, env, argv0, umask, limits, nice, affinity', async () => {
    const { stdout } = await run(
      'sh',
      ['-c', 'pwd; echo $A; umask; ulimit -n; nice; cat /proc/self/status | grep Cpus_allowed_list'],
      {
        cwd: '/usr',
        env: { A: 'b c', PATH: process.env.PATH },
        umask: 0o27,
        rlimits: { nofile: 77 },
        nice: 5,
        affinity: [0],
      },
    );
    expect(stdout.split('\n').slice(0, 5)).toEqual(['/usr', 'b c', '0027', '77', '5']);
    expect(stdout).toMatch(/Cpus_allowed_list:\s*0\n/);
    expect((await run('/bin/cat', ['/proc/self/cmdline'], { argv0: 'kitten' })).stdout).toBe(
      'kitten\0/proc/self/cmdline\0',
    );
    expect((await run('cat', ['/proc/self/oom_score_adj'], { oomScoreAdj: 500 })).stdout).toBe('500\n');
    expect(readFileSync('/proc/self/oom_score_adj', 'utf8')).not.toBe('500\n');
  });

  it.skipIf(!root)('changes ids without changing this process [needs root]', async () => {
    const before = readFileSync('/proc/self/status', 'utf8').match(/^[UG]id.*$/gm);
    const child = await status({ uid: 1234, gid: 2345, groups: [7, 8] });
    expect(child).toMatchObject({ Uid: '1234\t1234\t1234\t1234', Gid: '2345\t2345\t2345\t2345' });
    expect(child.Groups?.trim()).toBe('7 8');
    expect((await status({ uid: 1234 })).Groups).toBe('');
    expect(readFileSync('/proc/self/status', 'utf8').match(/^[UG]id.*$/gm)).toEqual(before);
  });

  it('ends on abort and on time', async () => {
    const stop = new AbortController();
    const child = await spawn('sleep', ['60'], { signal: stop.signal, stdio: 'ignore' });
    stop.abort();
    expect(await child.exited).toMatchObject({ signal: 'SIGTERM' });
    const late = await spawn('sleep', ['60'], { timeout: 20, killSignal: 'SIGKILL', stdio: 'ignore' });
    expect(await late.exited).toMatchObject({ signal: 'SIGKILL', timedOut: true });
    await expect(spawn('true', [], { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
  });

  it('insists where a signal is ignored, and never waits for a first process to be asked', {
    timeout: 60_000,
  }, async () => {
    const stop = new AbortController();
    const { signal } = stop;
    // Disposed of in the end: its last sleep holds the outputs open.
    await using deaf = await spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 1; done'], { signal });
    await once(deaf.stdout as never, 'data');
    stop.abort();
    expect(await deaf.exited).toMatchObject({ signal: 'SIGKILL' });
    if (!root) return;
    const newPid: Part = { confine: (program) => program.unshare(CLONE.NEWPID) };
    const first = await spawn('sleep', ['60'], { timeout: 20, stdio: 'ignore', confine: [newPid] });
    const exit = await first.exited;
    expect(exit).toMatchObject({ signal: 'SIGKILL', timedOut: true });
    expect(exit.durationMs).toBeLessThan(5000);
    const again = new AbortController();
    await using chosen = await spawn('sh', ['-c', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.1; done'], {
      signal: again.signal,
      killSignal: 'SIGTERM',
      confine: [newPid],
    });
    await once(chosen.stdout as never, 'data');
    again.abort();
    expect(await chosen.exited).toMatchObject({ code: 7 });
  });

  it('rejects what ended well, but too late', { timeout: 60_000 }, async () => {
    const script = ['-c', 'trap "exit 0" TERM; echo begun; while :; do sleep 0.1; done'];
    const late = await run('sh', script, { timeout: 3000 }).catch((reason: unknown) => reason);
    expect(late).toMatchObject({
      name: 'ExitError',
      code: 0,
      timedOut: true,
      message: expect.stringMatching(/timed out/),
    });
    expect(await run('sh', script, { timeout: 3000, check: false })).toMatchObject({ code: 0, timedOut: true });
  });

  it('refuses options that there are not, and what is no part', async () => {
    for (const [options, message] of [
      [{ confne: [] }, /no option "confne"/],
      [{ shell: true }, /no option "shell"/],
      [{ constructor: 1 }, /no option "constructor"/],
      [{ confine: {} }, /array of parts/],
      [{ confine: [undefined] }, /confine\[0\]/],
      [{ confine: [{}, 'net'] }, /confine\[0\]/],
    ] as const) {
      const refusal = expect.objectContaining({
        code: 'ERR_INVALID_ARG_VALUE',
        message: expect.stringMatching(message),
      });
      await expect(spawn('true', [], options as never)).rejects.toEqual(refusal);
      await expect(run('true', [], options as never)).rejects.toEqual(refusal);
    }
    await expect(spawn('true', 'x' as never)).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  });

  it('keeps the environment out of errors and explanations', async () => {
    const env = { PATH: '/usr/bin', TOKEN: 'secret-42' };
    const long = 'x'.repeat(10_000);
    const error = await spawn('/etc/passwd', [long], { env }).catch((reason: unknown) => reason as Error);
    expect(String(error)).toMatch(/execve\("\/etc\/passwd", \["\/etc\/passwd", "x+\.\.\."\], 2 variables\): EACCES/);
    expect(String(error).length).toBeLessThan(500);
    for (const file of ['true', '/bin/true']) expect(await explain(file, [], { env })).not.toContain('secret-42');
    expect(String(await spawn('no-such', [], { env }).catch((reason: unknown) => reason))).not.toContain('secret-42');
  });

  it('names what is wrong', async () => {
    await expect(spawn('/no/such', [])).rejects.toMatchObject({ code: 'ENOENT', syscall: 'execve', path: '/no/such' });
    await expect(spawn('no-such-command', [], { env: { PATH: '/usr/bin:/bin' } })).rejects.toMatchObject({
      code: 'ENOENT',
    });
    await expect(spawn('true', [], { cwd: '/no/such' })).rejects.toMatchObject({ code: 'ENOENT', syscall: 'chdir' });
    await expect(spawn('/etc/passwd', [])).rejects.toMatchObject({ code: 'EACCES', step: { phase: 'exec' } });
    await expect(spawn('a\0b', [])).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(spawn('', [])).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(spawn('true', [], { uid: -1 })).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(spawn('true', [], { stdio: [9999] })).rejects.toMatchObject({ code: 'EBADF' });
    const closed = Fd.open('/');
    closed.close();
    await expect(spawn('true', [], { stdio: [closed] })).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    const folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
    writeFileSync(join(folder, 'plain'), '', { mode: 0o644 });
    await expect(spawn('plain', [], { env: { PATH: `${folder}:/usr/bin` } })).rejects.toMatchObject({ code: 'EACCES' });
    rmSync(folder, { recursive: true });
    const failure = await run('false').catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ExitError);
    expect(failure).toMatchObject({ code: 1, stdout: '' });
  });

  it('takes long and many arguments', async () => {
    const { stdout } = await run('sh', [
      '-c',
      'echo ${#1} $#',
      'sh',
      'y'.repeat(16 * 1024),
      ...Array<string>(50_000).fill('a'),
    ]);
    expect(stdout).toBe('16384 50001\n');
    await expect(run('true', Array<string>(100_000).fill('z'.repeat(100)))).rejects.toMatchObject({ code: 'E2BIG' });
  });

  it('explains itself without running', async () => {
    const text = await explain('sh', ['-c', 'true'], { cwd: '/tmp', uid: 5 });
    expect(text).toMatch(/clone3\(CLONE_VM\|CLONE_PIDFD\|CLONE_VFORK/);
    expect(text).toMatch(/setresuid\(5, 5, 5\)[\s\S]*close_range\(3[\s\S]*chdir\("\/tmp"\)[\s\S]*execve/);
  });

  it('leaves Node’s own children alone', async () => {
    const theirs = nodeSpawn('sh', ['-c', 'sleep 0.1; exit 7']);
    const ended = new Promise((resolve) => theirs.on('exit', resolve));
    const ours = await Promise.all(Array.from({ length: 20 }, () => run('true')));
    expect(ours.length).toBe(20);
    expect(await ended).toBe(7);
    expect(spawnSync('sh', ['-c', 'exit 9']).status).toBe(9);
  });

  it('works in a worker thread', async () => {
    const script = `${importSource(new URL('index.ts', import.meta.url))}.then(async ({ run }) => {
      const { stdout } = await run('echo', ['from a worker']);
      require('node:worker_threads').parentPort.postMessage(stdout);
    });`;
    const worker = new Worker(script, { eval: true, execArgv: ['--conditions=iso-source'] });
    const message = await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
    expect(message).toBe('from a worker\n');
  });
});

it('throws typed errors across packages', async () => {
  const error = await spawn('/no/such').catch((reason: unknown) => reason);
  expect(KernelError.is(error, 'ENOENT')).toBe(true);
});
