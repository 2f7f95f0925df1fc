import { setTimeout as sleep } from 'node:timers/promises';
import { invalid } from '@iso/sys';
import { onlyKeys, shown } from '../value.js';
import { LONGEST_MS } from '../wait.js';
import type { Stats, StatsPart } from './stats.js';

/** What a group did between two looks. */
export interface Rates {
  /** Length of the interval, seconds. */
  seconds: number;
  /** The later of the two. */
  stats: Stats;
  cpu:
    | {
        /** Processors kept busy. */
        cores: number | undefined;
        userCores: number | undefined;
        systemCores: number | undefined;
        /** Share of the periods in which it was throttled, 0 to 1. */
        throttledRatio: number | undefined;
        /** Seconds throttled in each second, over all processors. */
        throttledSeconds: number | undefined;
      }
    | undefined;
  memory:
    | {
        workingSet: number | undefined;
        /** Bytes that `current` grew in a second. */
        growth: number | undefined;
        /** Pages scanned by reclaim in a second. */
        pgscan: number | undefined;
        pgmajfault: number | undefined;
      }
    | undefined;
  /** By device, a second. */
  io: Record<string, { rbps: number; wbps: number; riops: number; wiops: number }> | undefined;
  /** Share of the interval that tasks stood still, 0 to 1. */
  pressure: Partial<Record<'cpu' | 'memory' | 'io' | 'irq', { some?: number; full?: number }>> | undefined;
}

/**
 * What a group did between two looks.
 *
 * @param before - the earlier
 * @param after - the later
 * @returns rates; undefined where one of the two lacks the figure
 */
export function rates(before: Stats, after: Stats): Rates {
  const seconds = (after.atMs - before.atMs) / 1000;
  const per = (a: number | undefined, b: number | undefined, divisor = 1) =>
    a === undefined || b === undefined || seconds <= 0 ? undefined : (b - a) / divisor / seconds;
  const [cpu, cpuBefore] = [after.cpu, before.cpu];
  const [memory, memoryBefore] = [after.memory, before.memory];
  return {
    seconds,
    stats: after,
    cpu: cpu && {
      cores: per(cpuBefore?.usageUsec, cpu.usageUsec, 1e6),
      userCores: per(cpuBefore?.userUsec, cpu.userUsec, 1e6),
      systemCores: per(cpuBefore?.systemUsec, cpu.systemUsec, 1e6),
      throttledRatio: ratio(
        difference(cpuBefore?.nrThrottled, cpu.nrThrottled),
        difference(cpuBefore?.nrPeriods, cpu.nrPeriods),
      ),
      throttledSeconds: per(cpuBefore?.throttledUsec, cpu.throttledUsec, 1e6),
    },
    memory: memory && {
      workingSet: memory.workingSet,
      growth: per(memoryBefore?.current, memory.current),
      pgscan: per(memoryBefore?.stat?.pgscan, memory.stat?.pgscan),
      pgmajfault: per(memoryBefore?.stat?.pgmajfault, memory.stat?.pgmajfault),
    },
    io:
      after.io &&
      Object.fromEntries(
        Object.entries(after.io.devices).map(([device, now]) => {
          const then = before.io?.devices[device];
          return [
            device,
            {
              // A device that was not there has done nothing yet.
              rbps: per(then?.rbytes ?? 0, now.rbytes ?? 0) ?? 0,
              wbps: per(then?.wbytes ?? 0, now.wbytes ?? 0) ?? 0,
              riops: per(then?.rios ?? 0, now.rios ?? 0) ?? 0,
              wiops: per(then?.wios ?? 0, now.wios ?? 0) ?? 0,
            },
          ];
        }),
      ),
    pressure: after.pressure && pressureShares(before, after, seconds),
  };
}

function pressureShares(before: Stats, after: Stats, seconds: number): NonNullable<Rates['pressure']> {
  const result: NonNullable<Rates['pressure']> = {};
  for (const resource of ['cpu', 'memory', 'io', 'irq'] as const) {
    const [then, now] = [before.pressure?.[resource], after.pressure?.[resource]];
    if (!then || !now) continue;
    result[resource] = {};
    for (const kind of ['some', 'full'] as const) {
      const grown = difference(then[kind]?.totalUsec, now[kind]?.totalUsec);
      if (grown !== undefined && seconds > 0) result[resource][kind] = Math.min(1, grown / 1e6 / seconds);
    }
  }
  return result;
}

/**
 * Looks at a group again and again.
 *
 * @param group - anything with `stats()`
 * @param options - `intervalMs` (default 1000), `only` some parts, `signal` ends it
 * @returns rates of each interval, without end
 * @throws the signal's reason; what `stats()` throws when the group is gone
 *
 * @example
 * ```ts root
 * import { Cgroup, sample } from '@iso/cgroups';
 * const job = await Cgroup.create(`sample-${process.pid}`);
 * for await (const { cpu } of sample(job, { intervalMs: 20, only: ['cpu'] })) {
 *   if (cpu?.cores !== 0) throw new Error('nobody is in it');
 *   break;
 * }
 * await job.remove();
 * ```
 */
export async function* sample(
  group: { stats(options: { only?: readonly StatsPart[] }): Stats },
  options: { intervalMs?: number; only?: readonly StatsPart[]; signal?: AbortSignal } = {},
): AsyncGenerator<Rates, never, void> {
  onlyKeys(options, 'the options of sample', ['intervalMs', 'only', 'signal']);
  const { intervalMs = 1000, only, signal } = options;
  // Node takes longer ones for 1 ms, which would keep a processor busy.
  if (!(typeof intervalMs === 'number' && intervalMs > 0 && intervalMs <= LONGEST_MS)) {
    throw invalid(`intervalMs must be above 0, up to ${LONGEST_MS}, not ${shown(intervalMs)}`);
  }
  const look = () => group.stats(only ? { only } : {});
  let before = look();
  for (;;) {
    await sleep(intervalMs, undefined, signal ? { signal } : {});
    const after = look();
    yield rates(before, after);
    before = after;
  }
}

function difference(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : b - a;
}

function ratio(part: number | undefined, all: number | undefined): number | undefined {
  return part === undefined || all === undefined ? undefined : all === 0 ? 0 : part / all;
}
