import type { MS } from '../raw/flags.js';
import { call } from './call.js';

/**
 * mount(2), in the mount namespace of this process: for what the newer calls do not do, and for kernels before 5.2.
 *
 * @param source - a device, a path, or a name; null where the flags need none
 * @param target - path of a mount point; its symbolic links are followed
 * @param type - file system; null for a bind, a move, a change
 * @param flags - {@link MS} bits
 * @param data - options of the file system, with commas between them
 * @throws KernelError `EPERM` without CAP_SYS_ADMIN, `ENODEV` for an unknown type, `ENOENT`, `ENOTDIR`, `EINVAL`, `EBUSY`
 */
export function mount(
  source: string | null,
  target: string,
  type: string | null,
  flags = 0,
  data: string | null = null,
): void {
  call('mount', [source, target, type, flags, data], {
    path: target,
    since: '1.0',
    hints: { ENODEV: `the kernel has no file system ${type}, or its module is not loaded` },
    ...(source === null ? {} : { dest: source }),
  });
}

/**
 * umount2(2), in the mount namespace of this process.
 *
 * @param target - path of a mount point; the mount on top goes
 * @param flags - MNT bits; MNT.DETACH takes it out of the tree now, and away when nobody uses it any more
 * @throws KernelError `EBUSY` while it is used, `EINVAL` where nothing is mounted or the mount is locked, `EPERM`
 */
export function umount(target: string, flags = 0): void {
  call('umount2', [target, flags], {
    path: target,
    since: '2.2',
    hints: {
      EBUSY: 'a process works in it, has a file open in it, or mounts lie below; MNT.DETACH does not wait for them',
      EINVAL: 'nothing is mounted there, or a more privileged mount namespace has locked the mount',
    },
  });
}
