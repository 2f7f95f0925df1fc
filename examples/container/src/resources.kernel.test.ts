import { existsSync, readdirSync, readFileSync, rmdirSync, statSync } from 'node:fs';
import { detect, hierarchyOf } from '@iso/cgroups';
import { describe, expect, it } from 'vitest';
import { run as command } from './command/run.js';
import type { Container } from './container.js';
import { failureCode } from './exitcode.js';
import { run } from './index.js';

const root = process.getuid?.() === 0;
const layout = detect();
const has = (...names: Parameters<typeof hierarchyOf>[1][]) => root && names.every((name) => hierarchyOf(layout, name));
const M = 2 ** 20;

/** A control file of a container, of v2 or of v1, as the kernel has it. */
function kernelFile(box: Container, controller: Parameters<typeof hierarchyOf>[1], ...names: string[]) {
  const path = box.cgroup?.path(controller);
  const name = names.find((one) => existsSync(`${path}/${one}`));
  return readFileSync(`${path}/${name}`, 'utf8').trim();
}

/** What a container printed. */
async function output(box: Container): Promise<string> {
  let text = '';
  for await (const chunk of box.child.stdout ?? []) text += chunk;
  await box.exited;
  return text;
}

/** Cgroups of a name, in every hierarchy. */
const left = (name: string, parent = 'iso') =>
  layout.hierarchies.flatMap(({ mount }) => {
    const path = `${mount}/${parent}`;
    return existsSync(path) ? readdirSync(path).filter((entry) => entry.startsWith(`${name}@`)) : [];
  });

describe.skipIf(!has('memory', 'cpu', 'cpuset', 'pids'))(
  'limits of a container [needs root and the controllers memory, cpu, cpuset, pids]',
  () => {
    it('are what the kernel has', async () => {
      const name = `limits-${process.pid}`;
      await using box = await run({
        root: '/',
        name,
        command: ['sleep', '60'],
        stdio: 'ignore',
        memory: 64 * M,
        memorySwap: 96 * M,
        memoryReservation: 32 * M,
        cpus: 0.5,
        cpuShares: 512,
        cpusetCpus: '0',
        cpusetMems: '0',
        pidsLimit: 20,
      });
      const legacy = hierarchyOf(layout, 'memory')?.version === 1;
      expect(kernelFile(box, 'memory', 'memory.max', 'memory.limit_in_bytes')).toBe(String(64 * M));
      expect(kernelFile(box, 'memory', 'memory.swap.max', 'memory.memsw.limit_in_bytes')).toBe(
        String((legacy ? 96 : 32) * M),
      );
      expect(kernelFile(box, 'memory', 'memory.low', 'memory.soft_limit_in_bytes')).toBe(String(32 * M));
      expect(kernelFile(box, 'cpu', 'cpu.max', 'cpu.cfs_quota_us')).toMatch(/^50000( 100000)?$/);
      // To v1 the very number, to v2 what runc makes of it.
      expect(kernelFile(box, 'cpu', 'cpu.weight', 'cpu.shares')).toBe(legacy ? '512' : '59');
      expect(kernelFile(box, 'cpuset', 'cpuset.cpus')).toBe('0');
      expect(kernelFile(box, 'cpuset', 'cpuset.mems')).toBe('0');
      expect(kernelFile(box, 'pids', 'pids.max')).toBe('20');
      expect(readFileSync(`/proc/${box.child.pid}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\s0$/m);
      await box[Symbol.asyncDispose]();
      expect(left(name)).toEqual([]);
    });

    it('go below another group where they are told to', async () => {
      const parent = `iso-test-${process.pid}-parent`;
      const places = layout.hierarchies.map(({ mount }) => `${mount}/${parent}`);
      try {
        const box = await run({
          root: '/',
          command: ['sh', '-c', 'read x; cat /proc/self/cgroup'],
          cgroupParent: `/${parent}/`,
          stdio: ['pipe', 'pipe', 'ignore'],
        });
        expect(readFileSync(`/proc/${box.child.pid}/cgroup`, 'utf8')).toMatch(
          new RegExp(`:/${parent}/${box.name}@[-0-9]+$`, 'm'),
        );
        box.child.stdin?.end('\n');
        // Of itself it sees nothing but the top.
        expect(await output(box)).not.toContain(parent);
        expect(left(box.name, parent)).toEqual([]);
      } finally {
        for (const path of places) if (existsSync(path)) rmdirSync(path);
      }
    });

    it.skipIf(!has('io') || !existsSync('/sys/dev/block') || !disk())(
      'throttle a disk, by a path on it [needs io, and a disk below /]',
      async () => {
        await using box = await run({
          root: '/',
          command: ['sleep', '60'],
          stdio: 'ignore',
          deviceReadBps: [{ device: '/', rate: 3 * M }],
          deviceWriteIops: [{ device: '/', rate: 70 }],
        });
        const legacy = hierarchyOf(layout, 'io')?.version === 1;
        const read = kernelFile(box, 'io', 'io.max', 'blkio.throttle.read_bps_device');
        expect(read).toContain(legacy ? `${disk()} ${3 * M}` : `${disk()} rbps=${3 * M}`);
        const write = kernelFile(box, 'io', 'io.max', 'blkio.throttle.write_iops_device');
        expect(write).toContain(legacy ? `${disk()} 70` : 'wiops=70');
      },
    );

    it('that the kernel or the command refuses are one line, and leave nothing', async () => {
      for (const [i, args] of [
        ['--cpuset-cpus', '4096'],
        ['-m', '64m', '--memory-swap', '32m'],
        ['--device-read-bps', '/dev/null:1mb'],
        ['--device-read-iops', '/dev/no-such:10'],
        ['--device', '/etc/passwd'],
        ['--cgroup-parent', 'a/../b'],
      ].entries()) {
        const name = `bad-${process.pid}-${i}`;
        const refused = command.exitOverride().parseAsync(['--name', name, ...args, '/', 'true'], { from: 'user' });
        // The same words as of the program; it exits with 125, see exitcode.ts.
        await expect(refused, args.join(' ')).rejects.toThrow(/^[^\n]+$/);
        await refused.catch((error) => expect(failureCode(error)).toBe(125));
        expect(left(name)).toEqual([]);
      }
    });
  },
);

describe.skipIf(!has('devices'))('devices of a container [needs root and a devices controller]', () => {
  it('are those of every container, and EPERM else, wherever a node comes from', async () => {
    const script = 'for i in null zero full random urandom; do head -c 1 /dev/$i >/dev/null || echo "no $i"; done';
    const volumes = [{ source: '/dev/kmsg', target: '/mnt/kmsg', readonly: false }];
    const start = (...command: string[]) =>
      run({ root: '/', volumes, accounting: true, stdio: ['ignore', 'pipe', 'pipe'], command });
    const box = await start('sh', '-c', script);
    expect(await output(box)).toBe('');
    expect(await box.exited).toMatchObject({ code: 0 });
    // 1 is EPERM.
    const refused = await start('perl', '-e', 'open(F, ">", "/mnt/kmsg") and exit 99; exit($! + 0)');
    expect(await refused.exited).toMatchObject({ code: 1 });
  });

  it('that are given have a node inside, and the access that was given with them', async () => {
    const open = (mode: string) => ['perl', '-e', `open(F, "${mode}", "/dev/given") and exit 0; exit($! + 0)`];
    const start = async (access: string, mode: string) => {
      const devices = [{ source: '/dev/kmsg', target: '/dev/given', access }];
      const box = await run({ root: '/', devices, command: open(mode), stdio: 'ignore' });
      return (await box.exited).code;
    };
    expect(await start('w', '>')).toBe(0);
    expect(await start('r', '>')).toBe(1);
    const devices = [{ source: '/dev/kmsg', target: '/dev/given' }];
    const box = await run({
      root: '/',
      devices,
      command: ['stat', '-c', '%F %t:%T', '/dev/given'],
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(await output(box)).toBe('character special file 1:b\n');
  });
});

/** The disk below `/`, where limits can be set on it. */
function disk(): string | undefined {
  const { dev } = statSync('/');
  const number = `${(dev >> 8) & 0xfff}:${(dev & 0xff) | ((dev >> 12) & 0xfff00)}`;
  const path = `/sys/dev/block/${number}`;
  if (!existsSync(path)) return undefined;
  return existsSync(`${path}/partition`) ? readFileSync(`${path}/../dev`, 'utf8').trim() : number;
}
