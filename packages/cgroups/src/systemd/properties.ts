import { deviceNumber } from '../limits/device.js';
import type { CpuLimits, CpusetLimits, IoLimits, Limits, MemoryLimits } from '../limits/limits.js';
import { bytes, members } from '../value.js';
import { type Value, Variant } from './wire/value.js';

/** A property of a unit: a structure `(sv)`. */
export type Property = readonly [name: string, value: Variant];

/** What stands for no limit. */
const INFINITY = 2n ** 64n - 1n;
const SECOND_US = 1_000_000;
const PERIOD_US = 100_000;

/**
 * What systemd knows of some limits, so that it keeps them when it writes a unit's files anew. It knows no bursts, clamps,
 * hugetlb, rdma, misc, dmem; devices are for its own program beside ours.
 *
 * @param limits - checked ones
 * @returns properties of a scope
 */
export function propertiesOf({ cpu, cpuset, memory, io, pids }: Limits): Property[] {
  return [
    ...(cpu ? cpuProperties(cpu) : []),
    ...(cpuset ? cpusetProperties(cpuset) : []),
    ...(memory ? memoryProperties(memory) : []),
    ...(io ? ioProperties(io) : []),
    ...(pids?.max === undefined ? [] : [count('TasksMax', pids.max)]),
  ];
}

function cpuProperties({ max, weight, idle }: CpuLimits): Property[] {
  const found: Property[] = [];
  // Its own conversion of shares is another one: only weights are handed over. 0 stands for idle.
  if (idle) found.push(count('CPUWeight', 0));
  else if (weight !== undefined) found.push(count('CPUWeight', weight));
  if (max === undefined) return found;
  const { quotaUs, periodUs = PERIOD_US } =
    max === 'max'
      ? { quotaUs: max }
      : typeof max === 'number'
        ? // Below a hundredth the period has to be longer.
          { quotaUs: max * SECOND_US, periodUs: SECOND_US }
        : max;
  if (quotaUs === 'max') return [...found, count('CPUQuotaPerSecUSec', 'max')];
  const perSecond = Math.round((quotaUs * SECOND_US) / periodUs);
  const period = typeof max === 'number' && max >= 0.01 ? PERIOD_US : periodUs;
  return [...found, count('CPUQuotaPerSecUSec', perSecond), count('CPUQuotaPeriodUSec', period)];
}

function cpusetProperties({ cpus, mems }: CpusetLimits): Property[] {
  return [
    ...(cpus === undefined ? [] : [mask('AllowedCPUs', cpus)]),
    ...(mems === undefined ? [] : [mask('AllowedMemoryNodes', mems)]),
  ];
}

function memoryProperties({ max, high, low, min, swap, zswap }: MemoryLimits): Property[] {
  const all = {
    MemoryMax: max,
    MemoryHigh: high,
    MemoryLow: low,
    MemoryMin: min,
    MemorySwapMax: swap?.max,
    MemoryZSwapMax: zswap?.max,
  };
  return Object.entries(all).flatMap(([name, value]) => (value === undefined ? [] : [count(name, bytes(value, name))]));
}

function ioProperties({ weight, deviceWeight, max, latency }: IoLimits): Property[] {
  const found: Property[] = [];
  if (weight !== undefined) found.push(count('IOWeight', weight));
  const list = (name: string, entries: readonly [device: string, value: number | 'max'][]) => {
    // The device by its number: its file may lie elsewhere, or nowhere.
    const values = entries.map(([device, value]): Value => [`/dev/block/${deviceNumber(device)}`, word(value)]);
    if (values.length) found.push([name, new Variant('a(st)', values)]);
  };
  list(
    'IODeviceWeight',
    (deviceWeight ?? []).map((entry) => [entry.device, entry.weight]),
  );
  for (const [name, key] of throttles) {
    list(
      name,
      (max ?? []).flatMap((entry): [string, number | 'max'][] => {
        const value = entry[key];
        return value === undefined ? [] : [[entry.device, bytes(value, key)]];
      }),
    );
  }
  list(
    'IODeviceLatencyTargetUSec',
    (latency ?? []).map((entry) => [entry.device, entry.targetUs]),
  );
  return found;
}

const throttles = [
  ['IOReadBandwidthMax', 'rbps'],
  ['IOWriteBandwidthMax', 'wbps'],
  ['IOReadIOPSMax', 'riops'],
  ['IOWriteIOPSMax', 'wiops'],
] as const;

function count(name: string, value: number | 'max'): Property {
  return [name, new Variant('t', word(value))];
}

function word(value: number | 'max'): bigint {
  return value === 'max' ? INFINITY : BigInt(value);
}

/** A bit for each member, the lowest first. */
function mask(name: string, list: string): Property {
  const numbers = members(list);
  const bits = Buffer.alloc(Math.floor(Math.max(-1, ...numbers) / 8) + 1);
  for (const number of numbers) bits[number >> 3] = (bits[number >> 3] ?? 0) | (1 << (number & 7));
  return [name, new Variant('ay', bits)];
}
