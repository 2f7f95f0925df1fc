import { Fd, invalid, LaunchProgram, launch, launchAsync, O, type Part } from '@iso/sys';
import { type Attributes, applyAttributes } from './attributes.js';
import { Child } from './child.js';
import { layOut } from './descriptors.js';
import { changeDirectory, execute } from './executable.js';
import { openInit } from './init/image.js';
import { type TerminalSize, TIOCSCTTY } from './pty.js';
import { resetSignals } from './signal.js';
import { openStdio, type Stdio } from './stdio.js';

/** Options of {@link spawn}: those of Node's `spawn` where it has them. */
export interface SpawnOptions extends Attributes {
  /** Working directory, as the child sees it. */
  cwd?: string;
  /** Environment; default is this process's, under a root of its own only what is given. */
  env?: Readonly<Record<string, string | undefined>>;
  /** What the program sees as its name; default is the file. */
  argv0?: string;
  /** The child's descriptors, default `'pipe'`. Nothing else is open in it. */
  stdio?: Stdio;
  /** Size of the terminal where `stdio` asks for a `pty`. */
  terminal?: TerminalSize;
  /** What confines it: parts from the other packages. */
  confine?: readonly Part[];
  /**
   * Puts a small init over it in its new pid namespace: that reaps orphans, passes signals on, and ends as it ended, by its
   * exit code or 128 + the signal. Without it the program itself is process 1, to which most signals do nothing.
   */
  init?: boolean;
  /** Kills it when aborted. */
  signal?: AbortSignal;
  /** Kills it after so many milliseconds. */
  timeout?: number;
  /** What `signal` and `timeout` kill with, default SIGTERM. */
  killSignal?: NodeJS.Signals | number;
}

/**
 * Starts a process: as Node's `spawn`, with everything that clone3(2) knows. Resolves when the program itself runs;
 * whatever fails before rejects with the step that failed, and leaves nothing behind.
 *
 * @param file - a path, or a name that is looked up in the child's `PATH`, inside its own root
 * @param args - its arguments
 * @param options - descriptors, attributes, confinement
 * @returns the running child
 * @throws KernelError with `step`: `ENOENT`, `EACCES`, `EPERM`, `EMFILE`, `EAGAIN` …
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what no kernel would take
 *
 * @example
 * ```ts
 * import { spawn } from '@iso/process';
 * const child = await spawn('sh', ['-c', 'echo hello; exit 3']);
 * child.stdout?.pipe(process.stdout);
 * const { code } = await child.exited;
 * if (code !== 3) throw new Error('not what it said');
 * ```
 */
export async function spawn(file: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<Child> {
  options.signal?.throwIfAborted();
  const startedAt = performance.now();
  const io = openStdio(options.stdio ?? 'pipe', options.terminal);
  const program = new LaunchProgram();
  let child: Child;
  try {
    await prepare(program, file, args, options, io.child);
    // Setting up a root takes the kernel as long as the rest together: this thread need not wait for it.
    const launched =
      program.blocking || program.hasOwnRoot
        ? await launchAsync(program, options.signal ? { signal: options.signal } : {})
        : launch(program);
    io.closeChildSide();
    child = new Child(launched, io, [options.argv0 ?? file, ...args], startedAt);
  } catch (error) {
    program.finish('failed');
    io.destroy();
    throw error;
  }
  limit(child, options);
  return child;
}

/**
 * The launch program that {@link spawn} would run, without running it: `explain()` prints it.
 *
 * @param file - as for spawn
 * @param args - as for spawn
 * @param options - as for spawn; pipes and terminals are shown as /dev/null
 * @returns the program as text
 */
export async function explain(file: string, args: readonly string[] = [], options: SpawnOptions = {}): Promise<string> {
  const program = new LaunchProgram();
  const nothing = Fd.open('/dev/null', { flags: O.RDWR });
  const items = options.stdio ?? 'pipe';
  const count = typeof items === 'string' ? 3 : items.length;
  try {
    await prepare(program, file, args, options, Array<Fd>(count).fill(nothing));
    return program.explain();
  } finally {
    program.finish('failed');
    nothing.close();
  }
}

async function prepare(
  program: LaunchProgram,
  file: string,
  args: readonly string[],
  options: SpawnOptions,
  descriptors: readonly Fd[],
): Promise<void> {
  if (typeof file !== 'string') throw invalid('the file to execute must be a string');
  if (options.timeout !== undefined && !(options.timeout >= 0))
    throw invalid(`timeout must be milliseconds, it is ${options.timeout}`);
  for (const part of options.confine ?? []) {
    const wait = part.confine(program);
    if (wait) await wait;
  }
  const terminal = options.stdio === 'pty' || (Array.isArray(options.stdio) && options.stdio.includes('pty'));
  applyAttributes(program, terminal ? { ...options, session: true } : options);
  if (terminal) {
    const at = Array.isArray(options.stdio) ? options.stdio.indexOf('pty') : 0;
    program.step('host', 'ioctl', [descriptors[at] as Fd, TIOCSCTTY, 0], { text: 'ioctl(pty, TIOCSCTTY)' });
  }
  layOut(program, descriptors);
  if (options.cwd !== undefined) changeDirectory(program, options.cwd);
  if (options.init) {
    const init = openInit();
    program.defer(() => init.fd.close());
    program.supervise(init.fd, init.pidAt);
  }
  resetSignals(program);
  const env = options.env ?? (program.hasOwnRoot ? {} : process.env);
  execute(program, {
    file,
    argv: [options.argv0 ?? file, ...args],
    env: Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [variable(name, value)])),
  });
}

function variable(name: string, value: string): string {
  if (name === '' || name.includes('='))
    throw invalid(`not the name of an environment variable: ${JSON.stringify(name)}`);
  return `${name}=${value}`;
}

function limit(child: Child, { signal, timeout, killSignal = 'SIGTERM' }: SpawnOptions): void {
  const undo: (() => void)[] = [];
  if (signal) {
    const abort = () => {
      child.kill(killSignal);
      if (child.listenerCount('error'))
        child.emit('error', new DOMException('The operation was aborted', 'AbortError'));
    };
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    undo.push(() => signal.removeEventListener('abort', abort));
  }
  if (timeout !== undefined && timeout > 0) {
    const timer = setTimeout(() => child.expire(killSignal), timeout);
    undo.push(() => clearTimeout(timer));
  }
  if (undo.length)
    void child.exited.then(() => {
      for (const action of undo) action();
    });
}
