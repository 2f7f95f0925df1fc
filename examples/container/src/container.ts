import { randomBytes } from 'node:crypto';
import { Cgroup } from '@iso/cgroups';
import { type Child, type Exit, explain, spawn } from '@iso/process';
import { assemble, type ContainerOptions } from './assemble.js';
import { UsageError } from './options.js';

/** A running container: a process with a place of its own. Disposing kills it and removes its cgroup. */
export class Container implements AsyncDisposable {
  /** Its name. */
  readonly name: string;
  /** Its first process. */
  readonly child: Child;
  /** Its cgroup, where it has limits. */
  readonly cgroup: Cgroup | undefined;
  /** Milliseconds from the call of `run` until the program ran. */
  readonly startedInMs: number;
  /** How it ended; its cgroup is gone then. Rejects with the KernelError where that cannot be removed. */
  readonly exited: Promise<Exit & { oomKilled: boolean }>;

  /** @internal */
  constructor(name: string, child: Child, cgroup: Cgroup | undefined, startedInMs: number) {
    this.name = name;
    this.child = child;
    this.cgroup = cgroup;
    this.startedInMs = startedInMs;
    this.exited = child.exited.then(async (exit) => {
      try {
        return { ...exit, oomKilled: (cgroup?.stats({ only: ['memory'] }).memory?.events?.oomKill ?? 0) > 0 };
      } finally {
        await dispose(cgroup);
      }
    });
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
  const name = containerName(options.name);
  const cgroup = await createCgroup(name, options);
  try {
    const { file, args, ...rest } = await assemble(name, options, cgroup);
    const child = await spawn(file, args, rest);
    return new Container(name, child, cgroup, performance.now() - startedAt);
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
  const { file, args, ...rest } = await assemble(containerName(options.name), options, undefined);
  return explain(file, args, rest);
}

/** Removing takes descriptors and memory too: where it fails for want of them, some may be there the next time. */
async function dispose(cgroup: Cgroup | undefined): Promise<void> {
  await cgroup?.[Symbol.asyncDispose]().catch(() => cgroup[Symbol.asyncDispose]());
}

let swept: Promise<unknown> | undefined;

/** Docker's least. Much less, and the kernel's own memory for the start already ends it. */
const LEAST_MEMORY = 6 * 2 ** 20;

async function createCgroup(name: string, { memory, cpus, pidsLimit }: ContainerOptions): Promise<Cgroup | undefined> {
  // What a killed process left is found once; a process does not leave anything to itself. What somebody else left is not ours.
  swept ??= Cgroup.sweep().catch(() => {});
  await swept;
  if (memory === undefined && cpus === undefined && pidsLimit === undefined) return undefined;
  if (memory !== undefined && memory < LEAST_MEMORY)
    throw new UsageError(`a container takes 6 MiB of memory at the least, not ${memory} bytes`);
  return Cgroup.create(name, {
    controllers: [],
    limits: {
      ...(memory === undefined ? {} : { memory: { max: memory, swap: { max: 0 } } }),
      ...(cpus === undefined ? {} : { cpu: { max: cpus } }),
      ...(pidsLimit === undefined ? {} : { pids: { max: pidsLimit } }),
    },
  });
}

function containerName(name: string | undefined): string {
  if (name === undefined) return randomBytes(6).toString('hex');
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(name)) {
    throw new UsageError(
      `not a name: ${JSON.stringify(name)}, it is [a-zA-Z0-9][a-zA-Z0-9_.-], 63 characters at the most`,
    );
  }
  return name;
}
