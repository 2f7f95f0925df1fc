import { KernelError } from './error.js';
import type { Fd } from './fd.js';
import { P, W } from './raw/flags.js';
import { attempt } from './syscall.js';

/** What a process used, from struct rusage. */
export interface ResourceUsage {
  /** Time in user mode, microseconds. */
  userUs: number;
  /** Time in the kernel, microseconds. */
  systemUs: number;
  /** Largest resident set, bytes. */
  maxRssBytes: number;
  /** Page faults without and with I/O. */
  minorFaults: number;
  majorFaults: number;
  /** Context switches by its own waiting, and by pre-emption. */
  voluntarySwitches: number;
  involuntarySwitches: number;
}

/** How a process ended. */
export interface ExitStatus {
  /** Its exit code; null where a signal ended it. */
  code: number | null;
  /** The number of the signal that ended it; null where it exited. */
  signal: number | null;
  /** Whether a core was dumped. */
  coreDumped: boolean;
  /** What it used, its waited-for children included. */
  usage: ResourceUsage;
}

/**
 * Reaps a child, see waitid(2).
 *
 * @param child - its pidfd, or its pid where it cannot have been reaped yet
 * @param options - `block`: wait for its end; default is to look once
 * @returns how it ended; undefined while it runs
 * @throws {@link KernelError} `ECHILD` where it is no child of this process, or was reaped
 */
export function reap(child: Fd | number, options: { block?: boolean } = {}): ExitStatus | undefined {
  const info = Buffer.alloc(128);
  const usage = Buffer.alloc(144);
  const flags = W.EXITED | W.ALL | (options.block ? 0 : W.NOHANG);
  const [type, id] = typeof child === 'number' ? [P.PID, child] : [P.PIDFD, child.number];
  let result: number;
  do result = attempt('waitid', type, id, info, flags, usage);
  while (result === -4);
  if (result < 0)
    throw new KernelError(result, {
      syscall: 'waitid',
      call: `waitid(${type === P.PID ? 'P_PID' : 'P_PIDFD'}, ${id})`,
    });
  if (info.readInt32LE(0) === 0) return undefined;
  const how = info.readInt32LE(8);
  const status = info.readInt32LE(24);
  return {
    code: how === 1 ? status : null,
    signal: how === 1 ? null : status,
    coreDumped: how === 3,
    usage: parseUsage(usage),
  };
}

function parseUsage(bytes: Buffer): ResourceUsage {
  const long = (i: number) => Number(bytes.readBigInt64LE(8 * i));
  return {
    userUs: long(0) * 1e6 + long(1),
    systemUs: long(2) * 1e6 + long(3),
    maxRssBytes: long(4) * 1024,
    minorFaults: long(8),
    majorFaults: long(9),
    voluntarySwitches: long(14),
    involuntarySwitches: long(15),
  };
}
