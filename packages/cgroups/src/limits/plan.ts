import { invalid, UnsupportedError } from '@iso/sys';
import type { Controller, Version } from '../controller.js';
import { type DeviceRule, exactRules, listWrites } from '../devices/rule.js';
import { bytes, choice, entries, integer, integerOrMax, oneWord, onlyKeys, shown } from '../value.js';
import { planCpu, planCpuset } from './cpu.js';
import { planIo } from './io.js';
import type { Limits } from './limits.js';
import { planMemory } from './memory.js';

/**
 * How a control file reads back: `value` as written; `bytes` rounded down; `list` of processors; `entry` one line of many, by
 * its first word; `partition` may say that it is invalid; `command` not at all.
 */
export type Shape = 'value' | 'bytes' | 'list' | 'entry' | 'partition' | 'command';

/** One write to a control file. */
export interface Write {
  controller: Controller | 'cgroup';
  version: Version;
  file: string;
  value: string;
  shape: Shape;
  /** The file may be missing: no swap accounting. */
  optional?: boolean;
  /** For `bytes`: what the kernel rounds to, at the most. */
  unit?: number;
  /** Opened with O_NONBLOCK: the kernel does not reclaim before it returns. */
  nonblock?: boolean;
  /** v2 devices: no file but a BPF program of these rules. */
  rules?: readonly DeviceRule[];
}

/** What a plan looks at, and where it goes. */
export interface PlanContext {
  /** The version of the hierarchy that a controller is on. */
  version: Version;
  controller: Controller | 'cgroup';
  /** What a control file says now; undefined where there is none, or no group yet. */
  read(file: string): string | undefined;
  /** Adds a write. */
  write(file: string, value: string | number, shape?: Shape, more?: Pick<Write, 'optional' | 'unit' | 'rules'>): void;
  /** A limit that this version has no twin of. */
  lacks(limit: string): void;
}

/** How {@link plan} plans. */
export interface PlanOptions {
  /** Version of each controller's hierarchy; a number for all. */
  version: Version | ((controller: Controller | 'cgroup') => Version | undefined);
  /** Reads what a file says now, so that writes come in an order that the kernel takes. */
  read?: (controller: Controller | 'cgroup', file: string) => string | undefined;
  /** What to do about limits that a version has no twin of; default `throw`. */
  onUnsupported?: 'throw' | 'ignore';
}

/**
 * The writes that limits need, in order, as data: nothing is written.
 *
 * @param limits - what is wanted
 * @param options - for which version
 * @returns writes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for limits that are none; UnsupportedError for those that a version lacks
 *
 * @example
 * ```ts
 * import { plan } from '@iso/cgroups';
 * const [write] = plan({ cpu: { weight: 100 } }, { version: 1 });
 * if (write?.file !== 'cpu.shares' || write.value !== '1024') throw new Error('1024 is the default');
 * ```
 */
export function plan(limits: Limits, options: PlanOptions): Write[] {
  onlyKeys(limits, 'limits', Object.keys(planners));
  onlyKeys(options, 'the options of plan', ['version', 'read', 'onUnsupported']);
  if (![1, 2].includes(options.version as number) && typeof options.version !== 'function') {
    throw invalid(`version must be 1, 2 or a function, not ${shown(options.version)}`);
  }
  if (options.onUnsupported !== undefined) choice(options.onUnsupported, 'onUnsupported', ['throw', 'ignore']);
  const writes: Write[] = [];
  for (const controller of Object.keys(planners) as (keyof Limits)[]) {
    if (limits[controller] === undefined) continue;
    const version = typeof options.version === 'number' ? options.version : options.version(controller);
    if (version === undefined) {
      throw new UnsupportedError(`limits.${controller}`, 'no hierarchy here has this controller');
    }
    const context: PlanContext = {
      version,
      controller,
      read: (file) => options.read?.(controller, file),
      write: (file, value, shape = 'value', more = {}) =>
        writes.push({ controller, version, file, value: String(value), shape, ...more }),
      lacks: (limit) => {
        if (options.onUnsupported === 'ignore') return;
        throw new UnsupportedError(`${controller}.${limit}`, `cgroup v${version} has no such limit`);
      },
    };
    (planners[controller] as (limits: unknown, context: PlanContext) => void)(limits[controller], context);
  }
  return writes;
}

/** In this order, so that what is refused most often comes last and little is rolled back. */
const planners: { [K in keyof Required<Limits>]: (limits: Required<Limits>[K], context: PlanContext) => void } = {
  cgroup: (limits, context) => {
    onlyKeys(limits, 'cgroup', ['maxDepth', 'maxDescendants']);
    if (context.version === 1) return context.lacks('maxDepth');
    const { maxDepth, maxDescendants } = limits;
    if (maxDepth !== undefined) context.write('cgroup.max.depth', integerOrMax(maxDepth, 'cgroup.maxDepth'));
    if (maxDescendants !== undefined) {
      context.write('cgroup.max.descendants', integerOrMax(maxDescendants, 'cgroup.maxDescendants'));
    }
  },
  cpuset: planCpuset,
  cpu: planCpu,
  memory: planMemory,
  pids: (limits, { write }) => {
    onlyKeys(limits, 'pids', ['max']);
    if (limits.max !== undefined) write('pids.max', integerOrMax(limits.max, 'pids.max'));
  },
  io: planIo,
  hugetlb: (limits, { version, write }) => {
    for (const [size, values] of entries(limits, 'hugetlb')) {
      const unit = bytes(size.replace(/B$/, ''), `page size of hugetlb.${size}`);
      onlyKeys(values, `hugetlb.${size}`, ['max', 'rsvdMax']);
      for (const [key, infix] of [
        ['rsvdMax', 'rsvd.'],
        ['max', ''],
      ] as const) {
        const value = values[key];
        if (value === undefined) continue;
        const file = `hugetlb.${oneWord(size, 'page size')}.${infix}${version === 2 ? 'max' : 'limit_in_bytes'}`;
        const amount = bytes(value, `hugetlb.${size}.${key}`);
        write(file, version === 1 && amount === 'max' ? '-1' : amount, 'bytes', { unit: Number(unit) });
      }
    }
  },
  rdma: (limits, { write }) => {
    for (const [device, values] of entries(limits, 'rdma')) {
      onlyKeys(values, `rdma.${device}`, ['hcaHandle', 'hcaObject']);
      const { hcaHandle, hcaObject } = values;
      const words = [
        ...(hcaHandle === undefined ? [] : [`hca_handle=${integerOrMax(hcaHandle, 'rdma hcaHandle')}`]),
        ...(hcaObject === undefined ? [] : [`hca_object=${integerOrMax(hcaObject, 'rdma hcaObject')}`]),
      ];
      if (words.length) write('rdma.max', `${oneWord(device, 'rdma device')} ${words.join(' ')}`, 'entry');
    }
  },
  misc: (limits, { write }) => {
    for (const [key, value] of entries(limits, 'misc')) {
      write('misc.max', `${oneWord(key, 'misc resource')} ${integerOrMax(value, `misc.${key}`)}`, 'entry');
    }
  },
  dmem: (limits, { write }) => {
    for (const [region, values] of entries(limits, 'dmem')) {
      onlyKeys(values, `dmem.${region}`, ['max', 'low', 'min']);
      if (!/^[^\s]+$/.test(region)) throw invalid(`dmem has no region ${JSON.stringify(region)}`);
      for (const key of ['min', 'low', 'max'] as const) {
        const value = values[key];
        if (value !== undefined) write(`dmem.${key}`, `${region} ${bytes(value, `dmem.${region}.${key}`)}`, 'entry');
      }
    }
  },
  net_cls: (limits, context) => {
    onlyKeys(limits, 'net_cls', ['classid']);
    if (context.version === 2) return context.lacks('classid');
    if (limits.classid !== undefined) {
      context.write('net_cls.classid', integer(limits.classid, 'net_cls.classid', 0, 0xffffffff));
    }
  },
  net_prio: (limits, context) => {
    onlyKeys(limits, 'net_prio', ['ifpriomap']);
    const { ifpriomap = {} } = limits;
    const priorities = entries(ifpriomap, 'net_prio.ifpriomap');
    if (context.version === 2) return context.lacks('ifpriomap');
    for (const [name, priority] of priorities) {
      const value = integer(priority, `net_prio.ifpriomap.${name}`, 0, 0xffffffff);
      context.write('net_prio.ifpriomap', `${oneWord(name, 'network interface')} ${value}`, 'entry');
    }
  },
  devices: (rules, { version, write }) => {
    const exact = exactRules(rules);
    if (version === 2) {
      const count = exact.rules.length;
      return write('bpf', `${exact.allow ? 'allow' : 'deny'} all, then ${count} rules`, 'command', { rules });
    }
    for (const { file, line } of listWrites(rules)) write(file, line, 'command');
  },
};
