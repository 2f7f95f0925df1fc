import { fstatSync } from 'node:fs';
import {
  AT,
  attempt,
  errand,
  Fd,
  invalid,
  KernelError,
  LaunchProgram,
  O,
  type Part,
  type Slot,
  syscall,
} from '@iso/sys';
import { bringLoopbackUp } from './loopback.js';
import { type NamespaceType, typeOfFlag, types } from './type.js';

const NS_GET_USERNS = 0xb701;
const NS_GET_PARENT = 0xb702;
const NS_GET_NSTYPE = 0xb703;
const NS_GET_OWNER_UID = 0xb704;
const MS_BIND = 0x1000;
const MNT_DETACH = 2;

/** Where an existing namespace is found. */
export type NamespaceSource = { pid: number } | { path: string } | { pidfd: Fd } | { fd: Fd };

/** What a new namespace starts with. */
export interface CreateOptions {
  /** Host name of a `uts` namespace. */
  hostname?: string;
  /** NIS domain name of a `uts` namespace. */
  domainname?: string;
  /** Whether a `net` namespace gets its loopback up, default true. */
  loopback?: boolean;
  /** Seconds added to CLOCK_MONOTONIC in a `time` namespace. */
  monotonic?: number;
  /** Seconds added to CLOCK_BOOTTIME in a `time` namespace. */
  boottime?: number;
  /** User namespace that owns it; default the caller's. */
  owner?: Namespace;
}

/**
 * A namespace, held by a descriptor: it lives as long as this object does not close it, with or without a process in it.
 * No thread of this process ever enters it.
 *
 * @example
 * ```ts root
 * import { Namespace } from '@iso/namespaces';
 * const network = Namespace.create('net');
 * if (network.equals(Namespace.self('net'))) throw new Error('not a new one');
 * network.close();
 * ```
 */
export class Namespace implements Disposable, Part {
  /** Which of the eight it is. */
  readonly type: NamespaceType;
  /** Its descriptor. */
  readonly fd: Fd;
  /** Its inode number: what `lsns` and /proc/PID/ns show. */
  readonly id: number;

  /** @internal */
  constructor(fd: Fd, type: NamespaceType) {
    this.fd = fd;
    this.type = type;
    this.id = fstatSync(fd.number).ino;
  }

  /**
   * Opens an existing namespace.
   *
   * @param source - of a process (by pid or pidfd), a pinned path, or a descriptor, which is duplicated
   * @param type - which one of a process; compared with what a path or descriptor is
   * @returns the namespace
   * @throws KernelError `ENOENT`, `EACCES` (ptrace access to the process is needed); `TypeError` where it is none, or of another type
   */
  static open(source: NamespaceSource, type: NamespaceType): Namespace {
    const { flag, file } = types[type];
    let fd: Fd;
    if ('pid' in source) fd = Fd.open(`/proc/${source.pid}/ns/${file}`);
    else if ('path' in source) fd = Fd.open(source.path);
    else if ('fd' in source) fd = source.fd.duplicate();
    else fd = Fd.open(`/proc/${pidOf(source.pidfd)}/ns/${file}`);
    const found = attempt('ioctl', fd, NS_GET_NSTYPE);
    if (found !== flag) {
      fd.close();
      throw invalid(
        found < 0 ? 'the descriptor is no namespace' : `it is a ${typeOfFlag(found)} namespace, not ${type}`,
      );
    }
    return new Namespace(fd, type);
  }

  /**
   * A namespace of this process.
   *
   * @param type - which
   * @returns the namespace
   */
  static self(type: NamespaceType): Namespace {
    return Namespace.open({ path: `/proc/self/ns/${types[type].file}` }, type);
  }

  /**
   * Creates a namespace that is held by its descriptor alone. For a user namespace see `UserNamespace.create`.
   *
   * @param type - which
   * @param options - what it starts with
   * @returns the namespace
   * @throws KernelError `EPERM` without CAP_SYS_ADMIN in `owner`; `TypeError` for `pid`, which needs a process, and `user`
   */
  static create(type: Exclude<NamespaceType, 'user' | 'pid'>, options: CreateOptions = {}): Namespace {
    if ((type as string) === 'user') throw invalid('a user namespace needs maps: UserNamespace.create');
    if ((type as string) === 'pid') throw invalid('a pid namespace lives by its first process: launch one');
    const program = new LaunchProgram('errand');
    if (options.owner) program.join(options.owner.fd, types.user.flag);
    program.unshare(types[type].flag);
    if (type === 'uts') setNames(program, options);
    const helpers: (Slot | undefined)[] = [];
    if (type === 'net' && options.loopback !== false) helpers.push(bringLoopbackUp(program));
    if (type === 'time') helpers.push(setTimeOffsets(program, options));
    // A new time namespace is that of the children, until exec.
    const file = type === 'time' ? 'time_for_children' : types[type].file;
    const fd = program.step('end', 'openat', [AT.FDCWD, `/proc/thread-self/ns/${file}`, O.RDONLY | O.CLOEXEC]);
    errand(program);
    // What an errand opens is open here.
    for (const slot of helpers) if (slot?.value !== undefined) attempt('close', slot.value);
    return new Namespace(Fd.own(fd.value as number), type);
  }

  /**
   * The user namespace that owns it; of a user namespace its parent.
   *
   * @returns it
   * @throws KernelError `EPERM` where that is above the caller's
   */
  owner(): Namespace {
    return new Namespace(Fd.own(syscall('ioctl', this.fd, NS_GET_USERNS)), 'user');
  }

  /**
   * Its parent: pid and user namespaces have one.
   *
   * @returns it
   * @throws KernelError `EPERM` where that is above the caller's, `EINVAL` for other types
   */
  parent(): Namespace {
    return new Namespace(Fd.own(syscall('ioctl', this.fd, NS_GET_PARENT)), this.type);
  }

  /**
   * Who created a user namespace.
   *
   * @returns the uid, as the caller sees it
   * @throws KernelError `EINVAL` for other types
   */
  ownerUid(): number {
    const uid = Buffer.alloc(4);
    syscall('ioctl', this.fd, NS_GET_OWNER_UID, uid);
    return uid.readUInt32LE(0);
  }

  /**
   * Whether two objects are one namespace.
   *
   * @param other - the other
   * @returns true for the same device and inode
   */
  equals(other: Namespace): boolean {
    const [a, b] = [fstatSync(this.fd.number), fstatSync(other.fd.number)];
    return a.ino === b.ino && a.dev === b.dev;
  }

  /**
   * Pins it to a path, where `nsenter` and `ip netns` find it and where it outlives this process. Needs CAP_SYS_ADMIN.
   *
   * @param path - a file, created where it is missing
   * @throws KernelError `EPERM`, `ENOENT`; `EINVAL` for a mount namespace on a shared mount
   */
  pin(path: string): void {
    Fd.open(path, { flags: O.CREAT | O.RDONLY, mode: 0o444 }).close();
    syscall('mount', `/proc/self/fd/${this.fd.number}`, path, null, MS_BIND, null);
  }

  /**
   * Undoes {@link Namespace.pin}: unmounts and removes the file.
   *
   * @param path - as it was pinned
   * @throws KernelError `EINVAL` where nothing is mounted there
   */
  static unpin(path: string): void {
    syscall('umount2', path, MNT_DETACH);
    syscall('unlinkat', AT.FDCWD, path, 0);
  }

  /**
   * Runs an errand inside: a child joins, makes the calls and exits; descriptors that it opens are this process's.
   *
   * @param build - adds the steps, phase `host`
   * @throws KernelError with `step`
   */
  errand(build: (program: LaunchProgram) => void): void {
    const program = new LaunchProgram('errand');
    this.confine(program);
    build(program);
    errand(program);
  }

  /** Joins it: a launch starts its process inside. */
  confine(program: LaunchProgram): void {
    program.join(this.fd, types[this.type].flag);
  }

  /** Lets it go. It ends once no process, pin or descriptor holds it. */
  close(): void {
    this.fd.close();
  }

  /** The same as {@link Namespace.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Adds the steps that name a host.
 *
 * @param program - the launch
 * @param names - to set
 */
export function setNames(program: LaunchProgram, names: { hostname?: string; domainname?: string }): void {
  for (const [call, name] of [
    ['sethostname', names.hostname],
    ['setdomainname', names.domainname],
  ] as const) {
    if (name === undefined) continue;
    const length = Buffer.byteLength(name);
    if (length > 64) throw invalid(`a host or domain name has 64 bytes at the most, not ${length}`);
    program.step('host', call, [name, length]);
  }
}

/**
 * Adds the steps that shift the clocks of a new time namespace, see time_namespaces(7).
 *
 * @param program - the launch
 * @param offsets - in seconds
 * @returns slot of the file, for an errand to close; undefined where nothing is shifted
 */
export function setTimeOffsets(
  program: LaunchProgram,
  offsets: { monotonic?: number; boottime?: number },
): Slot | undefined {
  const lines = (['monotonic', 'boottime'] as const)
    .filter((clock) => offsets[clock] !== undefined)
    .map((clock) => {
      const seconds = offsets[clock] as number;
      if (!Number.isFinite(seconds)) throw invalid(`not a time offset: ${seconds}`);
      const whole = Math.floor(seconds);
      return `${clock} ${whole} ${Math.round((seconds - whole) * 1e9)}\n`;
    });
  if (lines.length === 0) return undefined;
  const text = lines.join('');
  const fd = program.step('user', 'openat', [AT.FDCWD, '/proc/self/timens_offsets', O.WRONLY | O.CLOEXEC]);
  program.step('user', 'write', [fd, text, text.length], {
    hint: 'the clocks would run below zero, or the offsets cannot be set any more',
  });
  return fd;
}

function pidOf(pidfd: Fd): number {
  // fdinfo of a pidfd names the process in the reader's own pid namespace.
  const fd = Fd.open(`/proc/self/fdinfo/${pidfd.number}`);
  const bytes = Buffer.alloc(512);
  const length = syscall('read', fd, bytes, bytes.length);
  fd.close();
  const pid = Number(/^Pid:\s*(-?\d+)$/m.exec(bytes.toString('latin1', 0, length))?.[1] ?? 0);
  if (pid <= 0)
    throw new KernelError(3, { syscall: 'pidfd', call: `pidfd ${pidfd.number}`, hint: 'the process has ended' });
  return pid;
}
