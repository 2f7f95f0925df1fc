import { fstatSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { AT, attempt, Fd, KernelError, O, openHow, RESOLVE, UnsupportedError } from '@iso/sys';
import type { Version } from '../controller.js';
import { type CgroupError, E } from '../error.js';
import { failure } from './failure.js';

/** `linux/magic.h`. */
const MAGIC = { 1: 0x27e0eb, 2: 0x63677270 } as const;

const HALF_A_PAGE = 2048;
const buffer = Buffer.alloc(262_144);
const statfs = Buffer.alloc(120);

/**
 * A group's directory in one hierarchy, held by a descriptor: a path that is made anew is never confused with it. Files and
 * children are opened beneath it by name, without symbolic links, and what is opened is a cgroup file system.
 */
export class CgroupDirectory implements Disposable {
  readonly path: string;
  readonly fd: Fd;
  readonly version: Version;
  /** The mount's top; paths in errors and searches for what stands in the way start there. */
  readonly mount: string;

  private constructor(fd: Fd, path: string, mount: string, version: Version) {
    this.fd = fd;
    this.path = path;
    this.mount = mount;
    this.version = version;
  }

  /**
   * Opens the top of a hierarchy.
   *
   * @param mount - its mount point
   * @param version - of the hierarchy
   * @param recorded - a recorded tree: an ordinary file system will do
   */
  static top(mount: string, version: Version, recorded = false): CgroupDirectory {
    const number = attempt('openat', AT.FDCWD, mount, O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0);
    if (number < 0) throw failure(number, 'openat', mount);
    const fd = Fd.own(number);
    if (!recorded) mustBeCgroup(fd, mount, version);
    return new CgroupDirectory(fd, mount, mount, version);
  }

  /** Opens a group by its path below a mount, in one step; undefined where there is none. Parameters as of {@link CgroupDirectory.top}. */
  static below(mount: string, path: string, version: Version, recorded = false): CgroupDirectory | undefined {
    const full = [mount, ...path.split('/').filter((name) => name !== '')].join('/');
    const number = attempt('openat', AT.FDCWD, full, O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0);
    if (number === -E.NOENT) return undefined;
    if (number < 0) throw failure(number, 'openat', full);
    const fd = Fd.own(number);
    if (!recorded) mustBeCgroup(fd, mount, version);
    return new CgroupDirectory(fd, full, mount, version);
  }

  /** Opens a group below this one by a relative path; undefined where there is none. */
  descend(relative: string): CgroupDirectory | undefined {
    const names = relative.split('/').filter((name) => name !== '');
    const path = [this.path, ...names].join('/');
    const number = this.#openat(names.length ? names.join('/') : '.', O.RDONLY | O.DIRECTORY);
    if (number === -E.NOENT || number === -E.NODEV) return undefined;
    if (number < 0) throw failure(number, 'openat2', path);
    return new CgroupDirectory(Fd.own(number), path, this.mount, this.version);
  }

  /** Opens the group so many levels above; undefined above the mount's top. */
  ancestor(levels: number): CgroupDirectory | undefined {
    const names = this.path.slice(this.mount.length).split('/').filter(Boolean);
    if (levels > names.length) return undefined;
    const path = [this.mount, ...names.slice(0, names.length - levels)].join('/');
    const number = attempt('openat', AT.FDCWD, path, O.RDONLY | O.DIRECTORY | O.CLOEXEC, 0);
    return number < 0 ? undefined : new CgroupDirectory(Fd.own(number), path, this.mount, this.version);
  }

  /**
   * Makes a child and opens it.
   *
   * @param name - one component
   * @param fresh - it must not be there yet
   */
  make(name: string, fresh: boolean): CgroupDirectory {
    const path = `${this.path}/${name}`;
    const there = fresh ? undefined : this.descend(name);
    if (there) return there;
    const result = attempt('mkdirat', this.fd, name, 0o755);
    if (result < 0 && (fresh || result !== -E.EXIST)) throw failure(result, 'mkdir', path);
    try {
      const child = this.descend(name);
      if (child) return child;
    } catch (error) {
      // No descriptor is left: nor is a directory that nobody holds.
      if (result === 0) attempt('unlinkat', this.fd, name, AT.REMOVEDIR);
      throw error;
    }
    throw failure(E.NOENT, 'openat2', path);
  }

  /** rmdir(2) of the group itself; returns the error number, 0 where it is gone, even if there is another in its place. */
  remove(): number {
    // Its files are there as long as it is; and as long as it is, its path is nobody else's, but for renaming.
    const there = this.#openat('cgroup.procs', O.PATH);
    if (there >= 0) attempt('close', there);
    else if (there === -E.NOENT || there === -E.NODEV) return 0;
    const result = attempt('unlinkat', AT.FDCWD, this.path, AT.REMOVEDIR);
    if (result !== -E.NOENT) return -result;
    // Gone meanwhile; or somebody gave it another name, which v1 allows.
    if (!this.has('cgroup.procs')) return 0;
    return -attempt('unlinkat', AT.FDCWD, readlinkSync(`/proc/self/fd/${this.fd.number}`), AT.REMOVEDIR);
  }

  /** Inode number: on v2 the cgroup's id. */
  get inode(): bigint {
    return fstatSync(this.fd.number, { bigint: true }).ino;
  }

  /** Names of the groups right below. */
  children(): string[] {
    try {
      return readdirSync(`/proc/self/fd/${this.fd.number}`, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map((entry) => entry.name);
    } catch {
      return [];
    }
  }

  /** Names of the control files. */
  files(): string[] {
    return readdirSync(`/proc/self/fd/${this.fd.number}`, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => entry.name);
  }

  /** Opens a control file; a negative error number where that fails. */
  open(file: string, flags: number): number {
    return this.#openat(file, flags);
  }

  /** Opens a control file for steps of a launch, for triggers and watchers. */
  openFd(file: string, flags: number): Fd {
    const number = this.#openat(file, flags);
    if (number < 0) throw this.failure(number, 'openat2', file);
    return Fd.own(number);
  }

  /** Whether there is such a control file. */
  has(file: string): boolean {
    const number = this.#openat(file, O.PATH);
    if (number >= 0) attempt('close', number);
    return number >= 0;
  }

  /** Content of a control file; undefined where the kernel has none of that name, or will not say. */
  read(file: string): string | undefined {
    const number = this.#openat(file, O.RDONLY);
    if (number === -E.NOENT) return undefined;
    if (number < 0) throw this.failure(number, 'openat2', file);
    try {
      let content = '';
      for (;;) {
        const length = readSync(number, buffer, 0, buffer.length, null);
        content += buffer.toString('latin1', 0, length);
        // The kernel fills a page with whole lines: half a page is the end.
        if (length < HALF_A_PAGE) return content.trimEnd();
      }
    } catch (error) {
      const { errno = -E.INVAL } = error as { errno?: number };
      // Files that answer so have nothing to say here: PSI that is off, procs of a threaded group.
      if (errno === -E.OPNOTSUPP) return undefined;
      throw this.failure(errno, 'read', file);
    } finally {
      attempt('close', number);
    }
  }

  /** One write to a control file: never O_CREAT or O_TRUNC, which would turn a missing file into EACCES. */
  write(file: string, value: string, { nonblock = false } = {}): void {
    const number = this.#openat(file, nonblock ? O.WRONLY | O.NONBLOCK : O.WRONLY);
    if (number < 0) throw this.failure(number, 'openat2', file, value);
    try {
      this.#put(number, file, value);
    } finally {
      attempt('close', number);
    }
  }

  /** The same, and what the file says then. */
  writeAndRead(file: string, value: string, options: { nonblock?: boolean } = {}): string | undefined {
    const number = this.#openat(file, options.nonblock ? O.RDWR | O.NONBLOCK : O.RDWR);
    if (number < 0) {
      // Not for both at a time, or there is no such file: the error is that of the write.
      this.write(file, value, options);
      return this.read(file);
    }
    try {
      this.#put(number, file, value);
      const length = readSync(number, buffer, 0, buffer.length, 0);
      // What takes more than one read is read as anything else.
      return length < HALF_A_PAGE ? buffer.toString('latin1', 0, length).trimEnd() : this.read(file);
    } catch (error) {
      if (error instanceof KernelError) throw error;
      throw this.failure((error as { errno?: number }).errno ?? -E.INVAL, 'read', file);
    } finally {
      attempt('close', number);
    }
  }

  #put(number: number, file: string, value: string): void {
    const bytes = Buffer.from(value);
    let result: number;
    // Lowering a memory limit reclaims, and a signal interrupts that.
    do result = attempt('write', number, bytes, bytes.length);
    while (result === -E.INTR);
    if (result < 0) throw this.failure(result, 'write', file, value);
    if (result !== bytes.length) throw this.failure(-E.INVAL, 'write', file, value);
  }

  /** Closes the descriptor; the group stays. */
  [Symbol.dispose](): void {
    this.fd.close();
  }

  #openat(name: string, flags: number): number {
    const how = openHow(flags | O.CLOEXEC, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS);
    const number = attempt('openat2', this.fd, name, how, how.length);
    if (number !== -E.NOSYS) return number;
    if (name.split('/').includes('..')) return -E.INVAL;
    return attempt('openat', this.fd, name, flags | O.NOFOLLOW | O.CLOEXEC, 0);
  }

  /** The error of a failed call on a control file, or on the directory itself. */
  failure(errno: number, syscall: string, file?: string, value?: string): CgroupError {
    if (file === undefined) return failure(errno, syscall, this.path);
    return failure(errno, syscall, `${this.path}/${file}`, { directory: this, file, value });
  }
}

/** Closes what is on another file system, and says so. */
function mustBeCgroup(fd: Fd, mount: string, version: Version): void {
  const result = attempt('fstatfs', fd, statfs);
  if (result === 0 && Number(statfs.readBigInt64LE(0)) === MAGIC[version]) return;
  fd.close();
  if (result < 0) throw failure(result, 'fstatfs', mount);
  throw new UnsupportedError('cgroups', `${mount} is not a cgroup v${version} file system`);
}
