import { AT, attempt, Fd, invalid, KernelError, O, syscall } from '@iso/sys';
import { isNamespace } from './raw/nsfs.js';
import type { NamespaceType } from './type.js';

const MS_BIND = 0x1000;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/**
 * Binds a namespace to a path.
 *
 * @param fd - the namespace
 * @param type - its type
 * @param path - a file, created where it is missing
 * @throws KernelError of mount(2); a file that was created for it is gone then
 */
export function pin(fd: Fd, type: NamespaceType, path: string): void {
  const made = attempt('openat', AT.FDCWD, path, O.CREAT | O.EXCL | O.RDONLY | O.CLOEXEC, 0o444);
  if (made >= 0) Fd.own(made).close();
  const result = attempt('mount', `/proc/self/fd/${fd.number}`, path, null, MS_BIND, null);
  if (result === 0) return;
  if (made >= 0) attempt('unlinkat', AT.FDCWD, path, 0);
  const error = new KernelError(result, { syscall: 'mount' });
  const hint: Partial<Record<string, string>> = {
    EPERM: 'pinning needs CAP_SYS_ADMIN in the user namespace of the mount table; holding the object open does not',
    EINVAL:
      type === 'mount'
        ? 'a mount namespace can be pinned to a mount that is not shared only, in an older mount namespace'
        : undefined,
    ENOENT: 'its directory is missing',
    ENOTDIR: 'a namespace is pinned to a file',
  };
  const said = hint[error.code];
  throw new KernelError(result, {
    syscall: 'mount',
    call: `mount(${type} namespace, ${JSON.stringify(path)}, MS_BIND)`,
    path,
    ...(said ? { hint: said } : {}),
  });
}

/**
 * Takes a namespace off its path, and the file away.
 *
 * @param path - as it was pinned
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where no namespace is pinned: nothing else is ever unmounted
 * @throws KernelError `ENOENT`, `EPERM`
 */
export function unpin(path: string): void {
  {
    using place = Fd.open(path, { path: true, flags: O.NOFOLLOW });
    if (!isNamespace(place)) throw invalid(`no namespace is pinned to ${path}`);
  }
  syscall('umount2', path, MNT_DETACH | UMOUNT_NOFOLLOW);
  syscall('unlinkat', AT.FDCWD, path, 0);
}
