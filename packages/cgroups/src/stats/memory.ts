import type { Counters } from './file.js';
import type { StatFiles } from './open.js';

/**
 * `memory.stat` by the kernel's keys in camel case. Bytes, or counts where the name is of an event (`pgfault`). Which there are
 * differs by version and kernel; keys that are not named here are there all the same.
 */
export interface MemoryStat extends Counters {
  anon?: number;
  file?: number;
  kernel?: number;
  kernelStack?: number;
  pagetables?: number;
  secPagetables?: number;
  percpu?: number;
  sock?: number;
  vmalloc?: number;
  shmem?: number;
  zswap?: number;
  zswapped?: number;
  fileMapped?: number;
  fileDirty?: number;
  fileWriteback?: number;
  swapcached?: number;
  anonThp?: number;
  fileThp?: number;
  shmemThp?: number;
  inactiveAnon?: number;
  activeAnon?: number;
  inactiveFile?: number;
  activeFile?: number;
  unevictable?: number;
  slabReclaimable?: number;
  slabUnreclaimable?: number;
  slab?: number;
  workingsetRefaultAnon?: number;
  workingsetRefaultFile?: number;
  pgscan?: number;
  pgsteal?: number;
  pgfault?: number;
  pgmajfault?: number;
  /** v1 */
  cache?: number;
  /** v1 */
  rss?: number;
  /** v1 */
  mappedFile?: number;
  /** v1 */
  swap?: number;
  /** v1 */
  totalCache?: number;
  /** v1 */
  totalRss?: number;
  /** v1 */
  totalInactiveFile?: number;
}

/** How often something happened at the limits, see `memory.events`. */
export interface MemoryEvents extends Counters {
  low?: number;
  high?: number;
  max?: number;
  oom?: number;
  oomKill?: number;
  oomGroupKill?: number;
}

/** One of v1's four limits. */
export interface LegacyLimit {
  usage: number | undefined;
  maxUsage: number | undefined;
  limit: number | 'max' | undefined;
  failcnt: number | undefined;
}

/** Memory, in bytes. */
export interface MemoryStats {
  current: number | undefined;
  peak: number | undefined;
  max: number | 'max' | undefined;
  high: number | 'max' | undefined;
  low: number | 'max' | undefined;
  min: number | 'max' | undefined;
  oomGroup: boolean | undefined;
  swap:
    | {
        current: number | undefined;
        peak: number | undefined;
        max: number | 'max' | undefined;
        high: number | 'max' | undefined;
        events: { high?: number; max?: number; fail?: number } | undefined;
      }
    | undefined;
  zswap: { current: number | undefined; max: number | 'max' | undefined; writeback: boolean | undefined } | undefined;
  events: MemoryEvents | undefined;
  /** Of the group itself, without those below. */
  eventsLocal: MemoryEvents | undefined;
  stat: MemoryStat | undefined;
  /** What is in use and cannot be dropped at once: `current` without inactive file pages; tmpfs counts. */
  workingSet: number | undefined;
  /** v1's files that v2 has no twin of. */
  legacy: LegacyMemory | undefined;
}

/** See {@link MemoryStats.legacy}. */
export interface LegacyMemory {
  failcnt: number | undefined;
  memsw: LegacyLimit | undefined;
  kmem: LegacyLimit | undefined;
  kmemTcp: LegacyLimit | undefined;
  softLimit: number | 'max' | undefined;
  swappiness: number | undefined;
  oomControl: { oomKillDisable?: number; underOom?: number; oomKill?: number } | undefined;
  useHierarchy: boolean | undefined;
}

/** Reads memory figures. */
export function memoryStats(files: StatFiles): MemoryStats | undefined {
  return files.version === 2 ? unified(files) : legacy(files);
}

function unified(files: StatFiles): MemoryStats | undefined {
  const file = (name: string) => files.file(`memory.${name}`);
  const current = file('current').number();
  const stat = file('stat').counters<MemoryStat>();
  if (stat === undefined) return undefined;
  const swap = file('swap.current').number();
  const zswap = file('zswap.current').number();
  return {
    current,
    peak: file('peak').number(),
    max: file('max').limit(),
    high: file('high').limit(),
    low: file('low').limit(),
    min: file('min').limit(),
    oomGroup: file('oom.group').flag(),
    swap:
      swap === undefined
        ? undefined
        : {
            current: swap,
            peak: file('swap.peak').number(),
            max: file('swap.max').limit(),
            high: file('swap.high').limit(),
            events: file('swap.events').counters(),
          },
    zswap:
      zswap === undefined
        ? undefined
        : { current: zswap, max: file('zswap.max').limit(), writeback: file('zswap.writeback').flag() },
    events: file('events').counters<MemoryEvents>(),
    eventsLocal: file('events.local').counters<MemoryEvents>(),
    stat,
    workingSet: without(current, stat.inactiveFile),
    legacy: undefined,
  };
}

function legacy(files: StatFiles): MemoryStats | undefined {
  const file = (name: string) => files.file(`memory.${name}`);
  const current = file('usage_in_bytes').number();
  if (current === undefined) return undefined;
  const stat = file('stat').counters<MemoryStat>();
  const max = file('limit_in_bytes').limit();
  const memsw = legacyLimit(files, 'memsw.');
  const oomControl = file('oom_control').counters<NonNullable<LegacyMemory['oomControl']>>();
  const softLimit = file('soft_limit_in_bytes').limit();
  return {
    current,
    peak: file('max_usage_in_bytes').number(),
    max,
    high: undefined,
    low: softLimit,
    min: undefined,
    oomGroup: undefined,
    swap: memsw && {
      current: without(memsw.usage, current),
      // The two peaks are not of one moment: their difference means nothing.
      peak: undefined,
      max: memsw.limit === 'max' || max === 'max' ? 'max' : without(memsw.limit, max),
      high: undefined,
      events: undefined,
    },
    zswap: undefined,
    events: oomControl?.oomKill === undefined ? undefined : { oomKill: oomControl.oomKill },
    eventsLocal: undefined,
    stat,
    workingSet: without(current, stat?.totalInactiveFile),
    legacy: {
      failcnt: file('failcnt').number(),
      memsw,
      kmem: legacyLimit(files, 'kmem.'),
      kmemTcp: legacyLimit(files, 'kmem.tcp.'),
      softLimit,
      swappiness: file('swappiness').number(),
      oomControl,
      useHierarchy: file('use_hierarchy').flag(),
    },
  };
}

function legacyLimit(files: StatFiles, infix: string): LegacyLimit | undefined {
  const usage = files.file(`memory.${infix}usage_in_bytes`).number();
  if (usage === undefined) return undefined;
  return {
    usage,
    maxUsage: files.file(`memory.${infix}max_usage_in_bytes`).number(),
    limit: files.file(`memory.${infix}limit_in_bytes`).limit(),
    failcnt: files.file(`memory.${infix}failcnt`).number(),
  };
}

/** The two are read one after the other: never below 0. */
function without(all: number | undefined, part: number | undefined): number | undefined {
  return all === undefined || part === undefined ? undefined : Math.max(0, all - part);
}

/**
 * Reads `memory.numa_stat`: by kind of memory, bytes (v1: pages) by node.
 */
export function numaStats(files: StatFiles): Record<string, Record<string, number>> | undefined {
  const text = files.file('memory.numa_stat').text();
  if (text === undefined) return undefined;
  const result: Record<string, Record<string, number>> = {};
  for (const line of text.split('\n')) {
    const [first = '', ...words] = line.split(' ');
    // v2: "anon N0=1"; v1: "total=1 N0=1".
    const [kind = '', total] = first.split('=');
    const nodes = Object.fromEntries(words.map((word) => [word.split('=')[0], Number(word.split('=')[1])]));
    result[kind] = total === undefined ? nodes : { total: Number(total), ...nodes };
  }
  return result;
}
