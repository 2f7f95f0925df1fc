import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { Cgroup, detect, rates, type Stats, type StatsPart } from '../index.js';

const linux = process.platform === 'linux';
const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** A machine's files, as they were recorded. */
async function recorded(files: Record<string, string>, path: string) {
  const root = mkdtempSync(join(tmpdir(), 'iso-stats-'));
  folders.push(root);
  const write = (name: string, text: string) => {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), `${text}\n`);
  };
  for (const [name, text] of Object.entries(files)) write(name, text);
  return { root, write, group: await Cgroup.open(path, { layout: detect({ root }) }) };
}

const v2 = (name: string) => `sys/fs/cgroup/job/${name}`;
const unified: Record<string, string> = {
  'proc/self/mountinfo': '30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw',
  'proc/self/cgroup': '0::/',
  'sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory hugetlb pids rdma misc dmem',
  [v2('cgroup.controllers')]: 'cpuset cpu io memory pids rdma misc dmem',
  [v2('cgroup.events')]: 'populated 1\nfrozen 0',
  [v2('cgroup.stat')]: 'nr_descendants 2\nnr_dying_descendants 5',
  [v2('cgroup.stat.local')]: 'frozen_usec 77',
  [v2('cgroup.type')]: 'domain',
  [v2('cgroup.max.depth')]: 'max',
  [v2('cpu.stat')]:
    'usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\nnice_usec 3\nnr_periods 10\nnr_throttled 5\nthrottled_usec 300000\nnr_bursts 1\nburst_usec 2',
  [v2('cpu.stat.local')]: 'throttled_usec 200000',
  [v2('cpu.max')]: 'max 100000',
  [v2('cpu.uclamp.min')]: '12.50',
  [v2('cpu.uclamp.max')]: 'max',
  [v2('cpuset.cpus')]: '0-3',
  [v2('cpuset.cpus.partition')]: 'root invalid (Cpu list in cpuset.cpus not exclusive)',
  [v2('memory.current')]: '1000000',
  [v2('memory.max')]: 'max',
  [v2('memory.swap.current')]: '5',
  [v2('memory.swap.peak')]: '9',
  [v2('memory.zswap.current')]: '7',
  [v2('memory.zswap.writeback')]: '1',
  [v2('memory.stat')]: 'anon 400\nfile 600\ninactive_file 250000\nworkingset_refault_anon 3\nsomething_new 12',
  [v2('memory.events')]: 'low 0\nhigh 34\nmax 3\noom 2\noom_kill 1\noom_group_kill 0\nsock_throttled 4',
  [v2('memory.numa_stat')]: 'anon N0=300 N1=100\nfile N0=600 N1=0',
  [v2('io.stat')]: '999:0 rbytes=100 wbytes=200 rios=1 wios=2 dbytes=0 dios=0 cost.usage=9 use_delay=1\n999:16',
  [v2('io.max')]: '999:0 rbps=1000 wbps=max riops=max wiops=5',
  [v2('io.latency')]: '999:0 target=75000',
  [v2('io.weight')]: 'default 100\n999:0 200',
  [v2('io.prio.class')]: 'no-change',
  [v2('io.pressure')]:
    'some avg10=1.50 avg60=0.20 avg300=0.03 total=123456\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=456',
  [v2('irq.pressure')]: 'full avg10=0.00 avg60=0.00 avg300=0.00 total=1',
  [v2('pids.current')]: '3',
  [v2('pids.peak')]: '8',
  [v2('pids.max')]: 'max',
  [v2('pids.events')]: 'max 0',
  [v2('rdma.current')]: 'mlx4_0 hca_handle=1 hca_object=20',
  [v2('rdma.max')]: 'mlx4_0 hca_handle=2 hca_object=max',
  [v2('misc.current')]: 'sev 1\nsev_es 0',
  [v2('misc.max')]: 'sev 5\nsev_es max',
  [v2('misc.events')]: 'sev.max 3\nsev_es.max 0',
  [v2('dmem.current')]: 'drm/0000:03:00.0/vram0 4096',
  [v2('dmem.max')]: 'drm/0000:03:00.0/vram0 max',
};

describe.skipIf(!linux)('stats of v2 [needs Linux]', () => {
  it('read again they are what a new handle reads, whatever the files have become', async () => {
    const { root, write, group } = await recorded(unified, 'job');
    const fresh = async (only?: readonly StatsPart[]) => {
      const other = await Cgroup.open('job', { layout: detect({ root }) });
      return { ...other.stats(only ? { only } : {}), atMs: 0 };
    };
    const again = (only?: readonly StatsPart[]) => ({ ...group.stats(only ? { only } : {}), atMs: 0 });
    group.stats();
    const many = Array.from({ length: 200 }, (_, i) => `key_${i} ${i * 1e9}`).join('\n');
    const texts: [name: string, text: string][] = [
      ['memory.current', '2000000'],
      ['memory.stat', many],
      ['memory.stat', `${many}\nlast 1`],
      ['memory.stat', 'anon 1'],
      ['cpu.max', '5000 100000'],
      ['io.stat', '999:0 rbytes=1'],
      ['pids.current', ''],
    ];
    for (const [name, text] of texts) {
      write(v2(name), text);
      for (const only of [undefined, ['memory'], ['cpu', 'pids'], ['io']] as const) {
        expect(again(only)).toEqual(await fresh(only));
      }
    }
  });

  it('every field that a machine may have', async () => {
    const { group } = await recorded(unified, 'job');
    const stats = group.stats();
    expect(stats).toMatchObject({
      cgroup: {
        populated: true,
        frozen: false,
        frozenBy: undefined,
        type: 'domain',
        nrDescendants: 2,
        nrDyingDescendants: 5,
        frozenUsec: 77,
        maxDepth: 'max',
      },
      cpu: {
        usageUsec: 2e6,
        niceUsec: 3,
        nrThrottled: 5,
        localThrottledUsec: 200_000,
        max: { quotaUs: 'max', periodUs: 100_000 },
        uclamp: { min: 12.5, max: 'max' },
      },
      cpuset: {
        cpus: '0-3',
        partition: { kind: 'root', valid: false, reason: 'Cpu list in cpuset.cpus not exclusive' },
      },
      memory: {
        current: 1_000_000,
        max: 'max',
        swap: { current: 5, peak: 9 },
        zswap: { current: 7, writeback: true },
        stat: { anon: 400, inactiveFile: 250_000, workingsetRefaultAnon: 3, somethingNew: 12 },
        events: { high: 34, oomKill: 1, sockThrottled: 4 },
        workingSet: 750_000,
      },
      io: { weight: 100, prioClass: 'no-change' },
      pids: { current: 3, peak: 8, max: 'max', events: { max: 0 } },
      rdma: { mlx4_0: { current: { hcaHandle: 1, hcaObject: 20 }, max: { hcaHandle: 2, hcaObject: 'max' } } },
      misc: { sev: { current: 1, max: 5, maxEvents: 3 }, sev_es: { max: 'max' } },
      dmem: { 'drm/0000:03:00.0/vram0': { current: 4096, max: 'max' } },
    });
    expect(stats.io?.devices['999:0']).toMatchObject({
      rbytes: 100,
      wios: 2,
      max: { rbps: 1000, wbps: 'max', riops: 'max', wiops: 5 },
      weight: 200,
      latencyTargetUs: 75_000,
      more: { costUsage: 9, useDelay: 1 },
    });
    expect(stats.pressure?.io?.some).toEqual({ avg10: 1.5, avg60: 0.2, avg300: 0.03, totalUsec: 123_456 });
    expect(stats.pressure?.irq).toEqual({ full: { avg10: 0, avg60: 0, avg300: 0, totalUsec: 1 } });
    expect(group.numaStats()).toEqual({ anon: { N0: 300, N1: 100 }, file: { N0: 600, N1: 0 } });
    group[Symbol.dispose]();
  });

  it('what is not there is undefined, never 0, and its controller has a reason', async () => {
    const { group } = await recorded(unified, 'job');
    const { memory, cpu, hugetlb, pressure, absent } = group.stats();
    expect(memory?.peak).toBeUndefined();
    expect(memory?.eventsLocal).toBeUndefined();
    expect(memory?.oomGroup).toBeUndefined();
    expect(cpu?.weight).toBeUndefined();
    expect(pressure?.cpu).toBeUndefined();
    expect(hugetlb).toBeUndefined();
    expect(absent).toEqual({ hugetlb: expect.stringContaining('subtree_control') });
    expect(group.stats({ only: ['pids'] })).toMatchObject({ memory: undefined, cpu: undefined, pids: { current: 3 } });
    group[Symbol.dispose]();
  });

  it('reads anew each time, also where lines come, go and change places', async () => {
    const { group, write } = await recorded(unified, 'job');
    expect(group.stats().memory?.stat?.anon).toBe(400);
    write(v2('memory.stat'), 'file 1\nanon 2\nanon_thp 3');
    expect(group.stats().memory?.stat).toEqual({ file: 1, anon: 2, anonThp: 3 });
    write(v2('memory.stat'), 'anon_thp 9007199254740991\nanon 5');
    expect(group.stats().memory?.stat).toEqual({ anonThp: Number.MAX_SAFE_INTEGER, anon: 5 });
    group[Symbol.dispose]();
  });
});

describe.skipIf(!linux)('stats of v1 [needs Linux]', () => {
  const mount = (id: number, name: string) => `${id} 25 0:${id} / /sys/fs/cgroup/${name} rw - cgroup cgroup rw,${name}`;
  const at = (controller: string, name: string) => `sys/fs/cgroup/${controller}/job/${name}`;
  const files: Record<string, string> = {
    'proc/self/mountinfo': ['cpu,cpuacct', 'memory', 'blkio', 'freezer', 'hugetlb']
      .map((name, i) => mount(31 + i, name))
      .join('\n'),
    'proc/self/cgroup': '2:memory:/',
    [at('cpu,cpuacct', 'cpu.stat')]: 'nr_periods 4\nnr_throttled 2\nthrottled_time 7000999',
    [at('cpu,cpuacct', 'cpu.shares')]: '1024',
    [at('cpu,cpuacct', 'cpu.cfs_quota_us')]: '-1',
    [at('cpu,cpuacct', 'cpu.cfs_period_us')]: '100000',
    [at('cpu,cpuacct', 'cpuacct.usage')]: '9007199254740991999',
    [at('cpu,cpuacct', 'cpuacct.usage_all')]: 'cpu user system\n0 5000 1000\n1 7999 0',
    [at('memory', 'memory.usage_in_bytes')]: '1000',
    [at('memory', 'memory.max_usage_in_bytes')]: '2000',
    [at('memory', 'memory.limit_in_bytes')]: '9223372036854771712',
    [at('memory', 'memory.memsw.usage_in_bytes')]: '1500',
    [at('memory', 'memory.memsw.limit_in_bytes')]: '9223372036854771712',
    [at('memory', 'memory.oom_control')]: 'oom_kill_disable 0\nunder_oom 0\noom_kill 3',
    [at('memory', 'memory.stat')]:
      'cache 5\nrss 6\ntotal_inactive_file 300\nhierarchical_memory_limit 9223372036854771712',
    [at('memory', 'memory.numa_stat')]: 'total=10 N0=10\nfile=4 N0=4',
    [at('blkio', 'blkio.throttle.io_service_bytes_recursive')]:
      '999:1 Read 10\n999:1 Write 20\n999:1 Total 30\nTotal 30',
    [at('blkio', 'blkio.throttle.io_serviced_recursive')]: '999:1 Read 1\n999:1 Write 2\nTotal 3',
    [at('blkio', 'blkio.bfq.io_service_bytes_recursive')]: 'Total 0',
    [at('blkio', 'blkio.throttle.read_bps_device')]: '999:1 1048576',
    [at('freezer', 'freezer.state')]: 'FROZEN',
    [at('freezer', 'freezer.self_freezing')]: '0',
    [at('hugetlb', 'hugetlb.2MB.usage_in_bytes')]: '0',
    [at('hugetlb', 'hugetlb.2MB.limit_in_bytes')]: '9223372036852678656',
    [at('hugetlb', 'hugetlb.2MB.failcnt')]: '1',
  };

  it('in v2’s words and units', async () => {
    const { group } = await recorded(files, 'job');
    const stats = group.stats();
    expect(stats).toMatchObject({
      cgroup: { frozen: true, frozenBy: 'ancestor', populated: undefined },
      // Exact beyond 2^53 nanoseconds.
      cpu: {
        usageUsec: Number.MAX_SAFE_INTEGER,
        nrThrottled: 2,
        throttledUsec: 7000,
        weight: 100,
        shares: 1024,
        max: { quotaUs: 'max' },
        percpu: [
          { userUsec: 5, systemUsec: 1 },
          { userUsec: 7, systemUsec: 0 },
        ],
      },
      memory: {
        current: 1000,
        peak: 2000,
        max: 'max',
        workingSet: 700,
        swap: { current: 500, peak: undefined, max: 'max' },
        events: { oomKill: 3 },
        legacy: { oomControl: { underOom: 0 } },
      },
      hugetlb: { '2MB': { current: 0, max: 'max', failcnt: 1 } },
      pids: undefined,
      pressure: undefined,
    });
    expect(stats.io?.devices['999:1']).toMatchObject({
      rbytes: 10,
      wbytes: 20,
      rios: 1,
      wios: 2,
      max: { rbps: 1_048_576, wbps: 'max' },
    });
    expect(stats.absent.pids).toMatch(/no hierarchy/);
    expect(group.numaStats()).toMatchObject({ total: { total: 10, N0: 10 } });
    group[Symbol.dispose]();
  });
});

it('rates are of the interval, undefined where a figure lacks', () => {
  const at = (atMs: number, cpu: object, pressure: object | undefined): Stats =>
    ({ atMs, cpu, pressure, memory: undefined, io: undefined }) as unknown as Stats;
  const before = at(1000, { usageUsec: 1e6, nrPeriods: 10, nrThrottled: 1 }, { io: { some: { totalUsec: 0 } } });
  const after = at(3000, { usageUsec: 2e6, nrPeriods: 30, nrThrottled: 11 }, { io: { some: { totalUsec: 500_000 } } });
  expect(rates(before, after)).toMatchObject({
    seconds: 2,
    cpu: { cores: 0.5, throttledRatio: 0.5, userCores: undefined },
    pressure: { io: { some: 0.25 } },
    memory: undefined,
  });
});
