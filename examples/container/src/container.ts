import { randomBytes } from 'node:crypto';
import { Cgroup } from '@iso/cgroups';
import {
  defaultMaskedPaths,
  defaultMounts,
  defaultReadonlyPaths,
  type MountSource,
  type MountSpec,
  mountTable,
  rootfs,
} from '@iso/mounts';
import { namespaces } from '@iso/namespaces';
import { type Child, type Exit, explain, type Stdio, spawn, type TerminalSize } from '@iso/process';
import { type Part, syscall } from '@iso/sys';
import { overlay, patchwork } from '@iso/unionfs';
import { environment, UsageError, type Volume } from './options.js';
import { findUser } from './user.js';

/** What a container is made of. */
export interface ContainerOptions {
  /** Directory that becomes the read-only lower layer of its root; `/` for the host's own. */
  root: string;
  /** Program and arguments, default `['/bin/sh']`. */
  command?: readonly string[];
  /** Name, default 12 random hexadecimal digits. */
  name?: string;
  /** Host name inside, default the name. */
  hostname?: string;
  /** `NAME=VALUE`, or `NAME` to take this process's value. */
  env?: readonly string[];
  /** Working directory inside, default `/`. */
  cwd?: string;
  /** `NAME|UID[:GROUP|GID]`, looked up in the root's own files; default root. */
  user?: string;
  /** Host paths inside. */
  volumes?: readonly Volume[];
  /** Memory file systems inside. */
  tmpfs?: readonly { target: string; size?: number }[];
  /** No writable layer: the root is read-only. */
  readonly?: boolean;
  /** `none` (default): its own network with a loopback; `host`: the host's. */
  network?: 'host' | 'none';
  /** Memory limit in bytes. */
  memory?: number;
  /** Processors' worth of CPU time. */
  cpus?: number;
  /** Most processes and threads. */
  pidsLimit?: number;
  /** `private`: a user namespace of its own; default for plain users, who need it. */
  userns?: 'host' | 'private';
  /** Its descriptors, default `'pipe'`. */
  stdio?: Stdio;
  /** Size of its terminal where `stdio` is `pty`. */
  terminal?: TerminalSize;
  /** A small init as process 1: it reaps orphans and passes signals on. */
  init?: boolean;
  /** Kills it when aborted. */
  signal?: AbortSignal;
}

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
  /** How it ended; its cgroup is gone then. */
  readonly exited: Promise<Exit & { oomKilled: boolean }>;

  /** @internal */
  constructor(name: string, child: Child, cgroup: Cgroup | undefined, startedInMs: number) {
    this.name = name;
    this.child = child;
    this.cgroup = cgroup;
    this.startedInMs = startedInMs;
    this.exited = child.exited.then(async (exit) => {
      const oomKilled = (cgroup?.stats().memory?.oomKills ?? 0) > 0;
      await cgroup?.[Symbol.asyncDispose]();
      return { ...exit, oomKilled };
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
    await cgroup?.[Symbol.asyncDispose]();
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

async function assemble(name: string, options: ContainerOptions, cgroup: Cgroup | undefined) {
  const [file = '/bin/sh', ...args] = options.command ?? [];
  const rootless = process.getuid?.() !== 0;
  const ownUser = rootless || options.userns === 'private';
  if (rootless && options.userns === 'host')
    throw new UsageError('--userns host needs root: a plain user needs a user namespace');
  const user = options.user === undefined ? { uid: 0, gid: 0, home: '/root' } : findUser(options.root, options.user);
  if (rootless && (user.uid !== 0 || user.gid !== 0)) {
    throw new UsageError(
      'without root only user 0 is mapped: a range of ids needs newuidmap and an entry in /etc/subuid',
    );
  }
  const hostname = options.hostname ?? name;
  const network = options.network ?? 'none';
  const confine: Part[] = [
    ...(cgroup ? [cgroup] : []),
    namespaces({
      ...(ownUser ? { user: rootless ? 'root' : identity } : {}),
      pid: 'new',
      ipc: 'new',
      cgroup: 'new',
      uts: { hostname },
      ...(network === 'none' ? { net: 'new' as const } : {}),
    }),
    rootfs({
      root: layers(options.root, ownUser, options.readonly ?? false),
      readonly: options.readonly ?? false,
      mounts: mounts(hostname, options, network),
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    }),
  ];
  const tty = options.stdio === 'pty';
  return {
    file,
    args,
    confine,
    env: environment(options.env ?? [], { hostname, home: user.home, tty }),
    cwd: options.cwd ?? '/',
    stdio: options.stdio ?? ('pipe' as const),
    session: true,
    init: options.init ?? false,
    // Node's death is the container's: no supervisor outlives it.
    parentDeathSignal: 'SIGKILL' as const,
    umask: 0o022,
    rlimits: { nofile: { soft: 1024, hard: Math.min(1048576, hardNofile()) } },
    // Without a map for groups a plain user keeps those that it has.
    ...(rootless ? {} : { uid: user.uid, gid: user.gid, groups: [] }),
    ...(options.terminal ? { terminal: options.terminal } : {}),
    ...(options.signal ? { signal: options.signal } : {}),
  };
}

/** In a user namespace a directory with mounts below it is no lower layer for the kernel: its entries are. */
function layers(root: string, ownUser: boolean, readonly: boolean): MountSource {
  const below = root === '/' ? '/' : `${root.replace(/\/+$/, '')}/`;
  const covered = ownUser && mountTable().some((mount) => mount.target !== '/' && mount.target.startsWith(below));
  return covered
    ? patchwork({ lower: root, readonly })
    : overlay({ lower: [root], upper: 'tmpfs', userxattr: ownUser });
}

/** Every id as it is: the namespace takes the capabilities away from the host, not the names of files' owners. */
const identity = {
  uidMap: [{ inside: 0, outside: 0, count: 65536 }],
  gidMap: [{ inside: 0, outside: 0, count: 65536 }],
};

function mounts(hostname: string, options: ContainerOptions, network: string): MountSpec[] {
  const text = (value: string) => new TextEncoder().encode(value);
  return [
    ...defaultMounts({ network: network === 'none' }),
    ...(options.tmpfs ?? []).map(({ target, size }) => ({ type: 'tmpfs' as const, target, ...(size ? { size } : {}) })),
    { type: 'file', target: '/etc/hostname', content: text(`${hostname}\n`), mode: 0o644 },
    {
      type: 'file',
      target: '/etc/hosts',
      content: text(`127.0.0.1 localhost ${hostname}\n::1 localhost\n`),
      mode: 0o644,
    },
    ...(options.volumes ?? []).map(({ source, target, readonly }) => {
      return { type: 'bind' as const, source, target, readonly, recursive: true };
    }),
  ];
}

let swept: Promise<unknown> | undefined;

async function createCgroup(name: string, { memory, cpus, pidsLimit }: ContainerOptions): Promise<Cgroup | undefined> {
  if (memory === undefined && cpus === undefined && pidsLimit === undefined) return undefined;
  // What a killed process left is found once; a process does not leave anything to itself.
  swept ??= Cgroup.sweep();
  await swept;
  return Cgroup.create(name, {
    controllers: [],
    limits: {
      ...(memory === undefined ? {} : { memory: { max: memory } }),
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

/** The hard limit cannot be raised without CAP_SYS_RESOURCE, so it stays; reading it is cheaper than a failed start. */
let hardLimit: number | undefined;

function hardNofile(): number {
  if (hardLimit === undefined) {
    const limits = Buffer.alloc(16);
    const RLIMIT_NOFILE = 7;
    syscall('prlimit64', 0, RLIMIT_NOFILE, null, limits);
    hardLimit = Number(limits.readBigUInt64LE(8));
  }
  return hardLimit;
}
