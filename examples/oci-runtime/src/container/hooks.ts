import { type RunOptions, run } from '@iso/process';
import { variablesOf } from '../config/process.js';
import type { Config, HookConfig, HookPoint } from '../config/spec.js';
import { RuntimeError } from '../error.js';

/**
 * Runs the hooks of a point, one after the other, each with the container's state on its standard input.
 *
 * @param config - of the bundle
 * @param point - which
 * @param state - of the container
 * @param inside - for hooks that run in the container: what each is launched with
 * @throws {@link RuntimeError} where one fails, or takes longer than its time
 */
export async function runHooks(
  config: Config,
  point: HookPoint,
  state: object,
  inside?: () => Promise<RunOptions> | RunOptions,
): Promise<void> {
  for (const hook of config.hooks?.[point] ?? []) await runHook(hook, point, state, await inside?.());
}

async function runHook(hook: HookConfig, point: HookPoint, state: object, inside: RunOptions = {}): Promise<void> {
  const { path, args = [path], env = [], timeout } = hook;
  try {
    await run(path, args.slice(1), {
      ...inside,
      argv0: args[0] ?? path,
      env: variablesOf(env),
      input: JSON.stringify(state),
      ...(timeout === undefined ? {} : { timeout: timeout * 1000, killSignal: 'SIGKILL' as const }),
    });
  } catch (error) {
    throw new RuntimeError(`the ${point} hook ${path} failed: ${(error as Error).message}`, { cause: error });
  }
}
