import { accessSync, constants, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Cgroup } from '@iso/cgroups';
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
import type { Stdio, TerminalSize } from '@iso/process';
import { type Part, syscall } from '@iso/sys';
import { overlay, patchwork } from '@iso/unionfs';
import { hardening } from './hardening.js';
import { environment, type Tmpfs, UsageError, type Volume } from './options.js';
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
  /** Working directory inside, an absolute path, default `/`. */
  cwd?: string;
  /** `NAME|UID[:GROUP|GID]`, looked up in the root's own files; default root. */
  user?: string;
  /** Host paths inside. */
  volumes?: readonly Volume[];
  /** Memory file systems inside. */
  tmpfs?: readonly Tmpfs[];
  /** No writable layer: the root is read-only. */
  readonly?: boolean;
  /** `none` (default): its own network with a loopback; `host`: the host's. */
  network?: 'host' | 'none';
  /** Memory limit in bytes, 6 MiB at least. */
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

/**
 * What `spawn` needs to start a container.
 *
 * @param name - of the container
 * @param options - root, command and limits
 * @param cgroup - that it is born in
 * @returns the program, its arguments, and the options of `spawn`
 * @throws {@link UsageError} for options that make no sense; KernelError where the root's passwd file cannot be read
 */
export async function assemble(name: string, options: ContainerOptions, cgroup: Cgroup | undefined) {
  const root = rootDirectory(options.root);
  const [file = '/bin/sh', ...args] = options.command ?? [];
  const rootless = process.getuid?.() !== 0;
  const userns = oneOf('userns', options.userns ?? (rootless ? 'private' : 'host'), ['private', 'host']);
  const ownUser = userns === 'private';
  if (rootless && !ownUser) throw new UsageError('--userns host needs root: a plain user needs a user namespace');
  const user = options.user === undefined ? { uid: 0, gid: 0, home: '/root' } : findUser(root, options.user);
  if (rootless && (user.uid !== 0 || user.gid !== 0)) {
    throw new UsageError(
      'without root only user 0 is mapped: a range of ids needs newuidmap and an entry in /etc/subuid',
    );
  }
  const cwd = options.cwd ?? '/';
  if (!cwd.startsWith('/'))
    throw new UsageError(`the working directory must be an absolute path, not ${JSON.stringify(cwd)}`);
  const hostname = hostName(options.hostname ?? name);
  const network = oneOf('network', options.network ?? 'none', ['none', 'host']);
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
      root: layers(root, ownUser, options.readonly ?? false),
      readonly: options.readonly ?? false,
      mounts: mounts(hostname, options, network),
      maskedPaths: defaultMaskedPaths,
      readonlyPaths: defaultReadonlyPaths,
    }),
    hardening(ownUser),
  ];
  const tty = options.stdio === 'pty';
  return {
    file,
    args,
    confine,
    env: environment(options.env ?? [], { hostname, home: user.home, tty }),
    cwd,
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
    ...(options.signal ? { signal: options.signal, killSignal: 'SIGKILL' as const } : {}),
  };
}

/** In a user namespace a directory with mounts below it is no lower layer for the kernel: its entries are. */
function layers(root: string, ownUser: boolean, readonly: boolean): MountSource {
  const below = root === '/' ? '/' : `${root.replace(/\/+$/, '')}/`;
  const covered = ownUser && mountTable().some((mount) => mount.target !== '/' && mount.target.startsWith(below));
  return covered
    ? // Sockets of services are in /run: bound, they would be the host's own.
      patchwork({ lower: root, readonly, empty: ['proc', 'sys', 'dev', 'run'] })
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
    ...(options.tmpfs ?? []).map((tmpfs) => ({ type: 'tmpfs' as const, ...tmpfs })),
    { type: 'file', target: '/etc/hostname', content: text(`${hostname}\n`), mode: 0o644 },
    {
      type: 'file',
      target: '/etc/hosts',
      content: text(`127.0.0.1 localhost ${hostname}\n::1 localhost\n`),
      mode: 0o644,
    },
    ...(options.volumes ?? []).map((volume) => ({ type: 'bind' as const, ...volume, recursive: true })),
  ];
}

/** Any other word would stand for less confinement than was meant. */
function oneOf<T extends string>(name: string, value: T, words: readonly T[]): T {
  if (!words.includes(value)) throw new UsageError(`${name} is ${words.join(' or ')}, not ${JSON.stringify(value)}`);
  return value;
}

function rootDirectory(path: string): string {
  if (path === '') throw new UsageError('the root is the empty string');
  const root = resolve(path);
  const info = statSync(root, { throwIfNoEntry: false });
  if (!info?.isDirectory()) throw new UsageError(`the root ${path} ${info ? 'is no directory' : 'is not there'}`);
  try {
    accessSync(root, constants.R_OK | constants.X_OK);
  } catch {
    throw new UsageError(`the root ${path} cannot be read and entered by this user`);
  }
  return root;
}

function hostName(name: string): string {
  if (!/^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,63}$/.test(name))
    throw new UsageError(`not a host name: ${JSON.stringify(name)}`);
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
