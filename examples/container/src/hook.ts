import type { Readable } from 'node:stream';
import { spawn } from '@iso/process';
import { UsageError, variables } from './options.js';

/** A program of the host's that runs at a moment of a container's life, as the runtime specification has it. */
export interface Hook {
  /** Absolute path on the host. */
  readonly path: string;
  /** Its arguments, its own name first. */
  readonly args?: readonly string[];
  /** `NAME=VALUE`: all of its variables. It has none of this process's, and none of the container's. */
  readonly env?: readonly string[];
  /** Seconds, after which it is killed, and has failed. */
  readonly timeout?: number;
}

/** Programs at the moments of a container's life, each run to its end before the next one. */
export interface Hooks {
  /** Everything is made, the container's program is not executed yet. Where one fails, it never is. */
  readonly prestart?: readonly Hook[];
  /** Its program runs. Where one fails, the container is killed. */
  readonly poststart?: readonly Hook[];
  /** It has ended, and nothing of it is left. Where one fails, there is a warning. */
  readonly poststop?: readonly Hook[];
}

/** What a hook reads on its standard input. */
export interface HookState {
  readonly ociVersion: string;
  readonly id: string;
  readonly status: 'created' | 'running' | 'stopped';
  /** Of its first process; absent when it has ended. */
  readonly pid?: number;
  /** Its root on the host, where that is a directory. */
  readonly bundle: string;
  readonly annotations: Readonly<Record<string, string>>;
}

/** A hook that failed. */
export class HookError extends Error {
  override name = 'HookError';
  /** Always this. */
  readonly code = 'ERR_HOOK';
}

const points = ['prestart', 'poststart', 'poststop'] as const;
const MOST_SAID = 4096;
/** What a hook leaves running may hold its output open. */
const PATIENCE_MS = 100;

/**
 * Refuses hooks that make no sense, before there is anything.
 *
 * @param hooks - as the user has them
 * @throws {@link UsageError}
 */
export function checkHooks(hooks: Hooks): void {
  const unknown = Object.keys(hooks).find((name) => !(points as readonly string[]).includes(name));
  if (unknown !== undefined) throw new UsageError(`no hooks are called ${JSON.stringify(unknown)}`);
  for (const { path, env = [], timeout } of points.flatMap((point) => hooks[point] ?? [])) {
    if (typeof path !== 'string' || !path.startsWith('/'))
      throw new UsageError(`a hook is an absolute path, not ${JSON.stringify(path)}`);
    if (timeout !== undefined && !(timeout > 0 && timeout < 2 ** 31 / 1000))
      throw new UsageError(`the timeout of a hook is seconds above 0, not ${timeout}`);
    const odd = env.find((variable) => !/^[^=]+=/.test(variable));
    if (odd !== undefined) throw new UsageError(`a variable of a hook is NAME=VALUE, not ${JSON.stringify(odd)}`);
  }
}

/**
 * Runs the hooks of a moment, one after the other.
 *
 * @param hooks - of the container
 * @param point - which
 * @param state - of the container
 * @param signal - kills what runs when aborted
 * @throws {@link HookError} of the first that cannot be run, fails, or takes longer than its time
 */
export async function runHooks(
  hooks: Hooks,
  point: keyof Hooks,
  state: HookState,
  signal?: AbortSignal,
): Promise<void> {
  for (const hook of hooks[point] ?? []) await runHook(hook, point, state, signal);
}

async function runHook(hook: Hook, point: keyof Hooks, state: HookState, signal: AbortSignal | undefined) {
  const { path, args = [path], env = [], timeout } = hook;
  const failed = (why: string, cause?: unknown) =>
    new HookError(`the ${point} hook ${path} ${why}`, cause === undefined ? {} : { cause });
  const child = await spawn(path, args.slice(1), {
    argv0: args[0] ?? path,
    env: variables(env),
    cwd: '/',
    stdio: ['pipe', 'ignore', 'pipe'],
    killSignal: 'SIGKILL',
    ...(timeout === undefined ? {} : { timeout: timeout * 1000 }),
    ...(signal ? { signal } : {}),
  }).catch((error: Error) => {
    throw failed(`cannot be run: ${error.message}`, error);
  });
  // It may not read.
  child.stdin?.on('error', () => {}).end(JSON.stringify(state));
  const said = lastWords(child.stderr as Readable);
  const closed = new Promise((resolve) => child.once('close', resolve));
  const { code, signal: killedBy, timedOut } = await child.exited;
  const patience = setTimeout(() => child.stderr?.destroy(), PATIENCE_MS);
  await closed;
  clearTimeout(patience);
  if (timedOut) throw failed(`took longer than ${timeout} s`);
  if (code !== 0) throw failed(`${killedBy ? `was ended by ${killedBy}` : `ended with ${code}`}${said()}`);
}

function lastWords(stream: Readable): () => string {
  let text = '';
  stream.on('data', (chunk) => {
    if (text.length < MOST_SAID) text = (text + chunk).slice(0, MOST_SAID);
  });
  return () => (text.trim() === '' ? '' : `: ${text.trim()}`);
}
