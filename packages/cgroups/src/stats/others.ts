import type { StatFiles } from './open.js';

/** Tasks: processes and threads. */
export interface PidsStats {
  current: number | undefined;
  peak: number | undefined;
  max: number | 'max' | undefined;
  /** How often a fork failed at the limit, of this group or below. */
  events: { max?: number } | undefined;
  eventsLocal: { max?: number } | undefined;
}

/** Reads figures on tasks. */
export function pidsStats(files: StatFiles): PidsStats | undefined {
  const current = files.file('pids.current').number();
  if (current === undefined) return undefined;
  return {
    current,
    peak: files.file('pids.peak').number(),
    max: files.file('pids.max').limit(),
    events: files.file('pids.events').counters(),
    eventsLocal: files.file('pids.events.local').counters(),
  };
}

/** Huge pages of one size, bytes. */
export interface HugetlbPages {
  current: number | undefined;
  max: number | 'max' | undefined;
  rsvd: { current: number | undefined; max: number | 'max' | undefined } | undefined;
  events: { max?: number } | undefined;
  eventsLocal: { max?: number } | undefined;
  /** v1. */
  failcnt: number | undefined;
  maxUsage: number | undefined;
}

/** By page size: `2MB`. */
export type HugetlbStats = Record<string, HugetlbPages>;

/** Page sizes are the machine's. */
const sizes = new Map<1 | 2, string[]>();

/** Reads figures on huge pages. */
export function hugetlbStats(files: StatFiles): HugetlbStats {
  const { version } = files;
  let known = sizes.get(version);
  if (!known) {
    const pattern = version === 2 ? /^hugetlb\.(\w+)\.current$/ : /^hugetlb\.(\w+)\.usage_in_bytes$/;
    known = files.names().flatMap((name) => pattern.exec(name)?.[1] ?? []);
    sizes.set(version, known);
  }
  const [usage, limit] = version === 2 ? ['current', 'max'] : ['usage_in_bytes', 'limit_in_bytes'];
  return Object.fromEntries(
    known.map((size) => {
      const file = (name: string) => files.file(`hugetlb.${size}.${name}`);
      const reserved = file(`rsvd.${usage}`).number();
      return [
        size,
        {
          current: file(usage as string).number(),
          max: file(limit as string).limit(),
          rsvd: reserved === undefined ? undefined : { current: reserved, max: file(`rsvd.${limit}`).limit() },
          events: version === 2 ? file('events').counters() : undefined,
          eventsLocal: version === 2 ? file('events.local').counters() : undefined,
          failcnt: version === 1 ? file('failcnt').number() : undefined,
          maxUsage: version === 1 ? file('max_usage_in_bytes').number() : undefined,
        },
      ];
    }),
  );
}

/** By device. */
export type RdmaStats = Record<string, { current: RdmaResources | undefined; max: RdmaResources | undefined }>;

/** Handles and objects of a host channel adapter. */
export interface RdmaResources {
  hcaHandle?: number | 'max';
  hcaObject?: number | 'max';
}

/** Reads figures on RDMA devices. */
export function rdmaStats(files: StatFiles): RdmaStats | undefined {
  const max = files.file('rdma.max').entries();
  const current = files.file('rdma.current').entries();
  if (!max && !current) return undefined;
  return keyed({ ...max, ...current }, (key) => ({ current: current?.[key], max: max?.[key] }) as RdmaStats[string]);
}

/** By resource. */
export type MiscStats = Record<
  string,
  {
    current: number | undefined;
    peak: number | undefined;
    max: number | 'max' | undefined;
    capacity: number | undefined;
    /** How often it was refused. */
    maxEvents: number | undefined;
  }
>;

/** Reads figures on miscellaneous resources. */
export function miscStats(files: StatFiles): MiscStats | undefined {
  const read = (name: string) => files.file(`misc.${name}`).entries();
  const [current, capacity] = [read('current'), read('capacity')];
  if (!current && !capacity) return undefined;
  const [peak, max, events] = [read('peak'), read('max'), read('events')];
  return keyed({ ...current, ...capacity }, (key) => ({
    current: current?.[key]?.value as number | undefined,
    peak: peak?.[key]?.value as number | undefined,
    max: max?.[key]?.value as number | 'max' | undefined,
    capacity: capacity?.[key]?.value as number | undefined,
    maxEvents: events?.[`${key}.max`]?.value as number | undefined,
  }));
}

/** By memory region, bytes. */
export type DmemStats = Record<
  string,
  {
    current: number | undefined;
    min: number | 'max' | undefined;
    low: number | 'max' | undefined;
    max: number | 'max' | undefined;
    capacity: number | undefined;
  }
>;

/** Reads figures on device memory. */
export function dmemStats(files: StatFiles): DmemStats | undefined {
  const read = (name: string) => files.file(`dmem.${name}`).entries();
  const [current, capacity] = [read('current'), read('capacity')];
  if (!current && !capacity) return undefined;
  const [min, low, max] = [read('min'), read('low'), read('max')];
  type Limit = number | 'max' | undefined;
  return keyed({ ...current, ...capacity }, (key) => ({
    current: current?.[key]?.value as number | undefined,
    min: min?.[key]?.value as Limit,
    low: low?.[key]?.value as Limit,
    max: max?.[key]?.value as Limit,
    capacity: capacity?.[key]?.value as number | undefined,
  }));
}

function keyed<T>(keys: object, make: (key: string) => T): Record<string, T> {
  return Object.fromEntries(Object.keys(keys).map((key) => [key, make(key)]));
}
