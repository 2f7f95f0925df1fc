import { invalid } from '@iso/sys';

/** Limits, with the meaning of v2; `'max'` is no limit. */
export interface Limits {
  memory?: {
    /** Bytes, or text with a suffix (`'256M'`). */
    max?: number | string;
  };
  pids?: {
    /** Most tasks: processes and threads. */
    max?: number | 'max';
  };
  cpu?: {
    /** Processors' worth of time, for example 0.5. */
    max?: number | 'max';
  };
}

/** One write to a control file. */
export interface Write {
  controller: 'memory' | 'pids' | 'cpu';
  file: string;
  value: string;
  /** The file may be missing: swap accounting is optional. */
  optional?: boolean;
}

const PERIOD_US = 100_000;

/**
 * The writes that limits need, in order.
 *
 * @param limits - what is wanted
 * @param version - of the hierarchy
 * @returns writes
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for limits that are none
 */
export function plan(limits: Limits, version: 1 | 2): Write[] {
  const writes: Write[] = [];
  const memory = limits.memory?.max;
  if (memory !== undefined) {
    const bytes = parseBytes(memory);
    if (version === 2) {
      writes.push({ controller: 'memory', file: 'memory.max', value: String(bytes) });
      // Without this the limit is a limit on memory that moves to swap.
      writes.push({
        controller: 'memory',
        file: 'memory.swap.max',
        value: bytes === 'max' ? 'max' : '0',
        optional: true,
      });
    } else {
      const value = bytes === 'max' ? '-1' : String(bytes);
      writes.push({ controller: 'memory', file: 'memory.limit_in_bytes', value });
      writes.push({ controller: 'memory', file: 'memory.memsw.limit_in_bytes', value, optional: true });
    }
  }
  const pids = limits.pids?.max;
  if (pids !== undefined) {
    if (pids !== 'max' && !(Number.isInteger(pids) && pids >= 0))
      throw invalid(`pids.max must be a whole number, not ${String(pids)}`);
    writes.push({ controller: 'pids', file: 'pids.max', value: String(pids) });
  }
  const cpu = limits.cpu?.max;
  if (cpu !== undefined) {
    if (cpu !== 'max' && !(cpu >= 0.01)) throw invalid(`cpu.max must be processors, 0.01 or more, not ${String(cpu)}`);
    const quota = cpu === 'max' ? 'max' : String(Math.round(cpu * PERIOD_US));
    if (version === 2) writes.push({ controller: 'cpu', file: 'cpu.max', value: `${quota} ${PERIOD_US}` });
    else {
      writes.push({ controller: 'cpu', file: 'cpu.cfs_period_us', value: String(PERIOD_US) });
      writes.push({ controller: 'cpu', file: 'cpu.cfs_quota_us', value: quota === 'max' ? '-1' : quota });
    }
  }
  return writes;
}

function parseBytes(value: number | string): number | 'max' {
  if (value === 'max') return value;
  const match = /^(\d{1,15})([KMGT]?)$/i.exec(String(value));
  const unit = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 }[match?.[2]?.toUpperCase() ?? ''];
  const bytes = match && unit ? Number(match[1]) * unit : Number.NaN;
  if (!Number.isSafeInteger(bytes)) throw invalid(`not a number of bytes: ${JSON.stringify(value)}`);
  return bytes;
}
