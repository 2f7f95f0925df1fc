import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fd, O, syscall } from '@iso/sys';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromSources, importSource } from '../../../../../test/typescript.js';
import { run, spawn } from '../../index.js';

const F_SETSIG = 10;
const F_SETLEASE = 1024;
const F_WRLCK = 1;
/** Ignored where nobody handles it. */
const SIGURG = 23;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'iso-test-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A FIFO, open both ways. */
function fifo(name: string): { path: string; fd: Fd } {
  const path = join(folder, name);
  execFileSync('mkfifo', [path]);
  return { path, fd: Fd.open(path, { flags: O.RDWR }) };
}

describe('a process behind a gate', () => {
  it('is set up and waits, until anybody writes to the FIFO', async () => {
    const { path, fd } = fifo('wait');
    const child = await spawn('sh', ['-c', 'echo "$0 $1" $PPID; ls /proc/self/fd', 'a', 'b c'], {
      gate: fd,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { PATH: '/nowhere:/usr/bin:/bin', MINE: 'x' },
      cwd: folder,
    });
    fd.close();
    // /proc says that all but the program is there.
    expect(readlinkSync(`/proc/${child.pid}/exe`)).toBe('/memfd:gate (deleted)');
    expect(readlinkSync(`/proc/${child.pid}/cwd`)).toBe(folder);
    expect(readFileSync(`/proc/${child.pid}/environ`, 'utf8')).toContain('MINE=x');
    await sleep(50);
    expect(child.exitCode).toBeNull();
    let text = '';
    child.stdout?.on('data', (chunk) => {
      text += chunk;
    });
    const closed = new Promise((resolve) => child.once('close', resolve));
    writeFileSync(path, 'x');
    expect((await child.exited).code).toBe(0);
    await closed;
    expect(text).toBe(`a b c ${process.pid}\n0\n1\n2\n3\n`);
  });

  it('is told at once what is not there', async () => {
    const { fd } = fifo('missing');
    const env = { PATH: '/nowhere:/usr/bin' };
    await expect(spawn('no-such-program', [], { gate: fd, env })).rejects.toMatchObject({ code: 'ENOENT' });
    await expect(spawn('/etc/passwd', [], { gate: fd })).rejects.toMatchObject({ code: 'EACCES' });
    await expect(spawn('true', [], { gate: 1_000_000 })).rejects.toMatchObject({ code: 'EBADF' });
    fd.close();
  });

  it.each([
    ['nothing', 127],
    ['no program', 126],
  ])('ends where the program has become %s meanwhile', async (_, code) => {
    const { path, fd } = fifo(`gone-${code}`);
    const program = join(folder, `program-${code}`);
    writeFileSync(program, '#!/bin/sh\n', { mode: 0o755 });
    const child = await spawn(program, [], { gate: fd, stdio: 'ignore' });
    rmSync(program);
    if (code === 126) writeFileSync(program, 'neither ELF nor #!', { mode: 0o755 });
    writeFileSync(path, 'x');
    expect((await child.exited).code).toBe(code);
    fd.close();
  });

  it('ends with 125 where nobody is left to open it', async () => {
    const ends = Buffer.alloc(8);
    syscall('pipe2', ends, O.CLOEXEC);
    const [reading, writing] = [Fd.own(ends.readInt32LE(0)), Fd.own(ends.readInt32LE(4))];
    const child = await spawn('true', [], { gate: reading, stdio: 'ignore' });
    writing.close();
    expect((await child.exited).code).toBe(125);
    reading.close();
  });

  it('dies by a signal, as any other', async () => {
    const { fd } = fifo('killed');
    const child = await spawn('true', [], { gate: fd, stdio: 'ignore' });
    child.kill('SIGTERM');
    expect((await child.exited).signal).toBe('SIGTERM');
    fd.close();
  });

  it('outlives who started it', async () => {
    const { path, fd } = fifo('outlives');
    const out = join(folder, 'out');
    const script = `
      const { spawn } = await ${importSource(new URL('../../index.ts', import.meta.url))};
      const { Fd } = await import('@iso/sys');
      const gate = Fd.open(${JSON.stringify(path)}, { flags: 2 });
      const { pid } = await spawn('sh', ['-c', 'echo $$ > ${out}'], { gate, stdio: 'ignore' });
      process.stdout.write(String(pid), () => process.exit());`;
    const { stdout } = spawnSync(process.execPath, [...fromSources, '--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(readlinkSync(`/proc/${stdout}/exe`)).toBe('/memfd:gate (deleted)');
    writeFileSync(path, 'x');
    await expect.poll(() => existsSync(out) && readFileSync(out, 'utf8')).toBe(`${stdout}\n`);
    fd.close();
  });

  describe('that is open', () => {
    const options = { gate: 'open', stdio: ['ignore', 'pipe', 'inherit'] } as const;

    it('lets the program run at once, with nothing of the gate open', async () => {
      const { stdout } = await run('sh', ['-c', 'echo $0 $1; ls /proc/self/fd', 'a', 'b'], { gate: 'open' });
      expect(stdout).toBe('a b\n0\n1\n2\n3\n');
    });

    it('says what cannot be executed, and leaves nobody', async () => {
      const children = () => readFileSync('/proc/thread-self/children', 'utf8');
      const before = children();
      const nowhere = { ...options, env: { PATH: '/nowhere:/usr/bin' } };
      await expect(spawn('no-such-program', [], nowhere)).rejects.toMatchObject({
        code: 'ENOENT',
        syscall: 'execve',
        step: { phase: 'exec' },
        hint: 'no directory of PATH has it',
      });
      const text = join(folder, 'text');
      writeFileSync(text, 'neither ELF nor #!', { mode: 0o755 });
      await expect(spawn(text, [], options)).rejects.toMatchObject({ code: 'ENOEXEC', step: { phase: 'exec' } });
      await expect(spawn(folder, [], options)).rejects.toMatchObject({ code: 'EACCES' });
      // A candidate that was there says more than those that were not.
      const env = { PATH: `${folder}:/nowhere` };
      await expect(spawn('text', [], { ...options, env })).rejects.toMatchObject({ code: 'ENOEXEC' });
      expect(children()).toBe(before);
    });

    it('is waited for no longer than is asked for, and what stands still in it is killed', async () => {
      const path = join(folder, 'leased');
      copyFileSync('/bin/true', path);
      using lease = Fd.open(path, { flags: O.RDWR });
      // Until it is given back, the execve waits.
      syscall('fcntl', lease, F_SETSIG, SIGURG);
      syscall('fcntl', lease, F_SETLEASE, F_WRLCK);
      const children = () => readFileSync('/proc/thread-self/children', 'utf8');
      const before = children();
      const began = Date.now();
      await expect(spawn(path, [], { ...options, timeout: 100 })).rejects.toMatchObject({ name: 'TimeoutError' });
      const reason = new Error('enough');
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 100);
      await expect(spawn(path, [], { ...options, signal: controller.signal })).rejects.toBe(reason);
      expect(Date.now() - began).toBeLessThan(10_000);
      expect(children()).toBe(before);
    });

    it('is what a script that names the own executable gets', async () => {
      const script = join(folder, 'own');
      writeFileSync(script, '#!/proc/self/exe\n', { mode: 0o755 });
      const child = await spawn(script, [], { ...options, stdio: 'ignore' });
      // Not Node: the gate again, which has no program to execute.
      expect((await child.exited).code).toBe(125);
    });
  });
});
