import { KernelError } from './error.js';
import type { Fd } from './fd.js';
import { P, W } from './raw/flags.js';
import { layouts } from './raw/layouts.js';
import { attempt } from './syscall.js';

/** What a process used, from struct rusage. */
export interface ResourceUsage {
  /** Time in user mode, microseconds. */
  userUs: number;
  /** Time in the kernel, microseconds. */
  systemUs: number;
  /**
   * Largest resident set, bytes. Never less than what this process had when it launched it, whose memory it shared until its exec: for
   * small programs that is the figure. A cgroup's figure is exact.
   */
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
  const { siginfo } = layouts;
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
  if (info.readInt32LE(siginfo.si_signo) === 0) return undefined;
  const how = info.readInt32LE(siginfo.si_code);
  const status = info.readInt32LE(siginfo.si_status);
  return {
    code: how === 1 ? status : null,
    signal: how === 1 ? null : status,
    coreDumped: how === 3,
    usage: parseUsage(usage),
  };
}

/** Filled and read within one call each. */
const info = Buffer.alloc(layouts.siginfo.size);
const usage = Buffer.alloc(layouts.rusage.size);

function parseUsage(bytes: Buffer): ResourceUsage {
  const { rusage } = layouts;
  const long = (at: number) => Number(bytes.readBigInt64LE(at));
  const microseconds = (at: number) => long(at) * 1e6 + long(at + 8);
  return {
    userUs: microseconds(rusage.ru_utime),
    systemUs: microseconds(rusage.ru_stime),
    maxRssBytes: long(rusage.ru_maxrss) * 1024,
    minorFaults: long(rusage.ru_minflt),
    majorFaults: long(rusage.ru_majflt),
    voluntarySwitches: long(rusage.ru_nvcsw),
    involuntarySwitches: long(rusage.ru_nivcsw),
  };
}
