import { attempt, Fd, syscall } from '@iso/sys';

/** ioctls of namespace files, `linux/nsfs.h`. */
export const NS = {
  GET_USERNS: 0xb701,
  GET_PARENT: 0xb702,
  GET_NSTYPE: 0xb703,
  GET_OWNER_UID: 0xb704,
} as const;

/** First of the ioctls by which a pidfd gives its process's namespaces (Linux 6.11), `linux/pidfd.h`; by name in /proc/PID/ns. */
export const PIDFD_GET: Readonly<Record<string, number>> = {
  cgroup: 0xff01,
  ipc: 0xff02,
  mnt: 0xff03,
  net: 0xff04,
  pid: 0xff05,
  time: 0xff07,
  user: 0xff09,
  uts: 0xff0a,
};

const NSFS_MAGIC = 0x6e736673;

/**
 * Whether a descriptor is a namespace. Asked before any ioctl: to another file the same number may mean anything.
 *
 * @param fd - any descriptor
 * @returns whether nsfs has it
 */
export function isNamespace(fd: Fd): boolean {
  const statfs = Buffer.alloc(120);
  return attempt('fstatfs', fd, statfs) === 0 && statfs.readUInt32LE(0) === NSFS_MAGIC;
}

/**
 * Opens a file where it is a namespace: nothing else is opened for real, where that could wait (a FIFO) or do something.
 *
 * @param path - any path
 * @returns the namespace's descriptor; undefined where it is something else
 * @throws KernelError `ENOENT`, `EACCES`
 */
export function openNamespace(path: string): Fd | undefined {
  using place = Fd.open(path, { path: true });
  return isNamespace(place) ? Fd.open(`/proc/self/fd/${place.number}`) : undefined;
}

/**
 * The `CLONE.NEW*` flag of a namespace.
 *
 * @param fd - a namespace
 * @returns its flag
 */
export function flagOf(fd: Fd): number {
  return syscall('ioctl', fd, NS.GET_NSTYPE);
}
