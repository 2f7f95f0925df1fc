import { fstatSync } from 'node:fs';
import { AT, attempt, errand, Fd, invalid, LaunchProgram, O, type Part, type Slot, syscall } from '@iso/sys';
import { bringLoopbackUp } from './loopback.js';
import { members } from './members.js';
import { pin, unpin } from './pin.js';
import { NS } from './raw/nsfs.js';
import { type NamespaceSource, openSource } from './source.js';
import { setTimeOffsets, type TimeOffsets } from './time.js';
import { type NamespaceType, types } from './type.js';
import { type HostNames, setNames } from './uts.js';

/** What a new namespace starts with: names of a `uts`, offsets of a `time` namespace. */
export interface CreateOptions extends HostNames, TimeOffsets {
  /** Whether a `net` namespace gets its loopback up, default true. */
  loopback?: boolean;
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
   * @throws KernelError `ESRCH` where the process is gone, `EACCES` without ptrace access to it, `ENOENT`
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where it is no namespace, or one of another type
   */
  static open(source: NamespaceSource, type: NamespaceType): Namespace {
    return new Namespace(openSource(source, type), type);
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
    return new Namespace(Fd.own(syscall('ioctl', this.fd, NS.GET_USERNS)), 'user');
  }

  /**
   * Its parent: pid and user namespaces have one.
   *
   * @returns it
   * @throws KernelError `EPERM` where that is above the caller's, `EINVAL` for other types
   */
  parent(): Namespace {
    return new Namespace(Fd.own(syscall('ioctl', this.fd, NS.GET_PARENT)), this.type);
  }

  /**
   * Who created a user namespace.
   *
   * @returns the uid, as the caller sees it
   * @throws KernelError `EINVAL` for other types
   */
  ownerUid(): number {
    const uid = Buffer.alloc(4);
    syscall('ioctl', this.fd, NS.GET_OWNER_UID, uid);
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
   * The processes in it, of those that the caller may look at.
   *
   * @returns their pids as the caller sees them, ascending
   */
  members(): number[] {
    return members(this.type, this.id);
  }

  /**
   * Pins it to a path, where `nsenter` and `ip netns` find it and where it outlives this process. Needs CAP_SYS_ADMIN.
   *
   * @param path - a file, created where it is missing
   * @throws KernelError `EPERM`, `ENOENT`; `EINVAL` for a mount namespace on a shared mount
   */
  pin(path: string): void {
    pin(this.fd, this.type, path);
  }

  /**
   * Undoes {@link Namespace.pin}: unmounts and removes the file.
   *
   * @param path - as it was pinned
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where no namespace is pinned there: nothing else is ever unmounted
   * @throws KernelError `ENOENT`, `EPERM`
   */
  static unpin(path: string): void {
    unpin(path);
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
