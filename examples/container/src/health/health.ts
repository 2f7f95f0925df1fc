import type { HealthPlan } from './config.js';

/** What one probe found, in docker's form. */
export interface Probe {
  /** ISO 8601. */
  Start: string;
  End: string;
  /** 0: it is well; -1: it could not be run, or took too long. */
  ExitCode: number;
  Output: string;
}

/** Whether a container is well, in docker's form. */
export interface Health {
  Status: 'starting' | 'healthy' | 'unhealthy';
  /** Failures since the last success. */
  FailingStreak: number;
  /** The last probes, the oldest first. */
  Log: readonly Probe[];
}

/** Nothing is known of it yet. */
export const STARTING: Health = { Status: 'starting', FailingStreak: 0, Log: [] };

/** So many probes are kept. */
const MOST_KEPT = 5;

/**
 * What is known after one more probe.
 *
 * @param before - what was known
 * @param probe - what it found
 * @param plan - what counts
 * @param ranMs - how long the container had run when the probe began
 */
export function judge(before: Health, probe: Probe, plan: HealthPlan, ranMs: number): Health {
  const Log = [...before.Log, probe].slice(-MOST_KEPT);
  if (probe.ExitCode === 0) return { Status: 'healthy', FailingStreak: 0, Log };
  if (before.Status === 'starting' && ranMs < plan.startPeriod) return { ...before, Log };
  const FailingStreak = before.FailingStreak + 1;
  return { Status: FailingStreak >= plan.retries ? 'unhealthy' : before.Status, FailingStreak, Log };
}

/**
 * When the next probe is due.
 *
 * @param health - what is known
 * @param plan - its intervals
 * @param ranMs - how long the container has run
 * @returns milliseconds from now
 */
export function untilNext({ Status }: Health, plan: HealthPlan, ranMs: number): number {
  return Status === 'starting' && ranMs < plan.startPeriod ? plan.startInterval : plan.interval;
}
