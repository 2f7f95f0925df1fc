import { invalid } from '@iso/sys';
import type { DeviceRule } from '../devices/rule.js';
import { bytes, shown } from '../value.js';
import { blkioToIoWeight, ioToBlkioWeight, memswToSwap, sharesToWeight, weightToShares } from './convert.js';
import { deviceNumber } from './device.js';
import type { Limits } from './limits.js';

/** The part of `linux.resources` of an OCI runtime specification that cgroups can do. */
export interface OciResources {
  memory?: {
    limit?: number;
    reservation?: number;
    swap?: number;
    swappiness?: number;
    disableOOMKiller?: boolean;
  };
  cpu?: {
    shares?: number;
    quota?: number;
    burst?: number;
    period?: number;
    realtimeRuntime?: number;
    realtimePeriod?: number;
    cpus?: string;
    mems?: string;
    idle?: number;
  };
  pids?: { limit?: number };
  blockIO?: {
    weight?: number;
    weightDevice?: readonly { major: number; minor: number; weight?: number }[];
    throttleReadBpsDevice?: readonly OciThrottle[];
    throttleWriteBpsDevice?: readonly OciThrottle[];
    throttleReadIOPSDevice?: readonly OciThrottle[];
    throttleWriteIOPSDevice?: readonly OciThrottle[];
  };
  hugepageLimits?: readonly { pageSize: string; limit: number }[];
  devices?: readonly { allow: boolean; type?: string; major?: number; minor?: number; access?: string }[];
  network?: { classID?: number; priorities?: readonly { name: string; priority: number }[] };
  rdma?: Record<string, { hcaHandles?: number; hcaObjects?: number }>;
  /** v2 files as they are: `{ "memory.high": "1000000" }`; see {@link fromOCI}. */
  unified?: Record<string, string>;
}

/** A throttle of one device. */
export interface OciThrottle {
  major: number;
  minor: number;
  rate: number;
}

/**
 * Limits from an OCI document, as runc and crun understand it: -1 is no limit, 0 is unset, `swap` is memory and swap together,
 * `reservation` is `memory.low`, shares and blkio weights are converted. `unified` is not part of the result: write its files by
 * {@link Cgroup.write} after the limits. That they are limits is checked here: `cgroup.procs` would move processes, `cgroup.kill` end them.
 *
 * @param resources - `linux.resources`
 * @returns limits
 * @throws RangeError (`ERR_OUT_OF_RANGE`) where memory and swap do not go together; `TypeError` (`ERR_INVALID_ARG_VALUE`) for numbers that
 *   are no integers, and a file of `unified` that is none of a controller, but for cgroup.max.descendants and cgroup.max.depth
 *
 * @example
 * ```ts
 * import { fromOCI } from '@iso/cgroups';
 * const { cpu, memory } = fromOCI({ cpu: { shares: 1024 }, memory: { limit: 100, swap: 300 } });
 * if (cpu?.weight !== 100 || memory?.swap?.max !== 200) throw new Error('not converted');
 * ```
 */
export function fromOCI(resources: OciResources): Limits {
  if (typeof resources !== 'object' || resources === null)
    throw invalid(`resources must be an object, not ${shown(resources)}`);
  checkNumbers(resources, 'resources');
  const { memory, cpu, pids, blockIO, hugepageLimits, devices, network, rdma, unified = {} } = resources;
  for (const file of Object.keys(unified))
    if (!isLimit(file)) throw invalid(`unified: ${JSON.stringify(file)} is no file of a controller`);
  const limits: Limits = {};
  if (memory) {
    const swap = memswToSwap(memory.swap, memory.limit);
    limits.memory = compact({
      max: limit(memory.limit),
      low: limit(memory.reservation),
      swap: swap === undefined ? undefined : { max: swap },
      swappiness: memory.swappiness,
      oomKillDisable: memory.disableOOMKiller || undefined,
    });
  }
  if (cpu) {
    const { shares = 0, quota = 0, period = 0, realtimeRuntime, realtimePeriod } = cpu;
    const idle = cpu.idle === undefined ? undefined : cpu.idle !== 0;
    limits.cpu = compact({
      weight: shares === 0 || idle ? undefined : sharesToWeight(shares),
      max:
        quota === 0 && period === 0
          ? undefined
          : { quotaUs: quota > 0 ? quota : ('max' as const), ...(period ? { periodUs: period } : {}) },
      burstUs: cpu.burst,
      idle,
      rt:
        realtimeRuntime || realtimePeriod
          ? compact({ runtimeUs: realtimeRuntime, periodUs: realtimePeriod })
          : undefined,
    });
    if (cpu.cpus || cpu.mems) limits.cpuset = compact({ cpus: cpu.cpus || undefined, mems: cpu.mems || undefined });
  }
  if (pids?.limit) limits.pids = { max: pids.limit < 0 ? 'max' : pids.limit };
  if (blockIO) limits.io = fromBlockIO(blockIO);
  if (hugepageLimits?.length) {
    limits.hugetlb = Object.fromEntries(hugepageLimits.map(({ pageSize, limit }) => [pageSize, { max: limit }]));
  }
  if (devices) {
    limits.devices = devices.map(({ allow, type = 'a', major, minor, access }) => ({
      allow,
      type: type === 'u' ? 'c' : (type as 'a' | 'b' | 'c'),
      // There -1 is every number.
      ...(type === 'a' ? {} : { major: wildcard(major), minor: wildcard(minor) }),
      ...(access ? { access } : {}),
    }));
  }
  if (network?.classID) limits.net_cls = { classid: network.classID };
  if (network?.priorities?.length) {
    limits.net_prio = {
      ifpriomap: Object.fromEntries(network.priorities.map(({ name, priority }) => [name, priority])),
    };
  }
  if (rdma) {
    limits.rdma = Object.fromEntries(
      Object.entries(rdma).map(([device, { hcaHandles, hcaObjects }]) => [
        device,
        compact({ hcaHandle: hcaHandles, hcaObject: hcaObjects }),
      ]),
    );
  }
  return compact(limits);
}

/** A limit that is no number would be none. */
function checkNumbers(value: unknown, path: string): void {
  if (typeof value === 'number' && !Number.isInteger(value)) throw invalid(`${path} must be an integer, not ${value}`);
  if (typeof value !== 'object' || value === null) return;
  for (const [name, one] of Object.entries(value)) checkNumbers(one, `${path}.${name}`);
}

/** All others that every group has are about its processes and groups, as are those of v1 without a prefix: `tasks`, `release_agent`. */
function isLimit(file: string): boolean {
  return /^(?!cgroup\.)\w+\.[\w.]+$|^cgroup\.max\.(descendants|depth)$/.test(file);
}

type Throttle = 'rbps' | 'wbps' | 'riops' | 'wiops';

const throttles: readonly [keyof NonNullable<OciResources['blockIO']>, Throttle][] = [
  ['throttleReadBpsDevice', 'rbps'],
  ['throttleWriteBpsDevice', 'wbps'],
  ['throttleReadIOPSDevice', 'riops'],
  ['throttleWriteIOPSDevice', 'wiops'],
];

function fromBlockIO(blockIO: NonNullable<OciResources['blockIO']>): NonNullable<Limits['io']> {
  const max = new Map<string, { device: string } & Partial<Record<Throttle, number | 'max'>>>();
  for (const [field, key] of throttles) {
    for (const { major, minor, rate } of (blockIO[field] as readonly OciThrottle[] | undefined) ?? []) {
      const device = `${major}:${minor}`;
      const entry = max.get(device) ?? { device };
      entry[key] = rate === 0 ? 'max' : rate;
      max.set(device, entry);
    }
  }
  const weights = (blockIO.weightDevice ?? []).flatMap(({ major, minor, weight }) =>
    weight ? [{ device: `${major}:${minor}`, weight: blkioToIoWeight(weight) }] : [],
  );
  return compact({
    weight: blockIO.weight ? blkioToIoWeight(blockIO.weight) : undefined,
    deviceWeight: weights.length ? weights : undefined,
    max: max.size ? [...max.values()] : undefined,
  });
}

/**
 * Limits as an OCI document has them. What it has no words for (`memory.high`, bursts of uclamp, latency …) goes to `unified`, under
 * the names of v2's files.
 *
 * @param limits - limits
 * @returns `linux.resources`
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for limits that are none; CgroupError `noSuchDevice` for a path that lies on none
 */
export function toOCI(limits: Limits): OciResources {
  const { memory, cpu, cpuset, pids, io, hugetlb, devices, net_cls, net_prio, rdma } = limits;
  const unified: Record<string, string> = {};
  const result: OciResources = {};
  const size = (value: number | string | undefined, name: string) => {
    if (value === undefined) return undefined;
    const amount = bytes(value, name);
    return amount === 'max' ? -1 : amount;
  };
  if (memory) {
    const limit = size(memory.max, 'memory.max');
    const swap = size(memory.swap?.max, 'memory.swap.max');
    // 0 is unset there.
    if (limit === 0) unified['memory.max'] = '0';
    // v1's sum needs the limit on memory; without it only v2's own file can say it.
    const summable = swap !== undefined && (limit ? limit > 0 || swap === -1 : false);
    const sum = !summable ? undefined : swap === -1 ? -1 : (limit as number) + swap;
    if (swap !== undefined && !summable) unified['memory.swap.max'] = swap === -1 ? 'max' : String(swap);
    result.memory = compact({
      limit: limit || undefined,
      reservation: size(memory.low, 'memory.low'),
      swap: sum,
      swappiness: memory.swappiness,
      disableOOMKiller: memory.oomKillDisable,
    });
    if (memory.high !== undefined) unified['memory.high'] = String(bytes(memory.high, 'memory.high'));
    if (memory.min !== undefined) unified['memory.min'] = String(bytes(memory.min, 'memory.min'));
    if (memory.swap?.high !== undefined)
      unified['memory.swap.high'] = String(bytes(memory.swap.high, 'memory.swap.high'));
    if (memory.oomGroup !== undefined) unified['memory.oom.group'] = memory.oomGroup ? '1' : '0';
    if (memory.zswap?.max !== undefined)
      unified['memory.zswap.max'] = String(bytes(memory.zswap.max, 'memory.zswap.max'));
    if (memory.zswap?.writeback !== undefined) unified['memory.zswap.writeback'] = memory.zswap.writeback ? '1' : '0';
  }
  if (cpu || cpuset) {
    const max = typeof cpu?.max === 'number' ? { quotaUs: Math.round(cpu.max * 100_000), periodUs: 100_000 } : cpu?.max;
    result.cpu = compact({
      shares: cpu?.weight === undefined ? undefined : weightToShares(cpu.weight),
      quota: max === undefined ? undefined : max === 'max' || max.quotaUs === 'max' ? -1 : max.quotaUs,
      period: max === undefined || max === 'max' ? undefined : max.periodUs,
      burst: cpu?.burstUs,
      realtimeRuntime: cpu?.rt?.runtimeUs,
      realtimePeriod: cpu?.rt?.periodUs,
      cpus: cpuset?.cpus,
      mems: cpuset?.mems,
      idle: cpu?.idle === undefined ? undefined : cpu.idle ? 1 : 0,
    });
    if (cpu?.uclamp?.min !== undefined) unified['cpu.uclamp.min'] = String(cpu.uclamp.min);
    if (cpu?.uclamp?.max !== undefined) unified['cpu.uclamp.max'] = String(cpu.uclamp.max);
    if (cpu?.weightNice !== undefined) unified['cpu.weight.nice'] = String(cpu.weightNice);
    if (cpuset?.partition !== undefined) unified['cpuset.cpus.partition'] = cpuset.partition;
    if (cpuset?.exclusive !== undefined) unified['cpuset.cpus.exclusive'] = cpuset.exclusive;
  }
  if (pids?.max === 0) unified['pids.max'] = '0';
  else if (pids?.max !== undefined) result.pids = { limit: pids.max === 'max' ? -1 : pids.max };
  if (io) {
    result.blockIO = toBlockIO(io);
    if (io.bfqWeight !== undefined) unified['io.bfq.weight'] = String(io.bfqWeight);
    if (io.prioClass !== undefined) unified['io.prio.class'] = io.prioClass;
  }
  if (hugetlb) {
    result.hugepageLimits = Object.entries(hugetlb).flatMap(([pageSize, { max, rsvdMax }]) => {
      const limit = size(max, `hugetlb.${pageSize}`);
      if (rsvdMax !== undefined)
        unified[`hugetlb.${pageSize}.rsvd.max`] = String(bytes(rsvdMax, `hugetlb.${pageSize}.rsvdMax`));
      // There it is unsigned.
      if (limit === -1) unified[`hugetlb.${pageSize}.max`] = 'max';
      return limit === undefined || limit === -1 ? [] : [{ pageSize, limit }];
    });
  }
  if (limits.cgroup?.maxDepth !== undefined) unified['cgroup.max.depth'] = String(limits.cgroup.maxDepth);
  if (limits.cgroup?.maxDescendants !== undefined)
    unified['cgroup.max.descendants'] = String(limits.cgroup.maxDescendants);
  if (devices) result.devices = devices.map((rule: DeviceRule) => ({ ...rule, access: rule.access ?? 'rwm' }) as never);
  if (net_cls || net_prio) {
    result.network = compact({
      classID: net_cls?.classid,
      priorities:
        net_prio?.ifpriomap && Object.entries(net_prio.ifpriomap).map(([name, priority]) => ({ name, priority })),
    });
  }
  if (rdma) {
    const count = (value: number | 'max' | undefined) => (value === 'max' ? undefined : value);
    result.rdma = Object.fromEntries(
      Object.entries(rdma).map(([device, { hcaHandle, hcaObject }]) => [
        device,
        compact({ hcaHandles: count(hcaHandle), hcaObjects: count(hcaObject) }),
      ]),
    );
  }
  if (Object.keys(unified).length) result.unified = unified;
  return result;
}

function toBlockIO(io: NonNullable<Limits['io']>): NonNullable<OciResources['blockIO']> {
  const numbers = (device: string) => {
    const number = /^\d+:\d+$/.test(device) ? device : deviceNumber(device);
    const [major = 0, minor = 0] = number.split(':').map(Number);
    return { major, minor };
  };
  const throttle = (key: Throttle) => {
    const list = (io.max ?? []).flatMap((entry) => {
      const value = entry[key];
      if (value === undefined) return [];
      const rate = bytes(value, `io.max.${key}`);
      return [{ ...numbers(entry.device), rate: rate === 'max' ? 0 : rate }];
    });
    return list.length ? list : undefined;
  };
  return compact({
    weight: io.weight === undefined ? undefined : ioToBlkioWeight(io.weight),
    weightDevice: io.deviceWeight?.map(({ device, weight }) => ({
      ...numbers(device),
      weight: ioToBlkioWeight(weight),
    })),
    throttleReadBpsDevice: throttle('rbps'),
    throttleWriteBpsDevice: throttle('wbps'),
    throttleReadIOPSDevice: throttle('riops'),
    throttleWriteIOPSDevice: throttle('wiops'),
  });
}

/** -1 is no limit, 0 is unset. */
function limit(value: number | undefined): number | 'max' | undefined {
  return value === undefined || value === 0 ? undefined : value < 0 ? 'max' : value;
}

function wildcard(number: number | undefined): number | undefined {
  return number === undefined || number < 0 ? undefined : number;
}

/** Without the keys that have no value. */
function compact<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as never;
}
