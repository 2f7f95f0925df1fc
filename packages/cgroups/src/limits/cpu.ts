import { invalid } from '@iso/sys';
import { choice, cpuList, flag, integer, onlyKeys, shown } from '../value.js';
import { weightToShares } from './convert.js';
import type { CpuLimits, CpusetLimits } from './limits.js';
import type { PlanContext } from './plan.js';

const PERIOD_US = 100_000;
const MAX_PERIOD_US = 1_000_000;
const MIN_QUOTA_US = 1000;

/** Writes of {@link CpuLimits}. */
export function planCpu(limits: CpuLimits, context: PlanContext): void {
  onlyKeys(limits, 'cpu', ['max', 'weight', 'weightNice', 'burstUs', 'idle', 'uclamp', 'rt']);
  const { version, write, lacks } = context;
  const { weight, weightNice, burstUs, idle, uclamp, rt } = limits;
  const max = limits.max === undefined ? undefined : bandwidth(limits.max);
  if (idle !== undefined) flag(idle, 'cpu.idle');
  const burst = burstUs === undefined ? undefined : integer(burstUs, 'cpu.burstUs', 0);
  if (weight !== undefined && weightNice !== undefined) throw invalid('cpu has either weight or weightNice');
  if (idle && (weight ?? weightNice) !== undefined) throw invalid('an idle group has no cpu weight');

  // While it is idle, the weight cannot be written.
  if (idle === false) write('cpu.idle', flag(idle, 'cpu.idle'));
  if (weight !== undefined) {
    const value = integer(weight, 'cpu.weight', 1, 10_000);
    if (version === 2) write('cpu.weight', value);
    else write('cpu.shares', weightToShares(value));
  }
  if (weightNice !== undefined) {
    const value = integer(weightNice, 'cpu.weightNice', -20, 19);
    if (version === 2) write('cpu.weight.nice', value);
    else lacks('weightNice');
  }
  if (idle === true) write('cpu.idle', flag(idle, 'cpu.idle'));
  planBandwidth(max, burst, context);
  if (uclamp !== undefined) {
    onlyKeys(uclamp, 'cpu.uclamp', ['min', 'max']);
    for (const key of ['min', 'max'] as const) {
      const value = uclamp[key];
      if (value === undefined) continue;
      // v1 has the same files.
      write(`cpu.uclamp.${key}`, percent(value, `cpu.uclamp.${key}`));
    }
  }
  if (rt !== undefined) {
    onlyKeys(rt, 'cpu.rt', ['runtimeUs', 'periodUs']);
    if (version === 2) return lacks('rt');
    planRealTime(rt, context);
  }
}

interface Bandwidth {
  quotaUs: number | 'max';
  /** Undefined keeps the one that is there. */
  periodUs: number | undefined;
}

function bandwidth(max: NonNullable<CpuLimits['max']>): Bandwidth {
  if (max === 'max') return { quotaUs: 'max', periodUs: undefined };
  if (typeof max === 'number') {
    // Below a hundredth of a processor the usual period leaves less than the smallest quota.
    const periodUs = max * PERIOD_US < MIN_QUOTA_US ? MAX_PERIOD_US : PERIOD_US;
    const quotaUs = Math.round(max * periodUs);
    if (!(quotaUs >= MIN_QUOTA_US) || !Number.isSafeInteger(quotaUs)) {
      throw invalid(`cpu.max must be processors, 0.001 or more, not ${max}`);
    }
    return { quotaUs, periodUs };
  }
  onlyKeys(max, 'cpu.max', ['quotaUs', 'periodUs']);
  return {
    quotaUs: max.quotaUs === 'max' ? 'max' : integer(max.quotaUs, 'cpu.max.quotaUs', MIN_QUOTA_US),
    periodUs: max.periodUs === undefined ? PERIOD_US : integer(max.periodUs, 'cpu.max.periodUs', 1000, MAX_PERIOD_US),
  };
}

/** The burst must not be above the quota at any time: lowered first, raised last. */
function planBandwidth(max: Bandwidth | undefined, burst: number | undefined, context: PlanContext): void {
  const { version, read, write } = context;
  const burstFile = version === 2 ? 'cpu.max.burst' : 'cpu.cfs_burst_us';
  const lowers = burst !== undefined && burst < Number(read(burstFile) ?? 0);
  if (lowers) write(burstFile, burst);
  if (max && version === 2) {
    const { quotaUs, periodUs } = max;
    if (periodUs === undefined) write('cpu.max', `${quotaUs}`, 'entry');
    else write('cpu.max', `${quotaUs} ${periodUs}`);
  }
  if (max && version === 1) {
    const quota = max.quotaUs === 'max' ? -1 : max.quotaUs;
    const period = max.periodUs;
    const oldQuota = Number(read('cpu.cfs_quota_us') ?? -1);
    const oldPeriod = Number(read('cpu.cfs_period_us') ?? PERIOD_US);
    // Of the two ways there, the one that never asks for a larger share than both ends: the parent may be tight.
    const periodFirst =
      quota !== -1 && period !== undefined && (oldQuota === -1 || oldQuota / period < quota / oldPeriod);
    if (periodFirst) write('cpu.cfs_period_us', period);
    write('cpu.cfs_quota_us', quota);
    if (!periodFirst && period !== undefined) write('cpu.cfs_period_us', period);
  }
  if (burst !== undefined && !lowers) write(burstFile, burst);
}

/** The runtime must not be above the period at any time. */
function planRealTime(rt: NonNullable<CpuLimits['rt']>, { read, write }: PlanContext): void {
  const runtime = rt.runtimeUs === undefined ? undefined : integer(rt.runtimeUs, 'cpu.rt.runtimeUs', -1);
  const period = rt.periodUs === undefined ? undefined : integer(rt.periodUs, 'cpu.rt.periodUs', 1);
  const shrinks = period !== undefined && period < Number(read('cpu.rt_period_us') ?? 0);
  if (period !== undefined && !shrinks) write('cpu.rt_period_us', period);
  if (runtime !== undefined) write('cpu.rt_runtime_us', runtime);
  if (period !== undefined && shrinks) write('cpu.rt_period_us', period);
}

function percent(value: unknown, name: string): string {
  if (value === 'max') return 'max';
  if (typeof value !== 'number' || !(value >= 0 && value <= 100)) {
    throw invalid(`${name} must be a percentage from 0 to 100 or 'max', not ${shown(value)}`);
  }
  return value.toFixed(2);
}

/** Writes of {@link CpusetLimits}. */
export function planCpuset(limits: CpusetLimits, { version, write, lacks }: PlanContext): void {
  onlyKeys(limits, 'cpuset', ['cpus', 'mems', 'exclusive', 'partition', 'cpuExclusive']);
  const { cpus, mems, exclusive, partition, cpuExclusive } = limits;
  // v1 takes nobody in where one of the two is empty.
  const empty = version === 2;
  const text = (value: string) => (value === '' ? '\n' : value);
  const kind =
    partition === undefined ? undefined : choice(partition, 'cpuset.partition', ['member', 'root', 'isolated']);
  if (kind !== undefined && version === 1) lacks('partition');
  const become = () => version === 2 && kind !== undefined && write('cpuset.cpus.partition', kind, 'partition');
  // What is a partition no longer gives its processors back first: without any it would be an invalid one meanwhile.
  if (kind === 'member') become();
  if (cpus !== undefined) write('cpuset.cpus', text(cpuList(cpus, 'cpuset.cpus', empty)), 'list');
  if (mems !== undefined) write('cpuset.mems', text(cpuList(mems, 'cpuset.mems', empty)), 'list');
  if (exclusive !== undefined) {
    const list = text(cpuList(exclusive, 'cpuset.exclusive', true));
    if (version === 2) write('cpuset.cpus.exclusive', list, 'list');
    else lacks('exclusive');
  }
  if (kind !== 'member') become();
  if (cpuExclusive !== undefined) {
    if (version === 1) write('cpuset.cpu_exclusive', flag(cpuExclusive, 'cpuset.cpuExclusive'));
    else lacks('cpuExclusive');
  }
}
