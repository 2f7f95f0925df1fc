import { invalid } from '@iso/sys';
import { bytes, flag, integer, onlyKeys } from '../value.js';
import type { MemoryLimits } from './limits.js';
import type { PlanContext } from './plan.js';

/** Pages are not larger anywhere. */
const PAGE = 65_536;

/** Writes of {@link MemoryLimits}. */
export function planMemory(limits: MemoryLimits, context: PlanContext): void {
  onlyKeys(limits, 'memory', [
    'max',
    'high',
    'low',
    'min',
    'swap',
    'oomGroup',
    'zswap',
    'swappiness',
    'oomKillDisable',
  ]);
  if (limits.swap !== undefined) onlyKeys(limits.swap, 'memory.swap', ['max', 'high']);
  if (limits.zswap !== undefined) onlyKeys(limits.zswap, 'memory.zswap', ['max', 'writeback']);
  if (context.version === 2) planUnified(limits, context);
  else planLegacy(limits, context);
}

function planUnified(limits: MemoryLimits, { read, write, lacks }: PlanContext): void {
  const { max, high, low, min, swap = {}, oomGroup, zswap = {}, swappiness, oomKillDisable } = limits;
  const limit = (file: string, value: number | string | undefined, optional = false) => {
    if (value === undefined) return;
    const amount = bytes(value, file);
    // Without swap accounting there is no swap to be limited, and "none" or "all" of it are true.
    const more = optional && (amount === 0 || amount === 'max') ? { optional } : {};
    write(file, amount, 'bytes', { unit: PAGE, ...more });
  };
  limit('memory.min', min);
  limit('memory.low', low);
  const amount = max === undefined ? undefined : bytes(max, 'memory.max');
  const before = read('memory.max');
  const raises = amount === 'max' || (before !== undefined && before !== 'max' && Number(before) <= Number(amount));
  // A swap limit that is in place before memory is squeezed keeps it from spilling.
  if (!raises) limit('memory.swap.max', swap.max, true);
  limit('memory.high', high);
  limit('memory.max', max);
  if (raises) limit('memory.swap.max', swap.max, true);
  limit('memory.swap.high', swap.high);
  limit('memory.zswap.max', zswap.max);
  if (zswap.writeback !== undefined) {
    write('memory.zswap.writeback', flag(zswap.writeback, 'memory.zswap.writeback'));
  }
  if (oomGroup !== undefined) write('memory.oom.group', flag(oomGroup, 'memory.oomGroup'));
  if (swappiness !== undefined) lacks('swappiness');
  if (oomKillDisable !== undefined) lacks('oomKillDisable');
}

const LIMIT = 'memory.limit_in_bytes';
const MEMSW = 'memory.memsw.limit_in_bytes';

/** v1's second limit is on memory and swap together, and never below the first. */
function planLegacy(limits: MemoryLimits, { read, write, lacks }: PlanContext): void {
  const { max, high, low, min, swap = {}, oomGroup, zswap, swappiness, oomKillDisable } = limits;
  const put = (file: string, value: number | 'max', optional = false) =>
    write(file, value === 'max' ? '-1' : value, 'bytes', { unit: PAGE, ...(optional ? { optional } : {}) });
  const memory = max === undefined ? undefined : bytes(max, 'memory.max');
  const swapMax = swap.max === undefined ? undefined : bytes(swap.max, 'memory.swap.max');
  const old = { memory: legacyBytes(read(LIMIT)), memsw: legacyBytes(read(MEMSW)) };
  const base = memory ?? old.memory;
  if (swapMax !== undefined && swapMax !== 'max' && base === 'max') {
    throw invalid('memory.swap.max needs memory.max on cgroup v1, where the limit is on both together');
  }
  const memsw = swapMax === undefined ? undefined : sum(base, swapMax);
  if (memory !== undefined && memsw === undefined && above(memory, old.memsw)) {
    throw invalid('memory.max is above the limit on memory and swap that is in place: set memory.swap.max too');
  }
  const optional = swapMax === 0 || swapMax === 'max';
  const raises = memory !== undefined && memsw !== undefined && above(memory, old.memsw);
  if (raises) put(MEMSW, memsw, optional);
  if (memory !== undefined) put(LIMIT, memory);
  if (memsw !== undefined && !raises) put(MEMSW, memsw, optional);
  if (low !== undefined) put('memory.soft_limit_in_bytes', bytes(low, 'memory.low'));
  if (swappiness !== undefined) write('memory.swappiness', integer(swappiness, 'memory.swappiness', 0, 200));
  if (oomKillDisable !== undefined) {
    write('memory.oom_control', flag(oomKillDisable, 'memory.oomKillDisable'), 'command');
  }
  if (high !== undefined) lacks('high');
  if (min !== undefined) lacks('min');
  if (swap.high !== undefined) lacks('swap.high');
  if (oomGroup !== undefined) lacks('oomGroup');
  if (zswap !== undefined) lacks('zswap');
}

/** Whether a limit is larger than another. */
function above(a: number | 'max', b: number | 'max'): boolean {
  return b !== 'max' && (a === 'max' || a > b);
}

function sum(a: number | 'max', b: number | 'max'): number | 'max' {
  return a === 'max' || b === 'max' ? 'max' : a + b;
}

/**
 * A v1 limit: what stands for none is the largest number of pages, above 2^53.
 *
 * @param text - of the control file
 * @returns bytes
 */
export function legacyBytes(text: string | undefined): number | 'max' {
  return text === undefined || text === 'max' || Number(text) >= 2 ** 60 ? 'max' : Number(text);
}
