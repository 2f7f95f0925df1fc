import type { OciResources } from '@iso/cgroups';

/** The part of the runtime specification's config.json that is read here. See https://github.com/opencontainers/runtime-spec. */
export interface Config {
  ociVersion: string;
  root?: { path: string; readonly?: boolean };
  process?: ProcessConfig;
  hostname?: string;
  domainname?: string;
  mounts?: readonly MountConfig[];
  hooks?: Partial<Record<HookPoint, readonly HookConfig[]>>;
  annotations?: Readonly<Record<string, string>>;
  linux?: LinuxConfig;
}

/** A process of a container: its first, or one that `exec` adds. */
export interface ProcessConfig {
  terminal?: boolean;
  consoleSize?: { height: number; width: number };
  user?: { uid?: number; gid?: number; umask?: number; additionalGids?: readonly number[] };
  args?: readonly string[];
  env?: readonly string[];
  cwd: string;
  capabilities?: Partial<Record<CapabilitySet, readonly string[]>>;
  rlimits?: readonly { type: string; soft: number; hard: number }[];
  noNewPrivileges?: boolean;
  oomScoreAdj?: number;
  apparmorProfile?: string;
  selinuxLabel?: string;
  scheduler?: SchedulerConfig;
  ioPriority?: { class?: string; priority?: number };
  execCPUAffinity?: { initial?: string; final?: string };
}

/** How its time is given to a process, see sched_setattr(2). */
export interface SchedulerConfig {
  policy: string;
  nice?: number;
  priority?: number;
  flags?: readonly string[];
  runtime?: number;
  deadline?: number;
  period?: number;
}

/** A set of capabilities. */
export type CapabilitySet = 'bounding' | 'effective' | 'inheritable' | 'permitted' | 'ambient';

/** A mount of a container. */
export interface MountConfig {
  destination: string;
  type?: string;
  source?: string;
  options?: readonly string[];
  uidMappings?: readonly IdMapping[];
  gidMappings?: readonly IdMapping[];
}

/** A program that is run at a point of a container's life. */
export interface HookConfig {
  path: string;
  args?: readonly string[];
  env?: readonly string[];
  /** Seconds. */
  timeout?: number;
}

/** Points of a container's life. */
export type HookPoint = 'prestart' | 'createRuntime' | 'createContainer' | 'startContainer' | 'poststart' | 'poststop';

/** A range of a user namespace's map. */
export interface IdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

/** Types of namespaces as the specification calls them. */
export type NamespaceName = 'pid' | 'network' | 'mount' | 'ipc' | 'uts' | 'user' | 'cgroup' | 'time';

/** A device node of a container. */
export interface DeviceConfig {
  type: string;
  path: string;
  major?: number;
  minor?: number;
  fileMode?: number;
  uid?: number;
  gid?: number;
}

/** What only Linux has. */
export interface LinuxConfig {
  namespaces?: readonly { type: NamespaceName; path?: string }[];
  uidMappings?: readonly IdMapping[];
  gidMappings?: readonly IdMapping[];
  timeOffsets?: Partial<Record<'monotonic' | 'boottime', { secs?: number; nanosecs?: number }>>;
  devices?: readonly DeviceConfig[];
  cgroupsPath?: string;
  resources?: OciResources;
  rootfsPropagation?: string;
  seccomp?: {
    listenerPath?: string;
    listenerMetadata?: string;
    syscalls?: readonly { args?: readonly { value: number; valueTwo?: number }[] | null }[] | null;
  };
  sysctl?: Readonly<Record<string, string>>;
  maskedPaths?: readonly string[];
  readonlyPaths?: readonly string[];
  mountLabel?: string;
  intelRdt?: object;
  memoryPolicy?: object;
  netDevices?: object;
  personality?: { domain?: string; flags?: readonly string[] };
}
