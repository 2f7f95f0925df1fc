import { existsSync, readFileSync, rmdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Fd, LaunchProgram, launch, launchAsync, reap, StringArray, watchFd } from '@iso/sys';
import { afterAll, describe, expect, it } from 'vitest';
import { Cgroup, detect } from './index.js';

const root = process.getuid?.() === 0;
const parent = `iso-test-${process.pid}`;
const controllers = (() => {
  const layout = detect();
  if (layout.kind !== 'unified') return Object.keys(layout.v1);
  return readFileSync(`${layout.unified}/cgroup.controllers`, 'utf8').trim().split(' ');
})();
const limited = root && ['memory', 'pids', 'cpu'].every((name) => controllers.includes(name));

/** A shell, born in a cgroup, by nothing but the launcher. */
function shell(group: Cgroup, script: string): LaunchProgram {
  const program = new LaunchProgram();
  group.confine(program);
  program.step('fds', 'fcntl', [2, 2, 0]);
  program.closeFrom(3);
  program.step('exec', 'execve', [
    '/bin/sh',
    new StringArray(['sh', '-c', script]),
    new StringArray(['PATH=/usr/bin:/bin']),
  ]);
  return program;
}

async function ended(pidfd: Fd) {
  await watchFd(pidfd);
  const status = reap(pidfd);
  pidfd.close();
  return status;
}

afterAll(() => {
  const layout = detect();
  for (const base of new Set([...Object.values(layout.v1), layout.unified]))
    if (existsSync(`${base}/${parent}`)) rmdirSync(`${base}/${parent}`);
});

describe.skipIf(!limited)('Cgroup [needs root, and the memory, pids and cpu controllers]', () => {
  it('sets limits that the kernel shows, and is gone afterwards', async () => {
    const group = await Cgroup.create('limits', {
      parent,
      limits: { memory: { max: '32M' }, pids: { max: 7 }, cpu: { max: 0.25 } },
    });
    expect(group.stats()).toMatchObject({
      memory: { maxBytes: 32 * 1024 * 1024, oomKills: 0 },
      pids: { max: 7, current: 0 },
    });
    const quota = ['cpu.cfs_quota_us', 'cpu.max']
      .map((file) => `${group.path('cpu')}/${file}`)
      .find(existsSync) as string;
    expect(readFileSync(quota, 'utf8')).toMatch(/^25000/);
    const path = group.path('memory') as string;
    await group.remove();
    expect(existsSync(path)).toBe(false);
    await group[Symbol.asyncDispose]();
  });

  it('is where the process is born', async () => {
    const group = await Cgroup.create('born', { parent, limits: { pids: { max: 10 } } });
    const { pid, pidfd } = launch(shell(group, 'sleep 5; true'));
    expect(readFileSync(`/proc/${pid}/cgroup`, 'utf8')).toContain(`/${parent}/${group.name}`);
    expect(group.pids).toContain(pid);
    await group.kill();
    expect((await ended(pidfd))?.signal).toBe(9);
    await group.remove();
  });

  it('memory bites: the kernel kills and counts', async () => {
    const group = await Cgroup.create('memory', { parent, limits: { memory: { max: '16M' } } });
    const { pidfd } = launch(shell(group, 'x=0123456789abcdef; while :; do x=$x$x; done'));
    expect((await ended(pidfd))?.signal).toBe(9);
    expect(group.stats().memory?.oomKills).toBeGreaterThan(0);
    await group.remove();
  });

  it('pids bites: a fork fails', async () => {
    const group = await Cgroup.create('pids', { parent, limits: { pids: { max: 1 } } });
    const { pidfd } = launch(shell(group, '/bin/true 2>&-; exit 0'));
    expect((await ended(pidfd))?.code).not.toBe(0);
    await group[Symbol.asyncDispose]();
  });

  it('kills a loop of forks', async () => {
    const group = await Cgroup.create('forks', { parent, limits: { pids: { max: 64 } } });
    const { pidfd } = launch(shell(group, 'f() { while :; do (:) & done 2>&-; }; f & f & f'));
    await sleep(100);
    await group.kill();
    expect(group.pids).toEqual([]);
    await ended(pidfd);
    await group.remove();
  });

  it('freezes; a launch into it waits without blocking this thread, and can be given up', async () => {
    const group = await Cgroup.create('frozen', { parent });
    const { pidfd } = launch(shell(group, 'while :; do :; done'));
    await group.freeze();
    expect(group.frozen).toBe(true);
    const used = group.stats().cpu?.usageUs ?? 0;
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    const program = shell(group, 'exit 3');
    expect(program.blocking).toBe(true);
    setTimeout(() => group.thaw(), 100);
    const launched = await launchAsync(program);
    clearInterval(timer);
    expect(ticks).toBeGreaterThan(5);
    expect((await ended(launched.pidfd))?.code).toBe(3);
    expect((group.stats().cpu?.usageUs ?? 0) - used).toBeLessThan(10_000_000);
    await group.kill();
    await ended(pidfd);
    await group.remove();
  });

  it('sweeps what the dead left, and nothing of the living', async () => {
    const mine = await Cgroup.create('mine', { parent });
    const script = `import { Cgroup } from ${JSON.stringify(`${import.meta.dirname}/index.ts`)};
      await Cgroup.create('theirs', { parent: ${JSON.stringify(parent)} }); process.kill(process.pid, 'SIGKILL');`;
    const { spawnSync } = await import('node:child_process');
    spawnSync(process.execPath, ['--conditions=iso-source', '--import', 'tsx', '--input-type=module', '-e', script]);
    const swept = await Cgroup.sweep({ parent });
    expect(swept).toHaveLength(1);
    expect(swept[0]).toMatch(/^theirs@/);
    expect(existsSync(mine.path('pids') as string)).toBe(true);
    await mine.remove();
  });

  it('leaves nothing where a limit is refused', async () => {
    await expect(Cgroup.create('bad', { parent, limits: { memory: { max: '12Q' } } })).rejects.toThrow(TypeError);
    await expect(Cgroup.create('../bad', { parent })).rejects.toThrow(TypeError);
    await expect(Cgroup.create('bad', { parent, limits: { pids: { max: -1 } } })).rejects.toThrow(TypeError);
    await expect(Cgroup.create('bad', { parent, limits: { pids: { max: 2 ** 40 } } })).rejects.toMatchObject({
      code: 'EINVAL',
      path: expect.stringContaining('pids.max'),
    });
    const layout = detect();
    expect(existsSync(`${layout.v1.pids ?? layout.unified}/${parent}/bad`)).toBe(false);
  });
});

it.skipIf(root)('says who can grant it [needs a plain user]', async () => {
  await expect(Cgroup.create('x', { parent })).rejects.toMatchObject({
    code: expect.stringMatching(/EACCES|EROFS|EPERM|ENOENT/),
  });
});
