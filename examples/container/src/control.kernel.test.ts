import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { detect, hierarchyOf } from '@iso/cgroups';
import type { Command } from 'commander';
import { describe, expect, it, vi } from 'vitest';
import { kill } from './command/kill.js';
import { pause, unpause } from './command/pause.js';
import { stats } from './command/stats.js';
import { update } from './command/update.js';
import { home } from './state/home.js';
import { findContainer } from './state/record.js';
import { command } from './testing/command.js';

const layout = detect();
const limited =
  process.getuid?.() === 0 && (['memory', 'cpu', 'pids'] as const).every((name) => hierarchyOf(layout, name));

/** A container that another process runs: it counts on its output. */
async function start(name: string, ...options: string[]): Promise<ChildProcess> {
  const script = 'while :; do echo x; sleep 0.02; done';
  const child = spawn(process.execPath, [
    ...command,
    'run',
    '--rm',
    '--name',
    name,
    ...options,
    '/',
    'sh',
    '-c',
    script,
  ]);
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  // Its record is written once it runs.
  while (!running(name)) await sleep(20);
  return child;
}

function running(name: string): boolean {
  try {
    return findContainer(home(), name).status === 'running';
  } catch {
    return false;
  }
}

/** Runs a command of `iso` in this process, so that the ledger sees what it leaves open. */
async function iso(which: Command, ...args: string[]): Promise<string> {
  let text = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += chunk;
    return true;
  });
  try {
    await which.exitOverride().parseAsync(args, { from: 'user' });
  } finally {
    write.mockRestore();
  }
  return text;
}

/** A control file of a container's cgroup, of v2 or of v1, as the kernel has it. */
function kernelFile(name: string, ...files: string[]): string {
  const group = basename(findContainer(home(), name).cgroup as string);
  const paths = layout.hierarchies.flatMap(({ mount }) => files.map((file) => `${mount}/iso/${group}/${file}`));
  return readFileSync(paths.find(existsSync) as string, 'utf8').trim();
}

describe.skipIf(!limited)('a container of another process [needs root and the controllers memory, cpu, pids]', () => {
  it('stands still while it is paused, and gets other limits, all or none', async () => {
    const child = await start('one', '-m', '64m', '--pids-limit', '20');
    const exited = once(child, 'exit');
    try {
      let printed = 0;
      child.stdout?.on('data', (chunk: Buffer) => {
        printed += chunk.length;
      });

      expect(await iso(pause, 'one')).toBe('one\n');
      expect(kernelFile('one', 'cgroup.events', 'freezer.state')).toMatch(/^(FROZEN|populated 1\nfrozen 1)$/);
      await sleep(50);
      const before = printed;
      await sleep(200);
      expect(printed).toBe(before);
      await expect(iso(pause, 'one')).rejects.toThrow('container one is already paused');
      expect(findContainer(home(), 'one').status).toBe('paused');
      expect(await iso(unpause, 'one')).toBe('one\n');
      await expect(iso(unpause, 'one')).rejects.toThrow('container one is not paused');
      while (printed === before) await sleep(20);

      const shown = await iso(update, '--plan', '-m', '128m', '--cpu-shares', '300', 'one');
      expect(shown).toMatch(/^memory\.(max|limit_in_bytes) 134217728$/m);
      expect(kernelFile('one', 'memory.max', 'memory.limit_in_bytes')).toBe(String(64 * 2 ** 20));
      expect(await iso(update, '-m', '128m', '--cpu-shares', '300', '--cpus', '0.5', 'one')).toBe('one\n');
      expect(kernelFile('one', 'memory.max', 'memory.limit_in_bytes')).toBe(String(128 * 2 ** 20));
      expect(kernelFile('one', 'cpu.weight', 'cpu.shares')).toMatch(/^(300|39)$/);
      expect(kernelFile('one', 'cpu.max', 'cpu.cfs_quota_us')).toMatch(/^50000( 100000)?$/);
      // Where one is refused those before it are put back.
      await expect(
        iso(update, '--cpus', '0.25', '--pids-limit', '9', '--device-read-bps', '4095:255:1mb', 'one'),
      ).rejects.toThrow();
      expect(kernelFile('one', 'cpu.max', 'cpu.cfs_quota_us')).toMatch(/^50000( 100000)?$/);
      expect(kernelFile('one', 'pids.max')).toBe('20');
      expect(await iso(update, '--pids-limit', '-1', 'one')).toBe('one\n');
      expect(kernelFile('one', 'pids.max')).toBe('max');
      await expect(iso(update, 'one')).rejects.toThrow('no limit to change');
      await expect(iso(update, '-m', '1m', 'one')).rejects.toThrow('6 MiB');
      await expect(iso(pause, 'two')).rejects.toThrow('no such container: two');

      const [row = ''] = (await iso(stats, '--no-stream', '--format', 'json', 'one')).split('\n');
      const usage = JSON.parse(row) as Record<string, string>;
      expect(usage).toMatchObject({ Name: 'one', NetIO: '0B / 0B' });
      expect(usage.MemUsage).toMatch(/^[\d.]+(KiB|MiB) \/ 128MiB$/);
      // The shell, and the program that it waits for if there is one just now.
      expect(usage.PIDs).toMatch(/^[12]$/);
      expect(Number.parseFloat(usage.CPUPerc ?? '')).toBeLessThan(60);
      const table = await iso(stats, '--no-stream', '--format', 'table');
      expect(table).toMatch(/^CONTAINER ID +NAME +CPU % +MEM USAGE \/ LIMIT .*PIDS\n[0-9a-f]{12} +one +[\d.]+% /);

      expect(await iso(kill, 'one')).toBe('one\n');
      expect(await exited).toEqual([137, null]);
    } finally {
      child.kill('SIGKILL');
      await exited;
    }
  }, 120_000);

  it('dies paused, and leaves nothing', async () => {
    const child = await start('three');
    const exited = once(child, 'exit');
    const group = basename(findContainer(home(), 'three').cgroup as string);
    await iso(pause, 'three');
    expect(await iso(kill, 'three')).toBe('three\n');
    expect(await exited).toEqual([137, null]);
    expect(layout.hierarchies.filter(({ mount }) => existsSync(`${mount}/iso/${group}`))).toEqual([]);
    expect(running('three')).toBe(false);
  }, 60_000);
});
