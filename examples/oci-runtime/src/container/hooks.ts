import { type RunOptions, run } from '@iso/process';
import { variablesOf } from '../config/process.js';
import type { Bundle } from '../config/read.js';
import type { Config, HookConfig, HookPoint } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { hold } from './identity.js';
import { hookAtHalt, type Neighbour } from './launch.js';
import { stateInside, stateOf } from './state.js';
import type { Saved } from './store.js';

/**
 * Runs the hooks of a point, one after the other, each with the container's state on its standard input, and with no variables but
 * its own.
 *
 * @param config - of the bundle
 * @param point - which
 * @param state - of the container
 * @param around - what each is launched with besides
 * @throws {@link RuntimeError} where one fails, or takes longer than its time: those behind it do not run
 */
export async function runHooks(
  config: Config,
  point: HookPoint,
  state: object,
  around: () => Promise<RunOptions> | RunOptions = () => ({}),
): Promise<void> {
  for (const hook of config.hooks?.[point] ?? []) await runHook(hook, point, state, await around());
}

/**
 * Runs those of a container's creation, while its first process stands still: they find its mounts where the host has its root.
 *
 * @param saved - what is kept of it, its process not yet
 * @param bundle - of it
 * @param place - its cgroup, its process
 * @throws {@link RuntimeError} where one fails
 */
export async function runAtHalt(
  saved: Saved,
  bundle: Bundle,
  { cgroup, init }: Pick<Neighbour, 'cgroup' | 'init'>,
): Promise<void> {
  const { config } = bundle;
  const state = { ...(await stateOf(saved)), pid: init.pid };
  const here = () => ({ cwd: bundle.directory });
  await runHooks(config, 'prestart', state, here);
  await runHooks(config, 'createRuntime', state, here);
  using pidfd = hold(init);
  if (!pidfd) throw new RuntimeError('its first process has ended');
  await runHooks(config, 'createContainer', stateInside(state), () => hookAtHalt(bundle, { cgroup, init, pidfd }));
}

/**
 * Runs those of a container that is gone: all of them, whatever becomes of one.
 *
 * @param config - of the bundle
 * @param state - of the container
 */
export async function runPoststop(config: Config, state: object): Promise<void> {
  for (const hook of config.hooks?.poststop ?? [])
    await runHook(hook, 'poststop', state, {}).catch((error: Error) => process.emitWarning(error.message));
}

async function runHook(hook: HookConfig, point: HookPoint, state: object, around: RunOptions): Promise<void> {
  const { path, args = [path], env = [], timeout } = hook;
  try {
    await run(path, args.slice(1), {
      ...around,
      argv0: args[0] ?? path,
      env: variablesOf(env),
      input: JSON.stringify(state),
      ...(timeout === undefined ? {} : { timeout: timeout * 1000, killSignal: 'SIGKILL' as const }),
    });
  } catch (error) {
    throw new RuntimeError(`the ${point} hook ${path} failed: ${(error as Error).message}`, { cause: error });
  }
}
