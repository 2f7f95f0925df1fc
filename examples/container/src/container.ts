import { randomBytes } from 'node:crypto';
import { resolve } from 'node:path';
import type { Cgroup } from '@iso/cgroups';
import { type Child, type Exit, explain, spawn } from '@iso/process';
import { assemble, type Confinement, type ContainerOptions } from './assemble.js';
import { createCgroup } from './cgroup.js';
import { containerShape } from './container-shape.js';
import { type ExecOptions, execIn } from './exec/exec.js';
import { Gate } from './gate.js';
import { checkHooks, type HookState, runHooks } from './hook.js';
import { checkName } from './options.js';
import { checkShape } from './shape.js';
import { noDirectory } from './working-directory.js';

/** A running container: a process with a place of its own. Disposing kills it and removes its cgroup. */
export class Container implements AsyncDisposable {
  /** Its name. */
  readonly name: string;
  /** Its first process. */
  readonly child: Child;
  /** Its cgroup, where it has limits. */
  readonly cgroup: Cgroup | undefined;
  /** What each of its processes gets. */
  readonly confinement: Confinement;
  /** Milliseconds from the call of `run` until the program ran. */
  readonly startedInMs: number;
  /** How it ended; its cgroup is gone then. Rejects with the KernelError where that cannot be removed. */
  readonly exited: Promise<Exit & { oomKilled: boolean }>;

  /** @internal */
  constructor(
    name: string,
    child: Child,
    cgroup: Cgroup | undefined,
    confinement: Confinement,
    startedInMs: number,
    stopped: () => Promise<void>,
  ) {
    this.name = name;
    this.child = child;
    this.cgroup = cgroup;
    this.confinement = confinement;
    this.startedInMs = startedInMs;
    this.exited = child.exited.then(async (exit) => {
      try {
        return { ...exit, oomKilled: cgroup !== undefined && oomKilled(cgroup) };
      } finally {
        await dispose(cgroup);
        await stopped();
      }
    });
  }

  /**
   * Runs a command in it: in its namespaces, its cgroup and its root, with its ids, limits, capabilities and filter.
   *
   * @param command - program and arguments
   * @param options - what is different
   * @returns the running process, which dies with this one
   * @throws {@link UsageError} for options that make no sense, where the container has ended, and where one of its processes could
   *   write to this one's memory meanwhile (CAP_SYS_PTRACE without a user namespace of its own); KernelError with the `step` that failed
   *
   * @example
   * ```ts root
   * import { run } from '@iso/container';
   * await using box = await run({ root: '/', command: ['sleep', '60'], hostname: 'box' });
   * const shell = await box.exec(['sh', '-c', 'test "$(hostname)" = box'], { stdio: 'ignore' });
   * const { code } = await shell.exited;
   * if (code !== 0) throw new Error(`exit ${code}`);
   * ```
   */
  exec(command: readonly [file: string, ...args: string[]], options: ExecOptions = {}): Promise<Child> {
    const { child, cgroup, confinement } = this;
    return execIn({ pid: child.pid, pidfd: child.pidfd, cgroup, confinement }, command, options);
  }

  /** Kills everything in it and waits until it is gone. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.exited;
  }
}

/**
 * Starts a container: namespaces, a union root with a throw-away writable layer, masked paths, a cgroup.
 * As root, or as a plain user by a user namespace.
 *
 * @param options - root, command and limits
 * @returns the running container
 * @throws {@link UsageError} for options that make no sense; KernelError with the `step` that failed
 *
 * @example
 * ```ts root
 * import { run } from '@iso/container';
 * const box = await run({ root: '/', command: ['sh', '-c', 'hostname; echo $$'], hostname: 'box' });
 * for await (const chunk of box.child.stdout ?? []) process.stdout.write(chunk);
 * const { code } = await box.exited;
 * if (code !== 0) throw new Error(`exit ${code}`);
 * ```
 */
export async function run(options: ContainerOptions): Promise<Container> {
  const startedAt = performance.now();
  checkShape(options, containerShape, 'run');
  const name = containerName(options.name);
  const { hooks = {} } = options;
  checkHooks(hooks);
  // Of a pid namespace that is not its own, its first process takes no other with it.
  const accounting = options.accounting || options.pid !== undefined;
  const cgroup = await createCgroup(name, { ...options, accounting });
  try {
    const { file, args, confinement, ...rest } = await assemble(name, options, cgroup);
    using gate = hooks.prestart?.length ? new Gate() : undefined;
    // The executable of whoever is not root is not its own to write.
    const guarded = process.getuid?.() === 0 ? { gate: 'open' as const } : {};
    const child = await spawn(file, args, { ...rest, ...(gate ? { gate: gate.theirs } : guarded) }).catch((error) => {
      throw noDirectory(error, rest.cwd) ?? error;
    });
    const state = stateFor(name, options);
    const stopped = () =>
      runHooks(hooks, 'poststop', state('stopped')).catch((error: Error) => process.emitWarning(error));
    const container = new Container(name, child, cgroup, confinement, performance.now() - startedAt, stopped);
    try {
      await runHooks(hooks, 'prestart', state('created', child.pid), options.signal);
      await gate?.open(file);
      await runHooks(hooks, 'poststart', state('running', child.pid), options.signal);
    } catch (error) {
      await container[Symbol.asyncDispose]();
      throw error;
    }
    return container;
  } catch (error) {
    // What cannot be removed either is left to the next sweep: the first error says more.
    await dispose(cgroup).catch(() => {});
    throw error;
  }
}

/**
 * The launch program of a container, without running it. A user namespace and the like are made and dropped.
 *
 * @param options - as for {@link run}
 * @returns the program as text, one system call a line
 */
export async function explainContainer(options: ContainerOptions): Promise<string> {
  checkShape(options, containerShape, 'explainContainer');
  const { file, args, confinement: _, ...rest } = await assemble(containerName(options.name), options, undefined);
  return explain(file, args, rest);
}

/** What hooks are told. */
function stateFor(id: string, { root }: ContainerOptions): (status: HookState['status'], pid?: number) => HookState {
  const bundle = typeof root === 'string' ? resolve(root) : root.directory;
  return (status, pid) => ({
    ociVersion: '1.2.0',
    id,
    status,
    ...(pid === undefined ? {} : { pid }),
    bundle,
    annotations: {},
  });
}

/** Removing takes descriptors and memory too: where it fails for want of them, some may be there the next time. */
async function dispose(cgroup: Cgroup | undefined): Promise<void> {
  await cgroup?.[Symbol.asyncDispose]().catch(() => cgroup[Symbol.asyncDispose]());
}

/** Of all figures this one: v2 and v1 have the same line in files of their own. */
function oomKilled(cgroup: Cgroup): boolean {
  if (cgroup.path('memory') === undefined) return false;
  const text = cgroup.read('memory.events') ?? cgroup.read('memory.oom_control') ?? '';
  return /^oom_kill [1-9]/m.test(text);
}

function containerName(name: string | undefined): string {
  checkName(name);
  return name ?? randomBytes(6).toString('hex');
}
