import { readdirSync, readFileSync } from 'node:fs';
import { CLONE, type Part } from '@iso/sys';
import { describe, expect, it } from 'vitest';
import { run, spawn } from '../../index.js';

const root = process.getuid?.() === 0;
const pidNamespace: Part = { confine: (program) => program.unshare(CLONE.NEWPID) };
const options = { init: true, confine: [pidNamespace] };
const children = () => readFileSync('/proc/thread-self/children', 'utf8').trim();

describe.skipIf(!root)('init [needs root]', () => {
  it('is process 1, the program is another, with nothing of it open', async () => {
    const { stdout } = await run(
      'sh',
      ['-c', 'echo $$; ls /proc/self/fd; grep -E "SigBlk|SigIgn" /proc/self/status'],
      options,
    );
    expect(stdout).toMatch(/^[2-9]\n0\n1\n2\n3\nSigBlk:\t0+\nSigIgn:\t0+\n$/);
  });

  it.each([
    ['exit 0', 0],
    ['exit 7', 7],
    ['kill -9 $$', 137],
    ['kill -TERM $$', 143],
  ])('ends as the program: %s', async (script, code) => {
    const before = children();
    const child = await spawn('sh', ['-c', script], { ...options, stdio: 'ignore' });
    expect((await child.exited).code).toBe(code);
    expect(children()).toBe(before);
  });

  it('reaps orphans', async () => {
    const child = await spawn('sh', ['-c', '(sh -c "sleep 0.05 & sleep 0.05 &" &); exec sleep 60'], {
      ...options,
      stdio: 'ignore',
    });
    const below = () =>
      readdirSync('/proc')
        .filter((name) => /^\d+$/.test(name))
        .flatMap((pid) => {
          try {
            const [, state = '', parent = ''] = /\) (\S) (\d+)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? [];
            return Number(parent) === child.pid ? [state] : [];
          } catch {
            return [];
          }
        });
    const deadline = Date.now() + 10_000;
    do await new Promise((resolve) => setTimeout(resolve, 100));
    while (below().length !== 1 && Date.now() < deadline);
    expect(below()).toEqual(['S']);
    child.kill('SIGKILL');
    await child.exited;
  });

  it('passes signals on, which process 1 would not get', async () => {
    const child = await spawn('sleep', ['60'], { ...options, stdio: 'ignore' });
    child.kill('SIGTERM');
    expect((await child.exited).code).toBe(143);
  });

  it('says as ever what cannot be executed, and leaves nothing', async () => {
    const before = children();
    const descriptors = readdirSync('/proc/self/fd').length;
    await expect(spawn('no-such-program', [], options)).rejects.toMatchObject({
      code: 'ENOENT',
      step: { phase: 'exec' },
    });
    await expect(spawn('true', [], { init: true })).rejects.toThrow(/pid namespace/);
    expect(children()).toBe(before);
    expect(readdirSync('/proc/self/fd').length).toBe(descriptors);
  });

  it('gives the program the terminal', async () => {
    const child = await spawn('sh', ['-c', 'echo ready; exec sleep 60'], { ...options, stdio: 'pty' });
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    child.stdin?.write('\x03');
    expect((await child.exited).code).toBe(130);
  });
});
