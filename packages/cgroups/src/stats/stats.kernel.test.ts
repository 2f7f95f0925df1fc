import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Cgroup, hierarchyOf, sample } from '../index.js';
import { ended, eventually, file, has, layouts, run, testParent } from '../kit.js';

const parent = testParent('stats');

const busy = 'x=0123456789abcdef; while [ ${#x} -lt 8000000 ]; do x=$x$x; done; echo; sleep 60; true';

for (const [kind, layout] of layouts) {
  const make = (name: string, options: Parameters<typeof Cgroup.create>[1] = {}) =>
    Cgroup.create(name, { parent, layout, ...options });

  describe.skipIf(!has(layout, 'memory') || !has(layout, 'cpu'))(
    `stats on ${kind} [needs root and controllers]`,
    () => {
      it('are what the files say, of processes that stand still', async () => {
        const group = await make('files', { limits: { pids: { max: 20 }, memory: { max: '64M' } } });
        const { pidfd } = run(group, busy);
        await eventually(() => (group.stats().memory?.current ?? 0) > 8_000_000);
        await group.freeze();
        const stats = group.stats();
        const lines = file(group, 'memory', 'memory.stat').split('\n');
        expect(Object.keys(stats.memory?.stat ?? {})).toHaveLength(lines.length);
        for (const key of ['unevictable', 'pgfault']) {
          const line = lines.find((one) => one.startsWith(`${key} `)) as string;
          expect(stats.memory?.stat?.[key], key).toBe(Number(line.split(' ')[1]));
        }
        expect(stats.pids?.current).toBe(Number(file(group, 'pids', 'pids.current')));
        expect(stats.pids?.max).toBe(20);
        const v1 = hierarchyOf(layout, 'cpu')?.version === 1;
        const usage = v1
          ? Math.floor(Number(file(group, 'cpuacct', 'cpuacct.usage')) / 1000)
          : Number(/usage_usec (\d+)/.exec(file(group, 'cpu', 'cpu.stat'))?.[1]);
        expect(stats.cpu?.usageUsec).toBe(usage);
        expect(stats.cpu?.usageUsec).toBeGreaterThan(0);
        expect(stats.memory?.workingSet).toBeLessThanOrEqual(stats.memory?.current as number);
        if (group.path()?.startsWith(layout.unified ?? '\0')) {
          expect(stats.cgroup).toMatchObject({ populated: true, frozen: true });
          expect(stats.pressure?.cpu?.some?.totalUsec).toBeGreaterThanOrEqual(0);
          expect(existsSync(`${group.path()}/cpu.pressure`)).toBe(true);
        }
        await group.kill();
        await ended(pidfd);
        await group.remove();
      });

      it('by node, where the machine has nodes', async () => {
        const group = await make('numa');
        const numa = group.numaStats();
        const text = file(group, 'memory', 'memory.numa_stat');
        expect(Object.keys(numa ?? {})).toHaveLength(text.split('\n').length);
        await group.remove();
      });

      it('files are opened once, read anew each time, and closed with the group', async () => {
        const group = await make('open');
        const tasks = () => group.stats().pids?.current ?? 0;
        const { pidfd } = run(group, 'exec sleep 60');
        await eventually(() => tasks() === 1);
        const open = readdirSync('/proc/self/fd').length;
        await group.kill();
        await ended(pidfd);
        await eventually(() => tasks() === 0);
        // One less: the pidfd.
        expect(readdirSync('/proc/self/fd')).toHaveLength(open - 1);
        await group.remove();
        expect(() => group.stats()).toThrow(/closed/);
      });

      it('a sampler tells how many processors are kept busy', async () => {
        const group = await make('sampler', { limits: { cpu: { max: 0.2 } } });
        const { pidfd } = run(group, 'while :; do :; done');
        let looks = 0;
        for await (const { cpu, seconds } of sample(group, { intervalMs: 500, only: ['cpu'] })) {
          expect(seconds).toBeGreaterThan(0.4);
          expect(cpu?.cores).toBeLessThan(0.35);
          if ((cpu?.cores ?? 0) > 0.02 && looks++ > 1) {
            expect(cpu?.throttledRatio).toBeGreaterThanOrEqual(0);
            break;
          }
        }
        await group.kill();
        await ended(pidfd);
        await group.remove();
      });

      it('the peak of a window, or an UnsupportedError where the kernel cannot', async () => {
        const group = await make('peak', { limits: { memory: { max: '64M' } } });
        const { pidfd } = run(group, 'x=0123456789abcdef; while [ ${#x} -lt 8000000 ]; do x=$x$x; done');
        await ended(pidfd);
        const before = group.stats().memory?.peak;
        if (before !== undefined) expect(before).toBeGreaterThan(8_000_000);
        try {
          const window = group.peakWindow();
          expect(window.peak).toBeLessThan(before as number);
          window[Symbol.dispose]();
        } catch (error) {
          expect(error).toMatchObject({ code: 'EUNSUPPORTED' });
          expect(hierarchyOf(layout, 'memory')?.version).toBe(2);
        }
        await group.remove();
      });

      it('a control file that has no word here is read and written as it is', async () => {
        const group = await make('raw');
        group.write('pids.max', '33');
        expect(group.read('pids.max')).toBe('33');
        expect(group.read('pids.nothing')).toBeUndefined();
        expect(() => group.write('pids.max', 'many')).toThrow(expect.objectContaining({ reason: 'invalidValue' }));
        expect(() => group.read('../pids.max')).toThrow(TypeError);
        expect(() => group.read('/etc/passwd')).toThrow(TypeError);
        await group.remove();
      });
    },
  );
}
