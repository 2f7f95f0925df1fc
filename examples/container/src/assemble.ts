import { accessSync, constants, statSync } from 'node:fs';
import { hostname as hostsName } from 'node:os';
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
import { namespaces, type UserNamespace } from '@iso/namespaces';
import type { SpawnOptions, Stdio, TerminalSize } from '@iso/process';
import { type Part, syscall } from '@iso/sys';
import { overlay, patchwork } from '@iso/unionfs';
import type { CgroupOptions } from './cgroup.js';
import { cgroupView } from './cgroup-view.js';
import { hostDevices } from './device.js';
import { type HardeningOptions, hardening, type Privileges, privilegesOf } from './hardening.js';
import { sysctls } from './hardening-sysctl.js';
import type { Hooks } from './hook.js';
import { environment, type Tmpfs, UsageError, type Volume } from './options.js';
import { type SharingOptions, sharedNamespaces } from './sharing.js';
import { refuseTracers } from './tracers.js';
import { findGroup, findRoot, findUser, supplementaryGroups } from './user.js';

/** A root that is mounted already, attached nowhere: a layer on those of an image, say. */
export interface MountedRoot {
  source: MountSource;
  /** Where this process finds its files, to look users up. */
  directory: string;
}

/** A network namespace, and the files by which names are looked up in it. */
interface JoinedNetwork {
  netns: Part;
  /** User namespace that owns it, where that is to be the container's. */
  userns?: UserNamespace;
  /** Paths on the host. */
  hosts?: string;
  resolvConf?: string;
  /** It is another container's: its values are not this one's to set. */
  shared?: boolean;
}

/** What every process of a container gets, its first one and those of exec. As JSON it is kept. */
export interface Confinement {
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  /** Ids as they are inside; absent for a plain user, who has one only. */
  readonly ids?: {
    readonly uid: number;
    readonly gid: number;
    readonly groups: readonly number[];
    /** Those of them that another user of exec has too. */
    readonly groupAdd: readonly number[];
  };
  readonly rlimits: NonNullable<SpawnOptions['rlimits']>;
  readonly privileges: Privileges;
}

/** What a container is made of. */
export interface ContainerOptions extends CgroupOptions, HardeningOptions, SharingOptions {
  /** Directory that becomes the read-only lower layer of its root, `/` for the host's own; or a root with its writable layer. */
  root: string | MountedRoot;
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
  /** Supplementary groups besides those that the root's group file has the user in, each `GROUP|GID`, looked up there too. */
  groupAdd?: readonly string[];
  /** Limits of each process, by the names of getrlimit(2); default 1024 descriptors, else this process's. */
  ulimits?: NonNullable<SpawnOptions['rlimits']>;
  /** Sysctls of its own namespaces, by name. */
  sysctls?: Readonly<Record<string, string>>;
  /** Host paths inside. */
  volumes?: readonly Volume[];
  /** Memory file systems inside. */
  tmpfs?: readonly Tmpfs[];
  /** No writable layer: the root is read-only. */
  readonly?: boolean;
  /** Most bytes that its writable layer may hold; for a directory as root. */
  storageSize?: number;
  /** `none` (default): its own network with a loopback; `host`: the host's; or a namespace that is made already. */
  network?: 'host' | 'none' | JoinedNetwork;
  /** Lines of its /etc/hosts besides its own; a network that is joined has a file of its own. */
  hosts?: readonly { name: string; address: string }[];
  /** `private`: a user namespace of its own; default for plain users, who need it. */
  userns?: 'host' | 'private';
  /** Its descriptors, default `'pipe'`. */
  stdio?: Stdio;
  /** Size of its terminal where `stdio` is `pty`. */
  terminal?: TerminalSize;
  /** A small init as process 1: it reaps orphans and passes signals on. */
  init?: boolean;
  /** Programs of the host's at moments of its life. */
  hooks?: Hooks;
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
  const mounted = typeof options.root === 'string' ? undefined : options.root;
  const root = mounted ? mounted.directory : rootDirectory(options.root as string);
  const [file = '/bin/sh', ...args] = options.command ?? [];
  const rootless = process.getuid?.() !== 0;
  const userns = oneOf('userns', options.userns ?? (rootless ? 'private' : 'host'), ['private', 'host']);
  const ownUser = userns === 'private';
  if (rootless && !ownUser) throw new UsageError('--userns host needs root: a plain user needs a user namespace');
  const user = options.user === undefined ? findRoot(root) : findUser(root, options.user);
  if (rootless && (user.uid !== 0 || user.gid !== 0)) {
    throw new UsageError(
      'without root only user 0 is mapped: a range of ids needs newuidmap and an entry in /etc/subuid',
    );
  }
  const cwd = options.cwd ?? '/';
  if (!cwd.startsWith('/'))
    throw new UsageError(`the working directory must be an absolute path, not ${JSON.stringify(cwd)}`);
  const groupAdd = (options.groupAdd ?? []).map((group) => findGroup(root, group));
  if (rootless && groupAdd.length > 0)
    throw new UsageError('--group-add needs root: a plain user keeps its own groups');
  const hostname = options.uts === 'host' ? hostsName() : hostName(options.hostname ?? name);
  const mode = options.network ?? 'none';
  const joined = typeof mode === 'object' ? mode : undefined;
  const network = typeof mode === 'object' ? 'joined' : oneOf('network', mode, ['none', 'host']);
  const privileges = privilegesOf(options, ownUser);
  const about = { ownUser, named: options.hostname !== undefined, init: options.init ?? false };
  const shared = sharedNamespaces(options, hostname, about);
  if (typeof options.pid === 'object') refuseTracers({ pidfd: options.pid.pidfd });
  const own = {
    network: network !== 'host' && !joined?.shared,
    ipc: shared.ipc === 'new',
    uts: shared.uts !== 'host',
  };
  const bare = options.privileged || options.systemPaths === 'unconfined';
  const confine: Part[] = [
    ...(cgroup ? [cgroup] : []),
    namespaces({
      ...(ownUser ? { user: joined?.userns ?? (rootless ? 'root' : identity) } : {}),
      ...shared,
      ...(network === 'none' ? { net: 'new' as const } : {}),
    }),
    ...(joined ? [joined.netns] : []),
    ...(options.sysctls ? [sysctls(options.sysctls, own)] : []),
    rootfs({
      root: mounted ? mounted.source : layers(root, ownUser, options),
      readonly: options.readonly ?? false,
      mounts: [
        ...mounts(
          hostname,
          options,
          network === 'none' || (joined !== undefined && (!ownUser || joined.userns !== undefined)),
          cgroup,
        ),
        // An image may name a working directory that none of its layers has.
        ...(mounted && !options.readonly && cwd !== '/' ? [{ type: 'directory' as const, target: cwd }] : []),
      ],
      maskedPaths: bare ? [] : defaultMaskedPaths,
      readonlyPaths: bare ? [] : defaultReadonlyPaths,
    }),
    ...hardening(privileges, { uid: user.uid, sealUser: ownUser && !options.privileged }),
  ];
  const tty = options.stdio === 'pty';
  const env = environment(options.env ?? [], { hostname, home: user.home, tty });
  const rlimits = { nofile: { soft: 1024, hard: Math.min(1048576, hardNofile()) }, ...options.ulimits };
  const groups = supplementaryGroups(user, groupAdd, options.user !== undefined);
  const ids = { uid: user.uid, gid: user.gid, groups, groupAdd };
  // Without a map for groups a plain user keeps those that it has.
  const confinement: Confinement = { env, cwd, rlimits, privileges, ...(rootless ? {} : { ids }) };
  return {
    file,
    args,
    confinement,
    confine,
    env,
    cwd,
    // A terminal of its own devpts, which has a name inside.
    ...(tty ? { console: 'pty' as const } : { stdio: options.stdio ?? ('pipe' as const) }),
    session: true,
    init: options.init ?? false,
    // Node's death is the container's: no supervisor outlives it.
    parentDeathSignal: 'SIGKILL' as const,
    umask: 0o022,
    rlimits,
    ...(rootless ? {} : { uid: user.uid, gid: user.gid, groups }),
    ...(options.terminal ? { terminal: options.terminal } : {}),
    ...(options.signal ? { signal: options.signal, killSignal: 'SIGKILL' as const } : {}),
  };
}

/** In a user namespace a directory with mounts below it is no lower layer for the kernel: its entries are. */
function layers(root: string, ownUser: boolean, options: ContainerOptions): MountSource {
  const { readonly = false, storageSize: size } = options;
  const below = root === '/' ? '/' : `${root.replace(/\/+$/, '')}/`;
  const covered = ownUser && mountTable().some((mount) => mount.target !== '/' && mount.target.startsWith(below));
  if (!covered)
    return overlay({ lower: [root], upper: 'tmpfs', userxattr: ownUser, ...(size === undefined ? {} : { size }) });
  if (size !== undefined) throw new UsageError(`the layer on ${root} cannot be limited: there are mounts below it`);
  // Sockets of services are in /run: bound, they would be the host's own.
  return patchwork({ lower: root, readonly, empty: ['proc', 'sys', 'dev', 'run'] });
}

/** Every id as it is: the namespace takes the capabilities away from the host, not the names of files' owners. */
const identity = {
  uidMap: [{ inside: 0, outside: 0, count: 65536 }],
  gidMap: [{ inside: 0, outside: 0, count: 65536 }],
};

function mounts(
  hostname: string,
  options: ContainerOptions,
  ownNetwork: boolean,
  cgroup: Cgroup | undefined,
): MountSpec[] {
  const text = (value: string) => new TextEncoder().encode(value);
  const file = (target: string, content: string) => ({
    type: 'file' as const,
    target,
    content: text(content),
    mode: 0o644,
  });
  const { network, hosts = [] } = options;
  const joined = typeof network === 'object' ? network : undefined;
  const lines = hosts.map(({ name, address }) => `${address} ${name}\n`).join('');
  // In place: what changes while it runs is seen inside.
  const bind = (source: string, target: string) => ({ type: 'bind' as const, source, target });
  const devices = [...(options.privileged ? hostDevices() : []), ...(options.devices ?? [])];
  return [
    ...cgroupMounts(cgroup, options, defaultMounts({ network: ownNetwork })).flatMap((spec) => adjusted(spec, options)),
    ...devices.map(({ source, target }) => ({
      type: 'device' as const,
      source,
      target: target ?? source,
    })),
    ...(options.tmpfs ?? []).map((tmpfs) => ({ type: 'tmpfs' as const, ...tmpfs })),
    file('/etc/hostname', `${hostname}\n`),
    joined?.hosts === undefined
      ? file('/etc/hosts', `127.0.0.1 localhost ${hostname}\n::1 localhost\n${lines}`)
      : bind(joined.hosts, '/etc/hosts'),
    ...(joined?.resolvConf === undefined ? [] : [bind(joined.resolvConf, '/etc/resolv.conf')]),
    ...(options.volumes ?? []).map((volume) => ({ type: 'bind' as const, ...volume, recursive: true })),
  ];
}

/** Its own cgroup, where each kind of machine has it, and no other's. */
function cgroupMounts(cgroup: Cgroup | undefined, options: ContainerOptions, specs: readonly MountSpec[]): MountSpec[] {
  const target = '/sys/fs/cgroup';
  const readonly = !options.privileged;
  const source = cgroup && cgroupView(cgroup, { readonly });
  if (source) return [...specs.filter((spec) => spec.type !== 'cgroup2'), { type: 'mount', source, target }];
  // The host's /sys comes with all cgroups.
  const bare = options.cgroupns !== 'host' && !specs.some((spec) => spec.type === 'cgroup2');
  return bare ? [...specs, { type: 'cgroup2', target, readonly }] : [...specs];
}

/** A mount that every container has, as this one is to have it. */
function adjusted(spec: MountSpec, { ipc, shmSize, privileged }: ContainerOptions): MountSpec[] {
  const { target = '' } = spec;
  if (spec.type === 'tmpfs' && target === '/dev/shm') {
    if (ipc === 'none') return [];
    if (ipc === 'host') return [{ type: 'bind', source: target, target, nosuid: true, nodev: true, noexec: true }];
    if (typeof ipc === 'object') {
      if (!ipc.shm) throw new UsageError('--ipc: the container has no /dev/shm to share');
      return [{ type: 'mount', source: ipc.shm, target }];
    }
    return [{ ...spec, ...(shmSize === undefined ? {} : { size: shmSize }) }];
  }
  if (privileged && target.startsWith('/sys') && 'readonly' in spec) return [{ ...spec, readonly: false }];
  return [spec];
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
