import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { type Bytes, blkioToIoWeight, type Cgroup, type IoLimits, type Limits, sharesToWeight } from '@iso/cgroups';
import { UsageError } from './options.js';
import type { Shape } from './shape.js';

/** A throttle of a block device. */
export interface DeviceRate {
  /** Its file (`/dev/sda`), its number (`8:0`), or a path on it. */
  device: string;
  /** A second; 0 is no limit. */
  rate: number;
}

/** What a container may use of the machine, by docker's names. What is not named is not limited. */
export interface Resources {
  /** Memory in bytes, 6 MiB at least. */
  memory?: number;
  /** Memory and swap together, in bytes; -1 as much swap as there is. Default: no swap. Needs `memory`. */
  memorySwap?: number;
  /** Bytes that are spared where others can be reclaimed from instead; below `memory`. */
  memoryReservation?: number;
  /** v1 only: what runs out of memory waits instead of being killed. Needs `memory`. */
  oomKillDisable?: boolean;
  /** Processors' worth of CPU time. */
  cpus?: number;
  /** Share in comparison to others, 2 to 262144; 1024 is what everybody has. */
  cpuShares?: number;
  /** Processors, for example `0-2,4`. */
  cpusetCpus?: string;
  /** Memory nodes. */
  cpusetMems?: string;
  /** Most processes and threads; -1 no limit. */
  pidsLimit?: number;
  /** Share of I/O in comparison to others, 10 to 1000. */
  blkioWeight?: number;
  /** Bytes a second that are read. */
  deviceReadBps?: readonly DeviceRate[];
  /** Bytes a second that are written. */
  deviceWriteBps?: readonly DeviceRate[];
  /** Reads a second. */
  deviceReadIops?: readonly DeviceRate[];
  /** Writes a second. */
  deviceWriteIops?: readonly DeviceRate[];
}

/** What each of them is. */
export const resourceShape: Readonly<Record<keyof Resources, Shape>> = {
  memory: 'number',
  memorySwap: 'number',
  memoryReservation: 'number',
  oomKillDisable: 'true or false',
  cpus: 'number',
  cpuShares: 'number',
  cpusetCpus: 'text',
  cpusetMems: 'text',
  pidsLimit: 'number',
  blkioWeight: 'number',
  deviceReadBps: 'a list of objects',
  deviceWriteBps: 'a list of objects',
  deviceReadIops: 'a list of objects',
  deviceWriteIops: 'a list of objects',
};

/** Docker's least. Much less, and the kernel's own memory for the start already ends it. */
const LEAST_MEMORY = 6 * 2 ** 20;

/** What a running container has, where a limit depends on another one. */
export interface Present {
  /** Bytes of memory. */
  memory: Bytes;
  /** Bytes of swap. */
  swap: Bytes;
}

/**
 * Limits of a cgroup.
 *
 * @param resources - as the user has them
 * @param present - of a container that runs
 * @returns limits
 * @throws {@link UsageError} for what makes no sense, before anything is done
 */
export function limitsOf(resources: Resources, present?: Present): Limits {
  const { cpus: processors, cpuShares, cpusetCpus, cpusetMems, pidsLimit } = resources;
  const memory = memoryLimits(resources, present);
  const io = ioLimits(resources);
  if (processors !== undefined) within('cpus', processors, 0.01, cpus().length);
  if (cpuShares !== undefined) whole('cpu-shares', cpuShares, 2, 262_144);
  if (pidsLimit !== undefined && pidsLimit !== -1) whole('pids-limit', pidsLimit, 1, 2 ** 22);
  for (const [name, list] of [
    ['cpuset-cpus', cpusetCpus],
    ['cpuset-mems', cpusetMems],
  ] as const) {
    if (list !== undefined && !/^\d{1,5}(-\d{1,5})?(,\d{1,5}(-\d{1,5})?)*$/.test(list))
      throw new UsageError(`--${name} is a list such as 0-2,4, not ${JSON.stringify(list)}`);
  }
  return {
    ...(memory ? { memory } : {}),
    ...(io ? { io } : {}),
    ...(processors === undefined && cpuShares === undefined
      ? {}
      : {
          cpu: {
            ...(processors === undefined ? {} : { max: processors }),
            ...(cpuShares === undefined ? {} : { weight: sharesToWeight(cpuShares) }),
          },
        }),
    ...(cpusetCpus === undefined && cpusetMems === undefined
      ? {}
      : {
          cpuset: {
            ...(cpusetCpus === undefined ? {} : { cpus: cpusetCpus }),
            ...(cpusetMems === undefined ? {} : { mems: cpusetMems }),
          },
        }),
    ...(pidsLimit === undefined ? {} : { pids: { max: pidsLimit === -1 ? 'max' : pidsLimit } }),
  };
}

/**
 * Gives v1 the very shares: many of them have one weight, which is what the rest of the limits are in.
 *
 * @param cgroup - whose limits are set
 * @param resources - as the user has them
 */
export function setShares(cgroup: Cgroup, { cpuShares }: Resources): void {
  if (cpuShares !== undefined && cgroup.read('cpu.shares') !== undefined) cgroup.write('cpu.shares', String(cpuShares));
}

function memoryLimits(resources: Resources, present: Present | undefined): Limits['memory'] {
  const { memory, memorySwap, memoryReservation, oomKillDisable } = resources;
  if (memory !== undefined) least('memory', memory);
  if (memoryReservation !== undefined) least('memory-reservation', memoryReservation);
  const most = memory ?? present?.memory ?? 'max';
  if (memoryReservation !== undefined && most !== 'max' && memoryReservation > Number(most))
    throw new UsageError(`--memory-reservation is above the limit on memory: ${memoryReservation} bytes of ${most}`);
  if (oomKillDisable && most === 'max')
    throw new UsageError('--oom-kill-disable needs --memory: else it is the machine that runs out of it');
  const swap = swapLimit(memorySwap, most) ?? (memory === undefined ? undefined : (present?.swap ?? 0));
  if (memory === undefined && swap === undefined && memoryReservation === undefined && !oomKillDisable)
    return undefined;
  return {
    ...(memory === undefined ? {} : { max: memory }),
    ...(swap === undefined ? {} : { swap: { max: swap } }),
    ...(memoryReservation === undefined ? {} : { low: memoryReservation }),
    ...(oomKillDisable ? { oomKillDisable } : {}),
  };
}

function swapLimit(memorySwap: number | undefined, memory: Bytes): Bytes | undefined {
  if (memorySwap === undefined) return undefined;
  if (memory === 'max') throw new UsageError('--memory-swap is memory and swap together: it needs --memory');
  if (memorySwap === -1) return 'max';
  if (!(Number.isSafeInteger(memorySwap) && memorySwap >= Number(memory)))
    throw new UsageError(`--memory-swap is memory and swap together: ${memorySwap} is below the ${memory} of --memory`);
  return memorySwap - Number(memory);
}

function ioLimits(resources: Resources): IoLimits | undefined {
  const { blkioWeight } = resources;
  if (blkioWeight !== undefined) whole('blkio-weight', blkioWeight, 10, 1000);
  const max = new Map<string, NonNullable<IoLimits['max']>[number]>();
  for (const [key, rates] of [
    ['rbps', resources.deviceReadBps],
    ['wbps', resources.deviceWriteBps],
    ['riops', resources.deviceReadIops],
    ['wiops', resources.deviceWriteIops],
  ] as const) {
    for (const { device, rate } of rates ?? []) {
      if (device.startsWith('/') && !existsSync(device)) throw new UsageError(`the device ${device} is not there`);
      whole(`the rate of ${device}`, rate, 0, Number.MAX_SAFE_INTEGER);
      max.set(device, { ...(max.get(device) ?? { device }), [key]: rate === 0 ? 'max' : rate });
    }
  }
  if (blkioWeight === undefined && max.size === 0) return undefined;
  return {
    ...(blkioWeight === undefined ? {} : { weight: blkioToIoWeight(blkioWeight) }),
    ...(max.size === 0 ? {} : { max: [...max.values()] }),
  };
}

function least(name: string, bytes: number): void {
  if (!Number.isSafeInteger(bytes) || bytes < LEAST_MEMORY)
    throw new UsageError(`--${name} is 6 MiB at the least, not ${bytes} bytes`);
}

function within(name: string, value: number, min: number, max: number): void {
  if (!(value >= min && value <= max)) throw new UsageError(`${name} is a number from ${min} to ${max}, not ${value}`);
}

function whole(name: string, value: number, min: number, max: number): void {
  if (!Number.isSafeInteger(value)) throw new UsageError(`${name} is a whole number, not ${value}`);
  within(name, value, min, max);
}
