import { resolve } from 'node:path';
import type { DriverName, RunConfig } from '@iso/unionfs';
import type { ContainerOptions } from './assemble.js';
import type { NetworkFlags } from './command/network-options.js';
import { environmentOf, type ProcessFlags, processOptionsOf } from './command/process-options.js';
import { resourcesOf } from './command/resources.js';
import type { DeviceMapping } from './device.js';
import type { HealthFlags } from './health/config.js';
import { withConfig } from './image/config.js';
import type { PullPolicy } from './image/root.js';
import { parseTmpfs, parseVolume } from './options.js';
import type { Resources } from './resources.js';

/** Options that say how a container lives. */
export interface LifeFlags {
  rm?: boolean;
  restart?: string;
  logDriver?: 'json-file' | 'none';
  logOpt?: string[];
  stopSignal?: string;
  stopTimeout?: number;
  label?: string[];
  /** Those of the files, as they were read. */
  labelFile?: string[];
  detach?: boolean;
  detachKeys?: string;
  sigProxy?: boolean;
}

/** Options of `iso create` and `iso run`, as commander gives them. They are kept as JSON: what is none has no place here. */
export interface RunFlags extends NetworkFlags, ProcessFlags, Resources, LifeFlags, HealthFlags {
  name?: string;
  interactive?: boolean;
  tty?: boolean;
  workdir?: string;
  user?: string;
  volume?: string[];
  readOnly?: boolean;
  tmpfs?: string[];
  hostname?: string;
  device?: DeviceMapping[];
  cgroupParent?: string;
  userns?: 'host' | 'private';
  init?: boolean;
  entrypoint?: string;
  pull: PullPolicy;
  storageDriver?: DriverName;
  storageOpt?: number;
}

/** A name has no slash at its beginning; a directory beside us is `./name`. */
export function isPath(root: string): boolean {
  return root === '' || root === '.' || root === '..' || /^\.{0,2}\//.test(root);
}

/**
 * Makes of what was typed what means the same in another process: paths and variables are those of here and now.
 *
 * @param root - as typed
 * @param flags - as typed
 * @returns both
 */
export function settled(root: string, flags: RunFlags): { root: string; flags: RunFlags } {
  const { envFile: _, labelFile = [], ...rest } = flags;
  const label = [...labelFile, ...(flags.label ?? [])];
  const env = environmentOf(flags).flatMap((item) => {
    if (item === '' || item.includes('=')) return item;
    const value = process.env[item];
    return value === undefined ? [] : `${item}=${value}`;
  });
  const securityOpt = flags.securityOpt?.map((option) => {
    const [, key, file] = /^(seccomp[=:])(.+)$/s.exec(option) ?? [];
    return key === undefined || file === 'unconfined' || file === 'builtin'
      ? option
      : `${key}${resolve(file as string)}`;
  });
  const volume = flags.volume?.map((text) => {
    const [source = '', rest] = text.split(/:(.*)/s);
    // A name is docker's for a volume that it keeps: no path beside us.
    return rest !== undefined && source !== '' && isPath(source) ? `${resolve(source)}:${rest}` : text;
  });
  return {
    root: isPath(root) && root !== '' ? resolve(root) : root,
    flags: {
      ...rest,
      ...(env.length ? { env } : {}),
      ...(label.length ? { label } : {}),
      ...(securityOpt ? { securityOpt } : {}),
      ...(volume ? { volume } : {}),
    },
  };
}

/**
 * What a container is made of, by its options alone.
 *
 * @param root - a directory, or the name of an image
 * @param command - program and arguments
 * @param flags - options
 * @returns options for `run()`
 * @throws UsageError for options that make no sense
 */
export function containerOptions(root: string, command: readonly string[], flags: RunFlags): ContainerOptions {
  const { name, hostname, workdir, user, userns, cgroupParent } = flags;
  return {
    root,
    volumes: (flags.volume ?? []).map(parseVolume),
    tmpfs: (flags.tmpfs ?? []).map(parseTmpfs),
    readonly: flags.readOnly ?? false,
    init: flags.init ?? false,
    ...(command.length ? { command } : {}),
    ...(flags.storageOpt === undefined ? {} : { storageSize: flags.storageOpt }),
    ...(name === undefined ? {} : { name }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(workdir === undefined ? {} : { cwd: workdir }),
    ...(user === undefined ? {} : { user }),
    ...(userns === undefined ? {} : { userns }),
    ...(cgroupParent === undefined ? {} : { cgroupParent }),
    ...processOptionsOf(flags),
    ...resourcesOf(flags),
    devices: flags.device ?? [],
    // For stats, pause and update.
    accounting: true,
  };
}

/**
 * The same with what its image says where the options do not.
 *
 * @param options - by its options alone
 * @param flags - options
 * @param config - of its image; none for a directory
 * @returns options for `run()`
 */
export function complete(options: ContainerOptions, flags: RunFlags, config: RunConfig | undefined): ContainerOptions {
  const { entrypoint } = flags;
  if (config) return withConfig(options, config, entrypoint);
  return entrypoint ? { ...options, command: [entrypoint, ...(options.command ?? [])] } : options;
}
