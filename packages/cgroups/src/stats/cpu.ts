import { sharesToWeight } from '../limits/convert.js';
import type { Counters } from './file.js';
import type { StatFiles } from './open.js';

/** CPU time and limits; times in microseconds. */
export interface CpuStats {
  usageUsec: number | undefined;
  userUsec: number | undefined;
  systemUsec: number | undefined;
  niceUsec: number | undefined;
  /** Periods of `max` so far, those in which it was throttled, and for how long in all. */
  nrPeriods: number | undefined;
  nrThrottled: number | undefined;
  throttledUsec: number | undefined;
  nrBursts: number | undefined;
  burstUsec: number | undefined;
  /** Throttled by its own limit alone, not an ancestor's. */
  localThrottledUsec: number | undefined;
  weight: number | undefined;
  weightNice: number | undefined;
  max: { quotaUs: number | 'max'; periodUs: number } | undefined;
  burstLimitUs: number | undefined;
  idle: boolean | undefined;
  /** Percent. */
  uclamp: { min: number | 'max'; max: number | 'max' } | undefined;
  /** v1: `cpu.shares`, of which `weight` is the conversion. */
  shares: number | undefined;
  /** v1: the real-time budget. */
  rt: { runtimeUs: number; periodUs: number } | undefined;
  /** v1: by processor. */
  percpu: { userUsec: number; systemUsec: number }[] | undefined;
}

/** Reads CPU time where the `cpu` controller is not enabled too: v2 counts it always. */
export function cpuStats(cpu: StatFiles | undefined, cpuacct: StatFiles | undefined): CpuStats | undefined {
  if (cpu?.version === 2) return unified(cpu);
  return cpu || cpuacct ? legacy(cpu, cpuacct) : undefined;
}

function unified(files: StatFiles): CpuStats {
  const stat = files.file('cpu.stat').counters() ?? {};
  const [quota, period] = files.file('cpu.max').text()?.split(' ') ?? [];
  return {
    usageUsec: stat.usageUsec,
    userUsec: stat.userUsec,
    systemUsec: stat.systemUsec,
    niceUsec: stat.niceUsec,
    nrPeriods: stat.nrPeriods,
    nrThrottled: stat.nrThrottled,
    throttledUsec: stat.throttledUsec,
    nrBursts: stat.nrBursts,
    burstUsec: stat.burstUsec,
    localThrottledUsec: files.file('cpu.stat.local').counters()?.throttledUsec,
    weight: files.file('cpu.weight').number(),
    weightNice: files.file('cpu.weight.nice').number(),
    max: period === undefined ? undefined : { quotaUs: orMax(quota), periodUs: Number(period) },
    burstLimitUs: files.file('cpu.max.burst').number(),
    idle: files.file('cpu.idle').flag(),
    uclamp: uclamp(files),
    shares: undefined,
    rt: undefined,
    percpu: undefined,
  };
}

function legacy(cpu: StatFiles | undefined, cpuacct: StatFiles | undefined): CpuStats {
  const stat: Counters = cpu?.file('cpu.stat').counters() ?? {};
  const quota = cpu?.file('cpu.cfs_quota_us').number();
  const runtime = cpu?.file('cpu.rt_runtime_us').number();
  const shares = cpu?.file('cpu.shares').number();
  return {
    usageUsec: cpuacct?.file('cpuacct.usage').microseconds(),
    userUsec: cpuacct?.file('cpuacct.usage_user').microseconds(),
    systemUsec: cpuacct?.file('cpuacct.usage_sys').microseconds(),
    niceUsec: undefined,
    nrPeriods: stat.nrPeriods,
    nrThrottled: stat.nrThrottled,
    throttledUsec: micro(stat.throttledTime),
    nrBursts: stat.nrBursts,
    burstUsec: micro(stat.burstTime),
    localThrottledUsec: micro(cpu?.file('cpu.stat.local').counters()?.throttledTime),
    weight: shares === undefined ? undefined : sharesToWeight(shares),
    weightNice: undefined,
    max:
      quota === undefined
        ? undefined
        : { quotaUs: quota < 0 ? 'max' : quota, periodUs: cpu?.file('cpu.cfs_period_us').number() ?? 0 },
    burstLimitUs: cpu?.file('cpu.cfs_burst_us').number(),
    idle: cpu?.file('cpu.idle').flag(),
    uclamp: cpu && uclamp(cpu),
    shares,
    rt:
      runtime === undefined ? undefined : { runtimeUs: runtime, periodUs: cpu?.file('cpu.rt_period_us').number() ?? 0 },
    percpu: percpu(cpuacct?.file('cpuacct.usage_all').text()),
  };
}

/** The same files on both versions. */
function uclamp(files: StatFiles): CpuStats['uclamp'] {
  const [min, max] = [files.file('cpu.uclamp.min').text(), files.file('cpu.uclamp.max').text()];
  return min === undefined ? undefined : { min: orMax(min), max: orMax(max) };
}

/** "cpu user system" and a line for each processor, nanoseconds. */
function percpu(text: string | undefined): CpuStats['percpu'] {
  return text
    ?.split('\n')
    .slice(1)
    .map((line) => {
      const [, user, system] = line.split(' ');
      return { userUsec: Math.floor(Number(user) / 1000), systemUsec: Math.floor(Number(system) / 1000) };
    });
}

function orMax(text: string | undefined): number | 'max' {
  return text === undefined || text === 'max' ? 'max' : Number(text);
}

function micro(nanoseconds: number | undefined): number | undefined {
  return nanoseconds === undefined ? undefined : Math.floor(nanoseconds / 1000);
}
