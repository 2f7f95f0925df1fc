import type { MountSource } from '@iso/mounts';
import type { NamespacesOptions } from '@iso/namespaces';
import type { Fd } from '@iso/sys';
import { UsageError } from './options.js';

/** Another container, whose namespace is shared. */
export interface SharedWith {
  /** Of its first process. */
  pidfd: Fd;
  /** Its /dev/shm, for `ipc`. */
  shm?: MountSource;
}

/** Which namespaces a container has not of its own, by docker's names. */
export interface SharingOptions {
  /** Whose processes it sees, default its own. */
  pid?: 'host' | SharedWith;
  /**
   * Whose System V objects, message queues and shared memory it has, default its own (`private`). `shareable`: others may join it;
   * `none`: its own, without a /dev/shm.
   */
  ipc?: 'private' | 'shareable' | 'none' | 'host' | SharedWith;
  /** Whose host name it has, default its own. */
  uts?: 'host' | 'private';
  /** Whether /proc/self/cgroup shows the whole path of its cgroup, default `private`: not. */
  cgroupns?: 'host' | 'private';
  /** Bytes of its /dev/shm, default 64 MiB. */
  shmSize?: number;
}

/**
 * The namespaces of a container but for network, mount and user.
 *
 * @param options - as the user has them
 * @param hostname - for a uts namespace of its own
 * @param about - whether it has a user namespace of its own, a host name that was asked for, an init
 * @returns for `namespaces()`
 * @throws {@link UsageError} for what the kernel, or sense, does not allow
 */
export function sharedNamespaces(
  options: SharingOptions,
  hostname: string,
  about: { ownUser: boolean; named: boolean; init: boolean },
): Pick<NamespacesOptions, 'pid' | 'ipc' | 'uts' | 'cgroup'> {
  const { pid, ipc = 'private', uts = 'private', cgroupns = 'private', shmSize } = options;
  if (pid !== undefined && typeof pid !== 'object') word('--pid', pid, ['host']);
  if (typeof ipc !== 'object') word('--ipc', ipc, ['private', 'shareable', 'none', 'host']);
  word('--uts', uts, ['host', 'private']);
  word('--cgroupns', cgroupns, ['host', 'private']);
  const own = typeof ipc === 'string' && ipc !== 'host';
  if (about.ownUser) {
    // What is shared belongs to the host: there is no new proc, mqueue or cgroup2 of it.
    const shared = pid !== undefined ? '--pid' : !own ? '--ipc' : cgroupns === 'host' ? '--cgroupns' : undefined;
    if (shared) throw new UsageError(`${shared} of others goes with no user namespace of its own`);
  }
  if (pid !== undefined && about.init)
    throw new UsageError('--init is the first process of a pid namespace of its own: not with --pid');
  if (uts === 'host' && about.named)
    throw new UsageError('--hostname goes with a uts namespace of its own: not with --uts host');
  if (shmSize !== undefined && (!own || ipc === 'none'))
    throw new UsageError('--shm-size goes with a /dev/shm of its own: not with this --ipc');
  if (shmSize !== undefined && !(Number.isSafeInteger(shmSize) && shmSize > 0))
    throw new UsageError(`--shm-size is a number of bytes above 0, not ${shmSize}`);
  return {
    pid: pid === undefined ? 'new' : pid === 'host' ? 'host' : { pidfd: pid.pidfd },
    ipc: own ? 'new' : ipc === 'host' ? 'host' : { pidfd: (ipc as SharedWith).pidfd },
    uts: uts === 'host' ? 'host' : { hostname },
    cgroup: cgroupns === 'host' ? 'host' : 'new',
  };
}

/** Any other word would stand for less confinement than was meant. */
function word(name: string, value: string, words: readonly string[]): void {
  if (!words.includes(value)) throw new UsageError(`${name} is ${words.join(', ')}, not ${JSON.stringify(value)}`);
}
