/**
 * One call of the kernel each, on a directory's descriptor and a name of bytes. `try…` return minus the error number, the others throw.
 */
import { AT, attempt, invalid, KernelError, O, RESOLVE } from '@iso/sys';

/** Where names are ended by NUL; two in turn, for calls that take two. */
const scratch = [Buffer.allocUnsafeSlow(4096), Buffer.allocUnsafeSlow(4096)] as const;
let turn = 0;
const EMPTY_NAME = Buffer.from('\0');

/** Error numbers that callers expect. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EAGAIN: 11,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENOTTY: 25,
  ERANGE: 34,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOPNOTSUPP: 95,
} as const;

/**
 * A name as the kernel wants it. The bytes are good until the second call from now.
 *
 * @param name - bytes
 * @returns a buffer that begins with the name and NUL
 * @throws `KernelError` `ENAMETOOLONG`; `TypeError` where it holds NUL
 */
export function cName(name: Uint8Array): Uint8Array {
  turn ^= 1;
  const bytes = scratch[turn as 0 | 1];
  if (name.length >= bytes.length) {
    const path = text(name.subarray(0, 256));
    throw new KernelError(36, { syscall: 'open', path, call: `open(${JSON.stringify(`${path}…`)})` });
  }
  // Names are short: faster than calls of native code.
  for (let i = 0; i < name.length; i++) {
    const byte = name[i] as number;
    if (byte === 0) throw invalid('a name holds NUL');
    bytes[i] = byte;
  }
  bytes[name.length] = 0;
  return bytes;
}

/** A name for messages. */
export function text(name: Uint8Array): string {
  return Buffer.from(name.buffer, name.byteOffset, name.length).toString();
}

/** Throws what a call answered, if that was an error. */
export function check(result: number, call: string, name?: Uint8Array, hint?: string): number {
  if (result >= 0) return result;
  const path = name && text(name);
  throw new KernelError(result, {
    syscall: call,
    ...(path === undefined ? {} : { path, call: `${call}(${JSON.stringify(path)})` }),
    ...(hint ? { hint } : {}),
  });
}

/** openat(2), always close-on-exec and never through a final symbolic link. */
export function tryOpen(directory: number, name: Uint8Array, flags: number, mode = 0): number {
  for (;;) {
    const fd = attempt('openat', directory, cName(name), flags | O.NOFOLLOW | O.CLOEXEC, mode);
    if (fd !== -ERRNO.EINTR) return fd;
  }
}

export function open(directory: number, name: Uint8Array, flags: number, mode = 0): number {
  return check(tryOpen(directory, name, flags, mode), 'openat', name);
}

const how = Buffer.alloc(24);

/**
 * Opens a path below a directory as if that were the root: no symbolic link, `..` or absolute path leads out of it.
 *
 * @param root - directory
 * @param path - bytes; empty for the root itself
 * @param flags - open(2) flags; O_CLOEXEC is added
 * @returns the descriptor, or minus the error number
 */
export function tryOpenInRoot(
  root: number,
  path: Uint8Array,
  flags: number,
  resolve: number = RESOLVE.IN_ROOT,
): number {
  how.writeBigUInt64LE(BigInt(flags | O.CLOEXEC), 0);
  how.writeBigUInt64LE(BigInt(resolve | RESOLVE.NO_MAGICLINKS), 16);
  const name = path.length === 0 ? DOT : path;
  for (let i = 0; ; i++) {
    const fd = attempt('openat2', root, cName(name), how, how.length);
    // EAGAIN: something was renamed while the path was walked.
    if ((fd !== -ERRNO.EAGAIN && fd !== -ERRNO.EINTR) || i === 100) return fd;
  }
}

const DOT = Buffer.from('.');

export function close(fd: number): void {
  attempt('close', fd);
}

export function tryMkdir(directory: number, name: Uint8Array, mode: number): number {
  return attempt('mkdirat', directory, cName(name), mode);
}

export function tryUnlink(directory: number, name: Uint8Array, flags = 0): number {
  return attempt('unlinkat', directory, cName(name), flags);
}

export function trySymlink(target: Uint8Array, directory: number, name: Uint8Array): number {
  return attempt('symlinkat', cName(target), directory, cName(name));
}

/** linkat(2): a symbolic link is linked itself. */
export function tryLink(from: number, old: Uint8Array, directory: number, name: Uint8Array): number {
  return attempt('linkat', from, cName(old), directory, cName(name), 0);
}

export function tryMknod(directory: number, name: Uint8Array, mode: number, device: number): number {
  return attempt('mknodat', directory, cName(name), mode, device);
}

/** renameat2(2); flags: 1 never replaces, 2 exchanges. */
export function tryRename(from: number, old: Uint8Array, to: number, name: Uint8Array, flags = 0): number {
  return attempt('renameat2', from, cName(old), to, cName(name), flags);
}

/** What a symbolic link says. */
export function readlink(directory: number, name: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(4096);
  const length = check(
    attempt('readlinkat', directory, name.length ? cName(name) : EMPTY_NAME, bytes, bytes.length),
    'readlinkat',
    name,
  );
  return Buffer.from(bytes.subarray(0, length));
}

/** A device number as the kernel's calls take it. */
export function deviceNumber(major: number, minor: number): number {
  if (major > 0xfff || minor > 0xfffff) throw invalid(`no device has the number ${major}:${minor}`);
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

const times = Buffer.alloc(32);
/** What stands in them. */
let written = 0n;
let both = true;
const UTIME_OMIT = 0x3ffffffen;
const SECOND = 1_000_000_000n;

/** utimensat(2) of the time of change; the time of access becomes the same. */
export function tryUtimens(
  directory: number,
  name: Uint8Array | null,
  mtime: bigint,
  accessed: boolean = true,
): number {
  // Neighbours in an archive often have the same time.
  if (mtime !== written || accessed !== both) {
    let nanoseconds = mtime % SECOND;
    let seconds = mtime / SECOND;
    if (nanoseconds < 0n) {
      nanoseconds += SECOND;
      seconds -= 1n;
    }
    times.writeBigInt64LE(seconds, 0);
    times.writeBigInt64LE(accessed ? nanoseconds : UTIME_OMIT, 8);
    times.writeBigInt64LE(seconds, 16);
    times.writeBigInt64LE(nanoseconds, 24);
    written = mtime;
    both = accessed;
  }
  return attempt('utimensat', directory, name && cName(name), times, name ? AT.SYMLINK_NOFOLLOW : 0);
}

/** Writes all of it; write(2) may take less than it is given. */
export function writeAll(fd: number, bytes: Uint8Array, what?: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    const rest = at === 0 ? bytes : bytes.subarray(at);
    const length = attempt('write', fd, rest, rest.length);
    if (length === -ERRNO.EINTR) continue;
    at += check(length, 'write', what);
  }
}

/** A path through which calls that take no descriptor reach what an O_PATH one holds, itself and nothing it points to. */
export function procPath(fd: number): string {
  return `/proc/self/fd/${fd}`;
}

/**
 * Where an open file is below an open directory.
 *
 * @param root - directory
 * @param fd - something in it
 * @returns the path without a slash in front
 */
export function realPath(root: number, fd: number): Buffer {
  const of = (each: number) => readlink(-100, Buffer.from(procPath(each)));
  const above = of(root);
  const length = above.length === 1 ? 0 : above.length;
  return of(fd).subarray(length + 1);
}
