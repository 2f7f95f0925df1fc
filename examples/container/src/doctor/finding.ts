import { KernelError, UnsupportedError } from '@iso/sys';

/** What `iso doctor` found out about one thing, by trying it. */
export interface Finding {
  /** What it belongs to. */
  area: string;
  name: string;
  /** `unknown`: what came in the way says nothing about the thing itself. */
  state: 'yes' | 'no' | 'unknown';
  /** What is there; or why it is not. */
  detail: string;
  /** Who can change it, and how; absent where it works. */
  change?: string;
}

/** A no that needs no error: what is missing is known. */
export class Missing extends Error {
  override name = 'Missing';
  /** Who can change it, and how. */
  readonly change: string;

  /**
   * @param detail - what is missing
   * @param change - who can change it, and how
   */
  constructor(detail: string, change: string) {
    super(detail);
    this.change = change;
  }
}

/**
 * Tries something of an area.
 *
 * @param area - what it belongs to
 * @returns a function that takes its name, an attempt that leaves nothing behind and returns what there is to say of it, and who could
 * change a failure where that is not the usual one
 */
export function trying(area: string) {
  return (name: string, attempt: () => unknown, change?: string): Finding => {
    try {
      return { area, name, state: 'yes', detail: String(attempt() ?? '') };
    } catch (error) {
      return failed(area, name, error, change);
    }
  };
}

/**
 * The finding for what did not work.
 *
 * @param area - what it belongs to
 * @param name - of the thing
 * @param error - that was thrown
 * @param change - who can change it, where that is known better than by the error
 * @returns the finding
 */
export function failed(area: string, name: string, error: unknown, change?: string): Finding {
  const detail = error instanceof Error ? error.message : String(error);
  if (error instanceof Missing) return { area, name, state: 'no', detail, change: error.change };
  const remedy = change ?? remedyFor(error);
  return { area, name, state: remedy === undefined ? 'unknown' : 'no', detail, ...(remedy ? { change: remedy } : {}) };
}

/** Who can change what an error stands for; undefined where the error may have another cause the next time. */
function remedyFor(error: unknown): string | undefined {
  if (UnsupportedError.is(error)) {
    return error.since === undefined
      ? 'who chooses the kernel, its modules and the seccomp filter of this session'
      : `who chooses the kernel: Linux ${error.since} has it; or the seccomp filter of this session`;
  }
  if (KernelError.is(error, 'EPERM', 'EACCES')) {
    return process.getuid?.() === 0
      ? 'who started this session: it lacks the capability, or a filter or security module refuses'
      : 'root of this machine';
  }
  if (KernelError.is(error, 'EROFS')) return 'who mounted it read-only';
  if (KernelError.is(error, 'EOPNOTSUPP', 'EAFNOSUPPORT', 'EPROTONOSUPPORT', 'ENODEV', 'ENOENT'))
    return 'who chooses the kernel and loads its modules';
  if (KernelError.is(error, 'ENOSPC', 'EUSERS')) return 'root: a limit of /proc/sys/user was reached';
  return undefined;
}
