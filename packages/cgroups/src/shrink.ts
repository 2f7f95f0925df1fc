import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { invalid, UnsupportedError } from '@iso/sys';
import { CgroupError, E } from './error.js';
import type { CgroupDirectory } from './raw/directory.js';
import { bytes } from './value.js';
import type { WaitOptions } from './wait.js';

/** Reclaim happens on the thread that asks for it: this much at a time. */
const CHUNK = 16 * 2 ** 20;

/**
 * Brings the use of memory below a limit that is to come, without anybody being killed: the group is slowed down above it
 * (`memory.high`) and reclaimed from. v1 reclaims when the limit is written.
 *
 * @param directory - the group's, for the memory controller
 * @param limit - bytes
 * @throws CgroupError `belowUsage` where so much does not go within the time; everything is as before then
 */
export async function shrink(directory: CgroupDirectory, limit: number, options: WaitOptions): Promise<void> {
  const { signal, timeoutMs = 10_000 } = options;
  const deadline = Date.now() + timeoutMs;
  if (directory.version === 1) return shrinkLegacy(directory, limit, deadline, signal);
  const high = directory.read('memory.high') ?? 'max';
  if (high === 'max' || Number(high) > limit) directory.write('memory.high', String(limit));
  try {
    for (let stuck = 0; ; ) {
      const used = Number(directory.read('memory.current'));
      if (used <= limit) return;
      signal?.throwIfAborted();
      if (Date.now() > deadline || stuck >= 8) throw belowUsage(directory, limit, used);
      reclaim(directory, Math.min(CHUNK, used - limit));
      const less = Number(directory.read('memory.current')) < used;
      stuck = less ? 0 : stuck + 1;
      // Where nothing goes at once, something may be given back soon.
      if (less) await turn();
      else await sleep(2 ** stuck);
    }
  } finally {
    directory.write('memory.high', high);
  }
}

async function shrinkLegacy(
  directory: CgroupDirectory,
  limit: number,
  deadline: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  for (let wait = 1; ; wait = Math.min(wait * 2, 100)) {
    signal?.throwIfAborted();
    const used = Number(directory.read('memory.usage_in_bytes'));
    const before = directory.read('memory.limit_in_bytes') ?? '-1';
    try {
      directory.write('memory.limit_in_bytes', String(limit));
      // The plan writes it in its place.
      directory.write('memory.limit_in_bytes', Number(before) >= 2 ** 60 ? '-1' : before);
      return;
    } catch (error) {
      if (!CgroupError.is(error, 'EBUSY')) throw error;
      if (Date.now() > deadline) throw belowUsage(directory, limit, used);
    }
    await sleep(wait);
  }
}

/**
 * Takes memory back from a group now, see `memory.reclaim`. What is dropped is read again when it is needed.
 *
 * @param directory - the group's
 * @param amount - bytes
 * @returns whether so much went
 */
function reclaim(directory: CgroupDirectory, amount: number): boolean {
  try {
    directory.write('memory.reclaim', String(bytes(amount, 'amount')));
    return true;
  } catch (error) {
    if (CgroupError.is(error, 'EAGAIN')) return false;
    // Before Linux 5.19 there is no such file; lowering memory.high reclaims.
    if (CgroupError.is(error, 'ENOENT')) return false;
    throw error;
  }
}

/**
 * Takes so much memory back from a group.
 *
 * @param directory - the group's
 * @param amount - bytes, or text with a suffix
 * @returns whether so much went
 * @throws UnsupportedError before Linux 5.19
 */
export function reclaimNow(directory: CgroupDirectory, amount: number | string): boolean {
  const number = bytes(amount, 'amount');
  if (number === 'max') throw invalid('amount must be a number of bytes');
  if (!directory.has('memory.reclaim')) {
    throw new UnsupportedError('memory.reclaim', 'no such file', { since: '5.19' });
  }
  return reclaim(directory, number);
}

/** The error for a limit below what is used. */
export function belowUsage(directory: CgroupDirectory, limit: number, used: number): CgroupError {
  return new CgroupError(E.BUSY, {
    syscall: 'write',
    call: `limiting memory to ${limit} bytes`,
    path: directory.path,
    reason: 'belowUsage',
    hint: `${used} bytes are in use: choose lowering 'reclaim' to make it fit, or 'force' to let the OOM killer do so`,
    info: { limit, used },
  });
}
