import { MountTree } from '@iso/mounts';
import { attempt, Fd, type KernelError } from '@iso/sys';
import { check, ERRNO } from '../file/call.js';
import type { Driver } from './driver.js';
import { checkId } from './layers.js';

/** ioctls of linux/btrfs.h. */
const BTRFS_IOC = { SUBVOL_CREATE: 0x5000940e, SNAP_DESTROY: 0x5000940f, SNAP_CREATE_V2: 0x50009417 } as const;
const ARGS_SIZE = 4096;
const NAME_AT = 8;
const NAME_AT_V2 = 56;

/**
 * The driver of btrfs: a layer is a subvolume, a snapshot of the one below it, made in the same time whatever its size.
 * Needs CAP_SYS_ADMIN to remove layers.
 *
 * @param root - directory of its layers, on btrfs; exists
 * @returns the driver; dispose it to close the directory
 */
export function btrfs(root: string | Fd): Driver & Disposable {
  const fd = Fd.open(typeof root === 'string' ? root : `/proc/self/fd/${root.number}`, { directory: true });
  const directory = (id: string) => `/proc/self/fd/${fd.number}/${checkId(id)}`;
  const control = (request: number, args: Buffer, id: string) => {
    const result = attempt('ioctl', fd, request, args);
    const hints: Record<number, string> = {
      [ERRNO.ENOTTY]: 'the directory does not lie on btrfs',
      [ERRNO.EEXIST]: 'there is a layer of that id',
      [ERRNO.EPERM]: 'removing subvolumes needs CAP_SYS_ADMIN, or the mount option user_subvol_rm_allowed',
    };
    check(result, 'ioctl', Buffer.from(id), hints[-result]);
  };
  return {
    name: 'btrfs',
    format: 'plain',
    directory,
    create(id, [parent]) {
      const args = Buffer.alloc(ARGS_SIZE);
      if (parent === undefined) {
        args.write(checkId(id), NAME_AT);
        return control(BTRFS_IOC.SUBVOL_CREATE, args, id);
      }
      using below = Fd.open(directory(parent), { directory: true });
      args.writeBigInt64LE(BigInt(below.number), 0);
      args.write(checkId(id), NAME_AT_V2);
      control(BTRFS_IOC.SNAP_CREATE_V2, args, id);
    },
    open: (id, _parents, { readonly = false } = {}) => MountTree.clone(directory(id), { readonly }).fd,
    diff: (id, [parent]) => ({ after: directory(id), ...(parent ? { before: directory(parent) } : {}) }),
    remove(id) {
      const args = Buffer.alloc(ARGS_SIZE);
      args.write(checkId(id), NAME_AT);
      try {
        control(BTRFS_IOC.SNAP_DESTROY, args, id);
      } catch (error) {
        if ((error as KernelError).code !== 'ENOENT') throw error;
      }
    },
    [Symbol.dispose]: () => fd.close(),
  };
}
