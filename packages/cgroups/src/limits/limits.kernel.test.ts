import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { Cgroup, type Controller, hierarchyOf, type Limits } from '../index.js';
import { disk, ended, eventually, file, has, layouts, run, testParent } from '../kit.js';

const parent = testParent('limits');

/** Limits, the file that shows them and what the kernel writes there; without an entry that version lacks it. */
type Row = [
  name: string,
  limits: Limits,
  v1?: readonly [file: string, text: string | RegExp] | undefined,
  v2?: readonly [string, string | RegExp],
];

const M = 2 ** 20;
const rows: Row[] = [
  ['cpu.max as processors', { cpu: { max: 1.5 } }, ['cpu.cfs_quota_us', '150000'], ['cpu.max', '150000 100000']],
  [
    'cpu.max as quota and period',
    { cpu: { max: { quotaUs: 5000, periodUs: 20_000 } } },
    ['cpu.cfs_period_us', '20000'],
    ['cpu.max', '5000 20000'],
  ],
  ['cpu.max below a hundredth', { cpu: { max: 0.001 } }, ['cpu.cfs_period_us', '1000000'], ['cpu.max', '1000 1000000']],
  ['cpu.max none', { cpu: { max: 'max' } }, ['cpu.cfs_quota_us', '-1'], ['cpu.max', 'max 100000']],
  ['cpu.weight', { cpu: { weight: 59 } }, ['cpu.shares', '511'], ['cpu.weight', '59']],
  ['cpu.weight default', { cpu: { weight: 100 } }, ['cpu.shares', '1024'], ['cpu.weight', '100']],
  ['cpu.weight.nice', { cpu: { weightNice: 5 } }, undefined, ['cpu.weight.nice', '5']],
  ['cpu burst', { cpu: { max: 0.5, burstUs: 20_000 } }, ['cpu.cfs_burst_us', '20000'], ['cpu.max.burst', '20000']],
  ['cpu.idle', { cpu: { idle: true } }, ['cpu.idle', '1'], ['cpu.idle', '1']],
  ['cpu.uclamp', { cpu: { uclamp: { min: 10, max: 80.5 } } }, ['cpu.uclamp.max', '80.50'], ['cpu.uclamp.max', '80.50']],
  ['cpuset', { cpuset: { cpus: '0', mems: '0' } }, ['cpuset.cpus', '0'], ['cpuset.cpus', '0']],
  ['memory.max', { memory: { max: '64M' } }, ['memory.limit_in_bytes', String(64 * M)], ['memory.max', String(64 * M)]],
  [
    'memory.max rounded to a page',
    { memory: { max: 67_109_000 } },
    ['memory.limit_in_bytes', String(64 * M)],
    ['memory.max', String(64 * M)],
  ],
  [
    'memory.swap.max',
    { memory: { max: '64M', swap: { max: '32M' } } },
    ['memory.memsw.limit_in_bytes', String(96 * M)],
    ['memory.swap.max', String(32 * M)],
  ],
  [
    'memory.low',
    { memory: { low: '8M' } },
    ['memory.soft_limit_in_bytes', String(8 * M)],
    ['memory.low', String(8 * M)],
  ],
  ['memory.min', { memory: { min: '8M' } }, undefined, ['memory.min', String(8 * M)]],
  ['memory.high', { memory: { high: '32M' } }, undefined, ['memory.high', String(32 * M)]],
  ['memory.swap.high', { memory: { swap: { high: '32M' } } }, undefined, ['memory.swap.high', String(32 * M)]],
  ['memory.oom.group', { memory: { oomGroup: true } }, undefined, ['memory.oom.group', '1']],
  ['memory.zswap.max', { memory: { zswap: { max: '4M' } } }, undefined, ['memory.zswap.max', String(4 * M)]],
  ['memory.zswap.writeback', { memory: { zswap: { writeback: false } } }, undefined, ['memory.zswap.writeback', '0']],
  ['memory.swappiness', { memory: { swappiness: 10 } }, ['memory.swappiness', '10']],
  ['memory.oom_control', { memory: { oomKillDisable: true } }, ['memory.oom_control', /oom_kill_disable 1/]],
  ['pids.max', { pids: { max: 12 } }, ['pids.max', '12'], ['pids.max', '12']],
  ['pids.max none', { pids: { max: 'max' } }, ['pids.max', 'max'], ['pids.max', 'max']],
  [
    'hugetlb',
    { hugetlb: { '2MB': { max: '4M', rsvdMax: '8M' } } },
    ['hugetlb.2MB.rsvd.limit_in_bytes', String(8 * M)],
    ['hugetlb.2MB.rsvd.max', String(8 * M)],
  ],
  [
    'hugetlb by page',
    { hugetlb: { '2MB': { max: '5M' } } },
    ['hugetlb.2MB.limit_in_bytes', String(4 * M)],
    ['hugetlb.2MB.max', String(4 * M)],
  ],
  ['cpuset.exclusive', { cpuset: { cpus: '0-1', exclusive: '1' } }, undefined, ['cpuset.cpus.exclusive', '1']],
  ['io.weight', { io: { weight: 910 } }, ['blkio.bfq.weight', '100'], ['io.weight', /^default 910$/m]],
  ...(disk
    ? ([
        [
          'io.max by path',
          { io: { max: [{ device: disk.path, rbps: '1M', wiops: 100 }] } },
          ['blkio.throttle.read_bps_device', `${disk.number} ${M}`],
          ['io.max', `${disk.number} rbps=${M} wbps=max riops=max wiops=100`],
        ],
        [
          'io.max none',
          { io: { max: [{ device: disk.path, rbps: 'max' }] } },
          ['blkio.throttle.read_bps_device', ''],
          ['io.max', ''],
        ],
        [
          'io.latency',
          { io: { latency: [{ device: disk.path, targetUs: 50_000 }] } },
          undefined,
          ['io.latency', `${disk.number} target=50000`],
        ],
      ] satisfies Row[])
    : []),
  ['io.prio.class', { io: { prioClass: 'idle' } }, undefined, ['io.prio.class', 'idle']],
  ['cgroup.max', { cgroup: { maxDepth: 2, maxDescendants: 7 } }, undefined, ['cgroup.max.descendants', '7']],
  ['net_cls', { net_cls: { classid: 0x100001 } }, ['net_cls.classid', String(0x100001)]],
  ['net_prio', { net_prio: { ifpriomap: { lo: 3 } } }, ['net_prio.ifpriomap', /^lo 3$/m]],
];

/** Files that not every kernel has. */
const optional = [
  'blkio.bfq.weight',
  'cpu.uclamp.max',
  'cpuset.cpus.exclusive',
  'io.latency',
  'io.prio.class',
  'io.weight',
  'memory.zswap.max',
  'memory.zswap.writeback',
];

for (const [kind, layout] of layouts) {
  describe.skipIf(!has(layout, 'memory'))(`limits on ${kind} [needs root and controllers]`, () => {
    for (const [i, [name, limits, v1, v2]] of rows.entries()) {
      const own = `row-${i}`;
      const controller = Object.keys(limits)[0] as Controller;
      const home = (controller as string) === 'cgroup' ? undefined : hierarchyOf(layout, controller);
      const version = (controller as string) === 'cgroup' ? (layout.unified ? 2 : 1) : home?.version;
      const expected = version === 2 ? v2 : v1;
      if (version === undefined) {
        it(`${name}: no such controller here`, async () => {
          await expect(Cgroup.create(own, { parent, layout, limits })).rejects.toMatchObject({ code: 'EUNSUPPORTED' });
        });
        continue;
      }
      if (!expected) {
        it(`${name}: v${version} has no such limit`, async () => {
          await expect(Cgroup.create(own, { parent, layout, limits })).rejects.toMatchObject({ code: 'EUNSUPPORTED' });
          const group = await Cgroup.create(own, { parent, layout, limits, onUnsupported: 'ignore' });
          await group.remove();
        });
        continue;
      }
      const needs = optional.includes(expected[0]) ? ' [needs a kernel that was built with it]' : '';
      it(`${name}: ${expected[0]}${needs}`, async (context) => {
        const bare = await Cgroup.create(`bare-${i}`, { parent, layout, controllers: home ? [controller] : [] });
        try {
          const path = `${bare.path(home ? controller : undefined)}/${expected[0]}`;
          if (!existsSync(path) && needs) {
            // The error says so, and the group is as it was.
            await expect(bare.set(limits)).rejects.toMatchObject({ code: 'ENOENT', reason: 'invalidValue' });
            return context.skip();
          }
        } finally {
          await bare.remove();
        }
        const group = await Cgroup.create(own, { parent, layout, limits });
        const text = file(group, home ? controller : undefined, expected[0]);
        if (typeof expected[1] === 'string') expect(text).toBe(expected[1]);
        else expect(text).toMatch(expected[1]);
        // Set again, and planned without being set.
        await group.set(limits);
        expect(group.plan(limits).length).toBeGreaterThan(0);
        await group.remove();
      });
    }

    it('walks between cpu limits in an order that the kernel takes', async () => {
      const tight = await Cgroup.create('tight', { parent, layout, limits: { cpu: { max: 0.5 } } });
      const group = await tight.create('inner', { limits: { cpu: { max: { quotaUs: 50_000, periodUs: 100_000 } } } });
      await group.set({ cpu: { max: { quotaUs: 5000, periodUs: 10_000 } } });
      await group.set({ cpu: { max: { quotaUs: 400_000, periodUs: 800_000 }, burstUs: 100_000 } });
      await group.set({ cpu: { max: { quotaUs: 5000, periodUs: 10_000 }, burstUs: 1000 } });
      expect(group.stats().cpu).toMatchObject({ max: { quotaUs: 5000, periodUs: 10_000 }, burstLimitUs: 1000 });
      await group.set({ cpu: { max: 'max' } });
      await group.remove();
      await tight.remove();
    });

    it('walks between memory and swap limits in an order that the kernel takes', async () => {
      const group = await Cgroup.create('swap', {
        parent,
        layout,
        limits: { memory: { max: '64M', swap: { max: 0 } } },
      });
      for (const [max, swap] of [
        ['128M', '16M'],
        ['32M', 0],
        ['max', 'max'],
        ['32M', '32M'],
      ] as const) {
        await group.set({ memory: { max, swap: { max: swap } } });
        expect(group.stats().memory?.max).toBe(max === 'max' ? 'max' : Number.parseInt(max, 10) * M);
      }
      await group.remove();
    });

    it('idle and back', async () => {
      const group = await Cgroup.create('idle', { parent, layout, limits: { cpu: { weight: 50 } } });
      await group.set({ cpu: { idle: true } });
      await expect(group.set({ cpu: { weight: 20 } })).rejects.toMatchObject({ reason: 'invalidValue' });
      await group.set({ cpu: { idle: false, weight: 20 } });
      expect(group.stats().cpu).toMatchObject({ idle: false, weight: 20 });
      await group.remove();
    });

    it('a cpuset that loses its processors while somebody is in it: refused, or the parent’s, and never none', async () => {
      const group = await Cgroup.create('no-cpus', { parent, layout, limits: { cpuset: { cpus: '0', mems: '0' } } });
      const { pid, pidfd } = run(group, 'sleep 60; true');
      const set = group.set({ cpuset: { cpus: '' } });
      if (hierarchyOf(layout, 'cpuset')?.version === 1) {
        await expect(set).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
        expect(file(group, 'cpuset', 'cpuset.cpus')).toBe('0');
        expect(() => group.write('cpuset.cpus', '\n')).toThrow(expect.objectContaining({ reason: 'invalidValue' }));
      } else {
        const error = await set.then(
          () => undefined,
          (reason: unknown) => reason,
        );
        if (error) expect(error).toMatchObject({ reason: 'invalidValue' });
        expect(file(group, 'cpuset', 'cpuset.cpus')).toBe(error ? '0' : '');
        expect(file(group, 'cpuset', 'cpuset.cpus.effective')).not.toBe('');
      }
      expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\s\d/m);
      await group.kill();
      await ended(pidfd);
      await group.remove();
    });

    it.skipIf(!existsSync(`${layout.v1.cpu}/cpu.rt_runtime_us`))(
      'cpu.rt: cpu.rt_runtime_us [needs v1 of a kernel that was built with it]',
      async () => {
        const above = await Cgroup.open(parent, { layout });
        const group = await Cgroup.create('rt', { parent, layout, controllers: ['cpu'] });
        // Without any, nobody in it becomes a real-time process; and there is none to be had of a parent that has none.
        const realTime = async () => (await ended(run(group, 'chrt -f 1 true 2>&-').pidfd))?.code;
        expect(await realTime()).not.toBe(0);
        const limits: Limits = { cpu: { rt: { runtimeUs: 2000, periodUs: 500_000 } } };
        await expect(group.set(limits)).rejects.toMatchObject({ reason: 'invalidValue' });
        expect(file(group, 'cpu', 'cpu.rt_period_us')).toBe('1000000');
        await above.set({ cpu: { rt: { runtimeUs: 10_000 } } });
        await group.set(limits);
        expect(file(group, 'cpu', 'cpu.rt_runtime_us')).toBe('2000');
        expect(file(group, 'cpu', 'cpu.rt_period_us')).toBe('500000');
        expect(await realTime()).toBe(0);
        // What is removed is the kernel's for a while.
        for (const one of [group, above]) await one.set({ cpu: { rt: { runtimeUs: 0 } } });
        await group.remove();
        above[Symbol.dispose]();
      },
    );

    it('a process that is born there is on the processors that were given', async () => {
      const group = await Cgroup.create('cpus', { parent, layout, limits: { cpuset: { cpus: '0' } } });
      const { pid, pidfd } = run(group, 'sleep 60; true');
      expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Cpus_allowed_list:\s0$/m);
      // v1 takes nobody into a group without memory nodes: it has its parent's, and that one, which was empty, has its own.
      if (hierarchyOf(layout, 'cpuset')?.version === 1) {
        const nodes = (path: string) => readFileSync(`${layout.v1.cpuset}${path}/cpuset.mems`, 'utf8');
        expect(file(group, 'cpuset', 'cpuset.mems')).toBe(nodes('').trim());
        expect(nodes(`/${parent}`)).toBe(nodes(''));
      }
      await group.kill();
      await ended(pidfd);
      await group.remove();
    });
  });

  describe.skipIf(!has(layout, 'cpuset', 2))(`partitions on ${kind} [needs root and the v2 cpuset controller]`, () => {
    it('takes its processors from everybody else', async () => {
      const others = () => readFileSync(`${layout.unified}/cpuset.cpus.effective`, 'utf8').trim();
      const before = others();
      const group = await Cgroup.open(parent, { layout });
      await group.set({ cpuset: { cpus: '1', partition: 'root' } });
      expect(file(group, 'cpuset', 'cpuset.cpus.partition')).toBe('root');
      expect([before, others()]).toEqual(['0-1', '0']);
      await group.set({ cpuset: { cpus: '', partition: 'member' } });
      expect(file(group, 'cpuset', 'cpuset.cpus.partition')).toBe('member');
      await eventually(() => others() === before);
      group[Symbol.dispose]();
    });

    it('one that the kernel calls invalid is an error, and undone', async () => {
      // Its parent is no partition root.
      const group = await Cgroup.create('partition', { parent, layout, controllers: ['cpuset'] });
      const child = await group.create('child', { limits: { cpuset: { cpus: '1' } } });
      await expect(child.set({ cpuset: { partition: 'root' } })).rejects.toMatchObject({ reason: 'invalidPartition' });
      expect(child.stats().cpuset?.partition).toMatchObject({ kind: 'member', valid: true });
      await child.remove();
      await group.remove();
    });
  });
}
