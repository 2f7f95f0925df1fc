import type { RunConfig } from '@iso/unionfs';
import { UsageError } from '../options.js';

/** Options on whether it is well, as typed; times in milliseconds. */
export interface HealthFlags {
  healthCmd?: string;
  healthInterval?: number;
  healthTimeout?: number;
  healthStartPeriod?: number;
  healthStartInterval?: number;
  healthRetries?: number;
  /** False for `--no-healthcheck`. */
  healthcheck?: boolean;
}

/** How it is found out whether a container is well, in docker's form: times in nanoseconds. */
export type HealthConfig = NonNullable<RunConfig['Healthcheck']> & {
  /** What runs a `CMD-SHELL`, where the image says so. */
  Shell?: string[];
};

/** The same, to be done. */
export interface HealthPlan {
  command: [file: string, ...args: string[]];
  /** Milliseconds, as all of these: from the end of one probe to the next. */
  interval: number;
  timeout: number;
  /** Failures do not count so long, until the first success. */
  startPeriod: number;
  /** The interval meanwhile. */
  startInterval: number;
  /** So many failures in a row make it unhealthy. */
  retries: number;
}

const NANOSECONDS = 1_000_000;

/**
 * What a container's options say, and where they do not, its image.
 *
 * @param flags - as typed
 * @param image - its config
 * @returns undefined where neither says anything
 * @throws {@link UsageError} for options that do not go together
 */
export function healthConfig(flags: HealthFlags, image: RunConfig = {}): HealthConfig | undefined {
  const { healthCmd, healthInterval, healthTimeout, healthStartPeriod, healthStartInterval, healthRetries } = flags;
  // As docker, nothing and 0 are what was not said.
  const time = (name: string, ms: number | undefined) => (ms ? { [name]: Math.round(ms * NANOSECONDS) } : {});
  const own: HealthConfig = {
    ...(healthCmd ? { Test: ['CMD-SHELL', healthCmd] } : {}),
    ...time('Interval', healthInterval),
    ...time('Timeout', healthTimeout),
    ...time('StartPeriod', healthStartPeriod),
    ...time('StartInterval', healthStartInterval),
    ...(healthRetries ? { Retries: healthRetries } : {}),
  };
  const any = Object.keys(own).length > 0;
  if (flags.healthcheck === false) {
    if (any) throw new UsageError('conflicting options: --no-healthcheck and --health-*');
    return { Test: ['NONE'] };
  }
  if (!any && !image.Healthcheck) return undefined;
  return { ...image.Healthcheck, ...own, ...(image.Shell?.length ? { Shell: image.Shell } : {}) };
}

/**
 * What is to be done of it, with docker's defaults.
 *
 * @param config - as kept; whoever wrote the image may have written anything
 * @returns undefined where there is nothing to do
 */
export function healthPlan(config: HealthConfig | undefined): HealthPlan | undefined {
  const test: unknown = config?.Test;
  if (!config || !Array.isArray(test) || !test.every((word): word is string => typeof word === 'string'))
    return undefined;
  const [kind, ...words] = test;
  const shell = kind === 'CMD-SHELL' ? (config.Shell ?? ['/bin/sh', '-c']) : [];
  const [file, ...args] = [...shell, ...words];
  if ((kind !== 'CMD' && kind !== 'CMD-SHELL') || words.length === 0 || !file) return undefined;
  const or = (given: number | undefined, usual: number) => (Number(given) > 0 ? Number(given) : usual);
  const time = (given: number | undefined, seconds: number) => or(given, seconds * 1e9) / NANOSECONDS;
  return {
    command: [file, ...args],
    interval: time(config.Interval, 30),
    timeout: time(config.Timeout, 30),
    startPeriod: time(config.StartPeriod, 0),
    startInterval: time(config.StartInterval, 5),
    retries: or(config.Retries, 3),
  };
}
