import { AT, attempt, Fd, KernelError, O, retryOnInterrupt, syscall } from '@iso/sys';

/** A cgroup's directory in one hierarchy, held by a descriptor: a re-created path is never confused with it. */
export class CgroupDirectory implements Disposable {
  readonly path: string;
  readonly fd: Fd;

  private constructor(path: string) {
    this.path = path;
    this.fd = Fd.open(path, { directory: true });
  }

  /** Makes it, parents too, and opens it. `fresh`: it must not exist yet. */
  static create(path: string, fresh: boolean): CgroupDirectory {
    const result = attempt('mkdirat', AT.FDCWD, path, 0o755);
    if (result < 0 && !(result === -17 && !fresh)) {
      throw new KernelError(result, {
        syscall: 'mkdir',
        path,
        call: `mkdir(${JSON.stringify(path)})`,
        ...(result === -13 || result === -1 || result === -30
          ? { hint: 'creating a cgroup needs root, or a subtree delegated to this user (systemd: Delegate=yes)' }
          : {}),
      });
    }
    try {
      return new CgroupDirectory(path);
    } catch (error) {
      if (fresh) attempt('unlinkat', AT.FDCWD, path, AT.REMOVEDIR);
      throw error;
    }
  }

  /** Opens one that is there. */
  static open(path: string): CgroupDirectory {
    return new CgroupDirectory(path);
  }

  /** Content of a control file; undefined where the kernel has none of that name. */
  read(file: string): string | undefined {
    const fd = attempt('openat', this.fd, file, O.RDONLY | O.CLOEXEC, 0);
    if (fd === -2) return undefined;
    if (fd < 0) throw new KernelError(fd, { syscall: 'openat', path: `${this.path}/${file}` });
    const bytes = Buffer.alloc(65536);
    const length = attempt('read', fd, bytes, bytes.length);
    attempt('close', fd);
    if (length < 0) throw new KernelError(length, { syscall: 'read', path: `${this.path}/${file}` });
    return bytes.toString('latin1', 0, length).trimEnd();
  }

  /** One write to a control file: never O_CREAT or O_TRUNC, which would turn a missing file into EACCES. */
  write(file: string, value: string, options: { optional?: boolean } = {}): void {
    const path = `${this.path}/${file}`;
    const call = `write(${JSON.stringify(path)}, ${JSON.stringify(value)})`;
    const opened = attempt('openat', this.fd, file, O.WRONLY | O.CLOEXEC, 0);
    if (opened === -2 && options.optional) return;
    if (opened < 0) throw new KernelError(opened, { syscall: 'openat', path, call, ...hintOf(opened) });
    const fd = Fd.own(opened);
    try {
      // Lowering a memory limit reclaims, and a signal interrupts that.
      retryOnInterrupt('write', fd, value, value.length);
    } catch (error) {
      if (KernelError.is(error))
        throw new KernelError(error.errno, { syscall: 'write', path, call, ...hintOf(error.errno) });
      throw error;
    } finally {
      fd.close();
    }
  }

  /** Opens a control file for steps of a launch. */
  open(file: string): Fd {
    return Fd.own(syscall('openat', this.fd, file, O.WRONLY | O.CLOEXEC, 0));
  }

  /** rmdir(2). Returns the error number, 0 where it is gone. */
  remove(): number {
    const result = attempt('unlinkat', AT.FDCWD, this.path, AT.REMOVEDIR);
    return result === -2 ? 0 : -result;
  }

  /** Closes the descriptor; the cgroup stays. */
  [Symbol.dispose](): void {
    this.fd.close();
  }
}

function hintOf(errno: number): { hint?: string } {
  const hints: Record<number, string> = {
    2: 'the controller is not enabled here: it must stand in cgroup.subtree_control of every ancestor',
    13: 'the file belongs to somebody else: limits are set by the owner of the parent',
    16: 'it is in use: the limit is below what is used now, or the cgroup has processes where it must have none',
    22: 'the kernel takes no such value',
  };
  const hint = hints[Math.abs(errno)];
  return hint ? { hint } : {};
}
