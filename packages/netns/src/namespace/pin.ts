import { AT, attempt, Fd, invalid, KernelError, O, syscall } from '@iso/sys';
import { MNT_DETACH, MS } from './raw.js';

/** Where `ip netns` keeps its names. */
export const PIN_DIRECTORY = '/run/netns';

/**
 * The file of a name of `ip netns`.
 *
 * @param name - of a network namespace
 * @returns its path
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no file name
 */
export function pinPath(name: string): string {
  if (name === '' || name === '.' || name === '..' || name.includes('/') || Buffer.byteLength(name) > 255)
    throw invalid(`not a name of a network namespace: ${JSON.stringify(name)}`);
  return `${PIN_DIRECTORY}/${name}`;
}

/** Binds the namespace to a file, in a directory whose mounts other mount namespaces see, as ip-netns(8) has it. */
export function pin(fd: Fd, name: string): void {
  const path = pinPath(name);
  share();
  Fd.open(path, { flags: O.CREAT | O.EXCL | O.RDONLY, mode: 0 }).close();
  try {
    syscall('mount', `/proc/self/fd/${fd.number}`, path, 'none', MS.BIND, null);
  } catch (error) {
    attempt('unlinkat', AT.FDCWD, path, 0);
    throw error;
  }
}

/** Undoes {@link pin}. */
export function unpin(name: string): void {
  const path = pinPath(name);
  const refusal = attempt('umount2', path, MNT_DETACH);
  // EINVAL: a name that lost its mount, which only has to go.
  if (refusal < 0 && refusal !== -22) throw new KernelError(refusal, { syscall: 'umount2', path });
  syscall('unlinkat', AT.FDCWD, path, 0);
}

function share(): void {
  const made = attempt('mkdirat', AT.FDCWD, PIN_DIRECTORY, 0o755);
  if (made < 0 && made !== -17) throw new KernelError(made, { syscall: 'mkdirat', path: PIN_DIRECTORY });
  if (attempt('mount', '', PIN_DIRECTORY, 'none', MS.SHARED | MS.REC, null) === 0) return;
  syscall('mount', PIN_DIRECTORY, PIN_DIRECTORY, 'none', MS.BIND | MS.REC, null);
  syscall('mount', '', PIN_DIRECTORY, 'none', MS.SHARED | MS.REC, null);
}
