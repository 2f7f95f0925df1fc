import { posix } from 'node:path';
import type { Healthcheck, RunConfig } from '../image/document.js';
import { type BuildStep, portRange } from './step.js';

/** What images are built from where there is nothing below. */
export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const DEFAULT_SHELL: readonly string[] = ['/bin/sh', '-c'];

/** What of a stage has been said so far. */
export interface StageConfig {
  run: RunConfig;
  author: string | undefined;
  /** Variables of the build. */
  args: ReadonlyMap<string, string>;
  /** The stage itself has said what containers run: what is below no longer counts. */
  ownCmd: boolean;
}

/** Program and arguments of a line for the shell, or as they are. */
export function commandOf(config: RunConfig, command: string | readonly string[]): string[] {
  return typeof command === 'string' ? [...(config.Shell ?? DEFAULT_SHELL), command] : [...command];
}

/** A directory of the image, as a step names it. */
export function pathOf(config: RunConfig, path: string): string {
  return posix.resolve('/', config.WorkingDir ?? '', path);
}

/** Variables of the image, by name. */
export function variables(config: RunConfig): Map<string, string> {
  const all = new Map<string, string>();
  for (const variable of config.Env ?? []) {
    const at = variable.indexOf('=');
    if (at > 0) all.set(variable.slice(0, at), variable.slice(at + 1));
  }
  return all;
}

/**
 * What a step says of the image without making anything.
 *
 * @param stage - what has been said before
 * @param step - checked
 * @returns what has been said now
 */
export function configure(stage: StageConfig, step: BuildStep): StageConfig {
  const { run } = stage;
  const change = (more: RunConfig) => ({ ...stage, run: { ...run, ...more } });
  if ('arg' in step) {
    const args = new Map(stage.args);
    for (const [name, value] of Object.entries(step.arg)) {
      if (value === undefined) args.delete(name);
      else args.set(name, value);
    }
    return { ...stage, args };
  }
  if ('env' in step) {
    const all = variables(run);
    for (const [name, value] of Object.entries(step.env)) all.set(name, value);
    return change({ Env: [...all].map(([name, value]) => `${name}=${value}`) });
  }
  if ('workdir' in step) return change({ WorkingDir: pathOf(run, step.workdir) });
  if ('user' in step) return change({ User: step.user });
  if ('cmd' in step) return { ...change({ Cmd: commandOf(run, step.cmd) }), ownCmd: true };
  if ('entrypoint' in step) {
    const { Cmd, ...rest } = run;
    // The command below was meant for another entrypoint.
    const kept = stage.ownCmd && Cmd ? { Cmd } : {};
    return { ...stage, run: { ...rest, ...kept, Entrypoint: commandOf(run, step.entrypoint) } };
  }
  if ('labels' in step) return change({ Labels: { ...run.Labels, ...step.labels } });
  if ('expose' in step) {
    const ports = step.expose.flatMap((range) => portRange(range) ?? []);
    return change({ ExposedPorts: { ...run.ExposedPorts, ...empty(ports) } });
  }
  if ('volumes' in step) return change({ Volumes: { ...run.Volumes, ...empty(step.volumes) } });
  if ('shell' in step) return change({ Shell: [...step.shell] });
  if ('stopSignal' in step) return change({ StopSignal: step.stopSignal });
  if ('healthcheck' in step) return change({ Healthcheck: healthcheck(step.healthcheck) });
  if ('onBuild' in step) {
    const { OnBuild: _, ...rest } = run;
    return { ...stage, run: { ...rest, ...(step.onBuild.length ? { OnBuild: [...step.onBuild] } : {}) } };
  }
  if ('author' in step) return { ...stage, author: step.author };
  return stage;
}

function empty(names: readonly string[]): Record<string, object> {
  return Object.fromEntries(names.map((name) => [name, {}]));
}

const NANOSECONDS = 1_000_000;

function healthcheck(check: Healthcheck): NonNullable<RunConfig['Healthcheck']> {
  if (check.test === 'none') return { Test: ['NONE'] };
  const time = (name: string, milliseconds: number | undefined) =>
    milliseconds === undefined ? {} : { [name]: Math.round(milliseconds * NANOSECONDS) };
  return {
    Test: typeof check.test === 'string' ? ['CMD-SHELL', check.test] : ['CMD', ...check.test],
    ...time('Interval', check.interval),
    ...time('Timeout', check.timeout),
    ...time('StartPeriod', check.startPeriod),
    ...time('StartInterval', check.startInterval),
    ...(check.retries === undefined ? {} : { Retries: check.retries }),
  };
}
