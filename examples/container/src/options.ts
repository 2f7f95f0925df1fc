/** A directory or file of the host inside the container, docker's `-v`. */
export interface Volume {
  /** Absolute path on the host. */
  source: string;
  /** Absolute path in the container. */
  target: string;
  /** Whether writes are refused, in submounts too. */
  readonly: boolean;
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
 * Parses docker's `-v SOURCE:TARGET[:ro|rw]`.
 *
 * @param text - as typed
 * @returns the volume
 * @throws {@link UsageError} for relative paths and unknown options
 */
export function parseVolume(text: string): Volume {
  const [source, target, mode = 'rw', ...rest] = text.split(':');
  if (!source?.startsWith('/') || !target?.startsWith('/') || rest.length || !['ro', 'rw'].includes(mode)) {
    throw new UsageError(`not a volume: ${JSON.stringify(text)}, it is SOURCE:TARGET[:ro|rw] with absolute paths`);
  }
  return { source, target, readonly: mode === 'ro' };
}

/**
 * Parses docker's `--tmpfs PATH[:size=BYTES]`.
 *
 * @param text - as typed
 * @returns path, and size in bytes where given
 * @throws {@link UsageError}
 */
export function parseTmpfs(text: string): { target: string; size?: number } {
  const [target, options = ''] = text.split(/:(.*)/s);
  if (!target?.startsWith('/')) throw new UsageError(`not a tmpfs: ${JSON.stringify(text)}, it is PATH[:size=BYTES]`);
  if (options === '') return { target };
  const size = /^size=(\w+)$/.exec(options)?.[1];
  if (!size) throw new UsageError(`not an option of a tmpfs: ${JSON.stringify(options)}`);
  return { target, size: parseBytes(size) };
}

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
 * Parses a positive decimal number.
 *
 * @param what - the option, for the message
 * @param text - as typed
 * @returns the number
 * @throws {@link UsageError}
 */
export function parseNumber(what: string, text: string): number {
  const number = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
  if (!(number > 0)) throw new UsageError(`${what} must be a number above 0, not ${JSON.stringify(text)}`);
  return number;
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
  const env: Record<string, string> = { PATH, HOSTNAME: defaults.hostname, HOME: defaults.home };
  if (defaults.tty) env.TERM = 'xterm';
  for (const item of given) {
    const at = item.indexOf('=');
    const name = at < 0 ? item : item.slice(0, at);
    if (name === '') throw new UsageError(`not a variable: ${JSON.stringify(item)}`);
    const value = at < 0 ? process.env[name] : item.slice(at + 1);
    if (value !== undefined) env[name] = value;
  }
  return env;
}
