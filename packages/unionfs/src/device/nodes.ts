import { MountTree } from '@iso/mounts';
import { attempt, Fd } from '@iso/sys';
import { check, deviceNumber, ERRNO } from '../file/call.js';

/** Kinds of device nodes, linux/stat.h. */
const S_IF = { character: 0o020000, block: 0o060000 } as const;

/**
 * Device nodes of our own, in a memory file system that is attached nowhere: they are there when there is no udev, and nobody
 * else opens them.
 */
export class DeviceNodes implements Disposable {
  readonly #mount = MountTree.create('tmpfs', { parameters: { size: '1m', mode: '700' } });

  /**
   * A node's path, for this process and, by its pid, for programs that it starts.
   *
   * @param kind - of device
   * @param major - number
   * @param minor - number
   * @returns the path, good until this is disposed
   */
  path(kind: keyof typeof S_IF, major: number, minor: number): string {
    const name = `${kind}-${major}-${minor}`;
    const made = attempt('mknodat', this.#mount.fd, name, S_IF[kind] | 0o600, deviceNumber(major, minor));
    if (made !== -ERRNO.EEXIST) check(made, 'mknodat', Buffer.from(name), 'device nodes need CAP_MKNOD');
    return `/proc/${process.pid}/fd/${this.#mount.fd.number}/${name}`;
  }

  /**
   * Opens a device.
   *
   * @param kind - of device
   * @param major - number
   * @param minor - number
   * @param flags - open(2) flags
   * @returns its descriptor
   * @throws KernelError `ENODEV`, `ENXIO` where the kernel has no such device
   */
  open(kind: keyof typeof S_IF, major: number, minor: number, flags: number): Fd {
    return Fd.open(this.path(kind, major, minor), { flags });
  }

  /** The nodes are gone; devices that are open stay so. */
  [Symbol.dispose](): void {
    this.#mount.close();
  }
}
