import { cpus } from 'node:os';

/** A directory or file of the host inside the container, docker's `-v`. */
export interface Volume {
  /** Absolute path on the host. */
  source: string;
  /** Absolute path in the container. */
  target: string;
  /** Whether writes are refused, in submounts too. */
  readonly: boolean;
  /** `slave`: what the host mounts below the source later appears inside; default `private`: it does not. */
  propagation?: 'private' | 'slave';
}

/** A memory file system in the container, docker's `--tmpfs`. */
export interface Tmpfs {
  /** Absolute path in the container. */
  target: string;
  /** Bytes, default half of the memory. */
  size?: number;
  /** Mode of its root, default 0o1777. */
  mode?: number;
  /** Owner of its root, default 0. */
  uid?: number;
  gid?: number;
  readonly?: boolean;
  /** Default true, as docker's. */
  nosuid?: boolean;
  /** Default true, as docker's. */
  nodev?: boolean;
  /** Default true, as docker's. */
  noexec?: boolean;
}

/** Docker's default search path in a container. */
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** An option or argument that makes no sense; the command exits with 125. */
export class UsageError extends Error {
  override name = 'UsageError';
  /** Always this. */
  readonly code = 'ERR_INVALID_ARG_VALUE';
}

/**
 * Parses docker's `-v SOURCE:TARGET[:OPTIONS]`.
 *
 * @param text - as typed; options are `ro`, `rw`, `rprivate`, `rslave`, with commas between
 * @returns the volume
 * @throws {@link UsageError} for relative paths and unknown options
 */
export function parseVolume(text: string): Volume {
  const [source, target, options, ...rest] = text.split(':');
  if (!source?.startsWith('/') || !target?.startsWith('/') || rest.length) {
    throw new UsageError(
      `not a volume: ${JSON.stringify(text)}, it is SOURCE:TARGET[:OPTIONS] with paths, /… or ./…, and /… inside`,
    );
  }
  const volume: Volume = { source, target, readonly: false };
  for (const option of options?.split(',') ?? []) {
    if (option === 'ro' || option === 'rw') volume.readonly = option === 'ro';
    else if (option === 'rprivate') volume.propagation = 'private';
    else if (option === 'rslave') volume.propagation = 'slave';
    else
      throw new UsageError(`not an option of a volume: ${JSON.stringify(option)}, there are ro, rw, rprivate, rslave`);
  }
  return volume;
}

/**
 * Parses docker's `--tmpfs PATH[:OPTIONS]`.
 *
 * @param text - as typed; options are those of mount(8) for a tmpfs, with commas between
 * @returns what to mount
 * @throws {@link UsageError} for relative paths, unknown options, numbers that are none
 */
export function parseTmpfs(text: string): Tmpfs {
  const [target, options = ''] = text.split(/:(.*)/s);
  if (!target?.startsWith('/')) throw new UsageError(`not a tmpfs: ${JSON.stringify(text)}, it is PATH[:OPTIONS]`);
  const tmpfs: Tmpfs = { target, nosuid: true, nodev: true, noexec: true };
  for (const option of options.split(',').filter((word) => word !== '')) {
    const [key = '', value] = option.split(/=(.*)/s);
    const flag = flags[key];
    if (flag && value === undefined) Object.assign(tmpfs, flag);
    else if (key === 'size' && value) tmpfs.size = parseBytes(value);
    else if (key === 'mode' && /^[0-7]{1,4}$/.test(value ?? '')) tmpfs.mode = Number.parseInt(value as string, 8);
    else if ((key === 'uid' || key === 'gid') && /^\d{1,10}$/.test(value ?? '') && Number(value) < 2 ** 32 - 1)
      tmpfs[key] = Number(value);
    else throw new UsageError(`not an option of a tmpfs: ${JSON.stringify(option)}`);
  }
  return tmpfs;
}

const flags: Record<string, Partial<Tmpfs>> = {
  ro: { readonly: true },
  rw: { readonly: false },
  nosuid: { nosuid: true },
  suid: { nosuid: false },
  nodev: { nodev: true },
  dev: { nodev: false },
  noexec: { noexec: true },
  exec: { noexec: false },
};

/**
 * Parses a number of bytes with docker's suffixes.
 *
 * @param text - for example `64m`, `1g`, `4096`
 * @returns bytes
 * @throws {@link UsageError}
 */
export function parseBytes(text: string): number {
  const match = /^(\d{1,15})([bkmgt]?)b?$/i.exec(text);
  const unit = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 }[match?.[2]?.toLowerCase() ?? ''];
  const bytes = match && unit ? Number(match[1]) * unit : Number.NaN;
  if (!Number.isSafeInteger(bytes)) throw new UsageError(`not a number of bytes: ${JSON.stringify(text)}`);
  return bytes;
}

/**
 * Parses `--cpus`.
 *
 * @param text - as typed
 * @returns processors' worth of time
 * @throws {@link UsageError} below 0.01, and above what the machine has
 */
export function parseCpus(text: string): number {
  const number = /^(\d+(\.\d*)?|\.\d+)$/.test(text) ? Number(text) : Number.NaN;
  const most = cpus().length;
  if (!(number >= 0.01 && number <= most))
    throw new UsageError(`--cpus must be a number from 0.01 to ${most}, not ${JSON.stringify(text)}`);
  return number;
}

/**
 * Parses `--pids-limit`.
 *
 * @param text - as typed
 * @returns most processes, -1 for no limit
 * @throws {@link UsageError} for what is neither that nor a whole number above 0
 */
export function parsePids(text: string): number {
  if (text === '-1') return -1;
  if (!/^[1-9]\d{0,8}$/.test(text))
    throw new UsageError(`--pids-limit must be a whole number above 0, not ${JSON.stringify(text)}`);
  return Number(text);
}

/**
 * The environment of a container: docker's defaults, then what was asked for; `NAME` alone takes this process's value.
 *
 * @param given - `NAME=VALUE` or `NAME`
 * @param defaults - `hostname`, `home` and whether there is a terminal
 * @returns the variables
 * @throws {@link UsageError} for an empty name
 */
export function environment(
  given: readonly string[],
  defaults: { hostname: string; home: string; tty: boolean },
): Record<string, string> {
  const env = { PATH, HOSTNAME: defaults.hostname, HOME: defaults.home, ...(defaults.tty ? { TERM: 'xterm' } : {}) };
  return { ...env, ...variables(given) };
}

/**
 * Variables as they are typed; `NAME` alone takes this process's value, and is none where that has none.
 *
 * @param given - `NAME=VALUE` or `NAME`
 * @returns the variables
 * @throws {@link UsageError} for an empty name
 */
export function variables(given: readonly string[]): Record<string, string> {
  const env: Record<string, string> = {};
  for (const item of given) {
    const at = item.indexOf('=');
    const name = at < 0 ? item : item.slice(0, at);
    if (name === '') throw new UsageError(`not a variable: ${JSON.stringify(item)}`);
    const value = at < 0 ? process.env[name] : item.slice(at + 1);
    if (value !== undefined) env[name] = value;
  }
  return env;
}

/**
 * Refuses what is no name of a container.
 *
 * @param name - as typed
 * @throws {@link UsageError}
 */
export function checkName(name: string | undefined): void {
  if (name === undefined || /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(name)) return;
  throw new UsageError(
    `not a name: ${JSON.stringify(name)}, it is [a-zA-Z0-9][a-zA-Z0-9_.-], 63 characters at the most`,
  );
}

/**
 * Checks the path of a cgroup.
 *
 * @param path - as typed, from the top of each hierarchy
 * @returns the same without slashes around it
 * @throws {@link UsageError} for what is no path, or leads upwards
 */
export function parseCgroupParent(path: string): string {
  const parent = path.replace(/^\/+|\/+$/g, '');
  const bad = (name: string) => name === '.' || name === '..' || Buffer.byteLength(name) > 255;
  if (parent === '' || /[\x00-\x1f\x7f]/.test(parent) || parent.split('/').some(bad))
    throw new UsageError(`not the path of a cgroup: ${JSON.stringify(path.slice(0, 100))}`);
  return parent;
}
