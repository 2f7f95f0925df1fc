import {
  attempt,
  callText,
  errnoName,
  type Fd,
  KernelError,
  type KernelErrorFields,
  type SyscallArg,
  type SyscallName,
  UnsupportedError,
} from '@iso/sys';

/** What is known of a call before it is made. */
export interface About {
  /** The path it is about. */
  path?: string;
  /** The second path. */
  dest?: string;
  /** What an error of it means, by name. */
  hints?: Record<string, string>;
  /** The first kernel that has the call. */
  since: string;
  /** File system context whose own words explain a failure. */
  context?: Fd;
}

const PRIVILEGE =
  'needs CAP_SYS_ADMIN over the mount namespace of this process; without it, mount in a launch with a user namespace of its own';

/** Makes one of the mount calls; its errors say why. */
export function call(name: SyscallName, args: SyscallArg[], about: About): number {
  const result = attempt(name, ...args);
  if (result < 0) throw failure(name, args, result, about);
  return result;
}

/** The error of a call that was made. */
export function failure(name: SyscallName, args: readonly SyscallArg[], result: number, about: About): Error {
  const code = errnoName(result);
  if (code === 'ENOSYS')
    return new UnsupportedError(name, 'the kernel or a seccomp filter answered ENOSYS', { since: about.since });
  const words = about.context ? kernelWords(about.context) : '';
  const hint = about.hints?.[code] ?? (code === 'EPERM' ? PRIVILEGE : undefined);
  const fields: KernelErrorFields = { syscall: name, call: callText(name, args) };
  if (about.path !== undefined) fields.path = about.path;
  if (about.dest !== undefined) fields.dest = about.dest;
  if (words) fields.kernelMessage = words;
  if (hint) fields.hint = hint;
  return new KernelError(result, fields);
}

/** What a file system context has to say: one message a read, `e`, `w` or `i` in front; ENODATA ends them. */
function kernelWords(context: Fd): string {
  const messages: string[] = [];
  const bytes = Buffer.alloc(1024);
  for (let i = 0; i < MOST_MESSAGES; i++) {
    const length = attempt('read', context, bytes, bytes.length);
    if (length <= 0) break;
    messages.push(
      bytes
        .toString('utf8', 0, length)
        .replace(/^[ewi] /, '')
        .trim(),
    );
  }
  return messages.join('; ');
}

/** The kernel keeps eight. */
const MOST_MESSAGES = 8;
