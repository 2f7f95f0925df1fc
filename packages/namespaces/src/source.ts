import { attempt, Fd, invalid, KernelError, syscall } from '@iso/sys';
import { flagOf, isNamespace, openNamespace, PIDFD_GET } from './raw/nsfs.js';
import { type NamespaceType, typeOfFlag, types } from './type.js';

/** Where an existing namespace is found. */
export type NamespaceSource = { pid: number } | { path: string } | { pidfd: Fd } | { fd: Fd };

/**
 * Opens an existing namespace.
 *
 * @param source - of a process, a pinned path, or a descriptor, which is duplicated
 * @param type - which one of a process; compared with what a path or descriptor is
 * @returns its descriptor
 * @throws KernelError `ENOENT`, `ESRCH`, `EACCES`; `TypeError` where it is none, or of another type
 */
export function openSource(source: NamespaceSource, type: NamespaceType): Fd {
  const { flag, file } = types[type];
  if ('pid' in source) return ofProcess(source.pid, file);
  if ('pidfd' in source) return ofPidfd(source.pidfd, file);
  const fd = 'path' in source ? openNamespace(source.path) : isNamespace(source.fd) && source.fd.duplicate();
  const what = 'path' in source ? source.path : `the descriptor ${source.fd.number}`;
  if (!fd) throw invalid(`${what} is no namespace`);
  const found = flagOf(fd);
  if (found === flag) return fd;
  fd.close();
  throw invalid(`${what} is a ${typeOfFlag(found)} namespace, not ${type}`);
}

function ofProcess(pid: number, file: string): Fd {
  if (!Number.isInteger(pid) || pid < 1) throw invalid(`not a pid: ${pid}`);
  try {
    return Fd.open(`/proc/${pid}/ns/${file}`);
  } catch (error) {
    if (!KernelError.is(error)) throw error;
    const call = `open(/proc/${pid}/ns/${file})`;
    if (error.code === 'ENOENT' && attempt('kill', pid, 0) === ESRCH)
      throw new KernelError(ESRCH, { syscall: 'openat', call, hint: 'no process has this pid (any more)' });
    throw new KernelError(error.errno, {
      syscall: 'openat',
      call,
      path: `/proc/${pid}/ns/${file}`,
      hint: {
        EACCES: 'looking into a process needs to be its user, and CAP_SYS_PTRACE where it is not dumpable',
        ENOENT: 'it is a zombie, or the kernel was built without such namespaces',
      }[error.code],
    } as ConstructorParameters<typeof KernelError>[1]);
  }
}

function ofPidfd(pidfd: Fd, file: string): Fd {
  const number = attempt('ioctl', pidfd, PIDFD_GET[file] as number, 0);
  if (number >= 0) return Fd.own(number);
  // Linux before 6.11: by its pid, which is its own as long as it lives.
  const fd = ofProcess(pidOf(pidfd), file);
  try {
    pidOf(pidfd);
    return fd;
  } catch (error) {
    fd.close();
    throw error;
  }
}

/** fdinfo of a pidfd names the process in the reader's own pid namespace, and -1 once it has ended. */
function pidOf(pidfd: Fd): number {
  using info = Fd.open(`/proc/self/fdinfo/${pidfd.number}`);
  const bytes = Buffer.alloc(512);
  const length = syscall('read', info, bytes, bytes.length);
  const found = /^Pid:\s*(-?\d+)$/m.exec(bytes.toString('latin1', 0, length))?.[1];
  if (found === undefined) throw invalid(`descriptor ${pidfd.number} is no pidfd`);
  if (Number(found) > 0) return Number(found);
  const hint = 'the process has ended, or is in no pid namespace that this one sees';
  throw new KernelError(ESRCH, { syscall: 'pidfd', call: `pidfd ${pidfd.number}`, hint });
}

const ESRCH = -3;
