import { getSystemErrorMap } from 'node:util';
import { errors } from './raw/errors.js';

const brand: unique symbol = Symbol.for('@iso/sys/KernelError');
const unsupported: unique symbol = Symbol.for('@iso/sys/UnsupportedError');

const known = new Map<number, { name: string; words: string }>(
  Object.entries(errors).map(([name, [number, words]]) => [number, { name, words }]),
);

/**
 * Name of an error number.
 *
 * @param errno - positive or negative number, as the kernel or as Node writes it
 * @returns for example `'EPERM'`; `'E200'` for a number that has no name
 */
export function errnoName(errno: number): string {
  return known.get(Math.abs(errno))?.name ?? `E${Math.abs(errno)}`;
}

/**
 * Number of an error name.
 *
 * @param name - for example `'EPERM'`
 * @returns the kernel's positive number
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where no error has that name
 */
export function errnoNumber(name: string): number {
  const own = Object.hasOwn(errors, name) ? errors[name as keyof typeof errors][0] : undefined;
  const number = own ?? (name === 'EWOULDBLOCK' ? 11 : name === 'ENOTSUP' ? 95 : undefined);
  if (number === undefined)
    throw Object.assign(new TypeError(`no errno is called ${name}`), { code: 'ERR_INVALID_ARG_VALUE' });
  return number;
}

/** What a {@link KernelError} knows beside the error number. */
export interface KernelErrorFields {
  /** The system call that failed, by the kernel's name. */
  syscall: string;
  /** Its arguments as a person reads them, for the message. */
  call?: string;
  /** The path it was about. */
  path?: string;
  /** The second path of calls that take two. */
  dest?: string;
  /** Which step of a launch program failed, counted from 1, and of how many. */
  step?: { index: number; of: number; phase: string };
  /** What the kernel itself said, where it has words (a file system context, extended netlink acknowledgements). */
  kernelMessage?: string;
  /** One line: what is missing and who can grant it. */
  hint?: string;
  /** Anything the thrower adds. */
  info?: Record<string, unknown>;
  /** The error that led to this one. */
  cause?: unknown;
}

/**
 * A system call that the kernel refused, in the shape of Node's SystemError: `code`, negative `errno`, `syscall`,
 * `path`, `dest`, and what Node does not have: the `step` of a launch, the kernel's own words and a `hint`.
 *
 * @example
 * ```ts
 * import { KernelError, syscall } from '@iso/sys';
 * try {
 *   syscall('fsync', 99999);
 * } catch (error) {
 *   if (!KernelError.is(error, 'EBADF')) throw error;
 * }
 * ```
 */
export class KernelError extends Error implements KernelErrorFields {
  override name = 'KernelError';
  /** Name of the error number, for example `'EPERM'`. */
  readonly code: string;
  /** Negative error number, as in Node's own errors. */
  readonly errno: number;
  readonly syscall: string;
  declare readonly path?: string;
  declare readonly dest?: string;
  declare readonly step?: { index: number; of: number; phase: string };
  declare readonly kernelMessage?: string;
  declare readonly hint?: string;
  declare readonly info?: Record<string, unknown>;

  /**
   * @param errno - the kernel's number, either sign
   * @param fields - what else is known
   */
  constructor(errno: number, fields: KernelErrorFields) {
    const number = Math.abs(errno);
    const code = errnoName(number);
    const where = fields.step ? ` (step ${fields.step.index} of ${fields.step.of}, ${fields.step.phase})` : '';
    const said = fields.kernelMessage ? `: ${fields.kernelMessage}` : '';
    const hint = fields.hint ? `; ${fields.hint}` : '';
    // Node's words where it has some: these are the kernel's headers'.
    const text = getSystemErrorMap().get(-number)?.[1] ?? known.get(number)?.words;
    super(
      `${fields.call ?? fields.syscall}: ${code}${text ? `, ${text}` : ''}${said}${where}${hint}`,
      'cause' in fields ? { cause: fields.cause } : undefined,
    );
    this.code = code;
    this.errno = -number;
    this.syscall = fields.syscall;
    for (const key of ['path', 'dest', 'step', 'kernelMessage', 'hint', 'info'] as const) {
      if (fields[key] !== undefined) Object.assign(this, { [key]: fields[key] });
    }
    Object.defineProperty(this, brand, { value: true });
  }

  /**
   * Tells a KernelError from anything else, also across two copies of this package.
   *
   * @param error - anything caught
   * @param codes - where given, only these error names count
   * @returns whether it is one
   */
  static is(error: unknown, ...codes: string[]): error is KernelError {
    if (typeof error !== 'object' || error === null || !(brand in error)) return false;
    return codes.length === 0 || codes.includes((error as unknown as KernelError).code);
  }
}

/**
 * This kernel, architecture or platform lacks a feature. Thrown on first use, never at import.
 *
 * @example
 * ```ts
 * import { UnsupportedError } from '@iso/sys';
 * const error = new UnsupportedError('listns', 'the kernel answered ENOSYS', { since: '6.19' });
 * if (error.code !== 'EUNSUPPORTED') throw error;
 * ```
 */
export class UnsupportedError extends Error {
  override name = 'UnsupportedError';
  /** Always `'EUNSUPPORTED'`. */
  readonly code = 'EUNSUPPORTED';
  /** What is lacking, by the kernel's name. */
  readonly feature: string;
  /** How that was found out. */
  readonly reason: string;
  /** First kernel release that has it, where known. */
  declare readonly since?: string;

  /**
   * @param feature - the kernel's name of it
   * @param reason - how the lack was found out
   * @param more - the first kernel that has it; the error that showed it
   */
  constructor(feature: string, reason: string, more: { since?: string; cause?: unknown } = {}) {
    const since = more.since ? ` (Linux ${more.since} has it)` : '';
    super(`${feature} is not supported here: ${reason}${since}`, 'cause' in more ? { cause: more.cause } : undefined);
    this.feature = feature;
    this.reason = reason;
    if (more.since) Object.assign(this, { since: more.since });
    Object.defineProperty(this, unsupported, { value: true });
  }

  /**
   * Tells an UnsupportedError from anything else, also across two copies of this package.
   *
   * @param error - anything caught
   * @returns whether it is one
   */
  static is(error: unknown): error is UnsupportedError {
    return typeof error === 'object' && error !== null && unsupported in error;
  }
}
