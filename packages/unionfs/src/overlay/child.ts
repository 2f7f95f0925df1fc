import { MOVE_MOUNT, MS, mountAttr, OPEN_TREE } from '@iso/mounts';
import { AT, CLONE, errand, Fd, LaunchProgram, O, type Slot } from '@iso/sys';

const MOUNTPOINT = '/proc';

/** Bytes of options that mount(2) reads, the NUL at their end included. */
export const OPTIONS = 4096;

/**
 * Mounts by mount(2) without a mount point of this process: in a child that has a mount namespace of its own, whose working directory
 * is /proc/self/fd, so that options name directories by the numbers of descriptors.
 *
 * @param type - file system
 * @param options - of the mount, then those of remounts
 * @param more - `attr`: MOUNT_ATTR bits; `attach`: detached mounts that the options name; `hint`: for a refusal
 * @returns the detached mount
 * @throws KernelError as mount(2)
 */
export function mountInChild(
  type: string,
  options: readonly Buffer[],
  { attr, attach = [], hint }: { attr: number; attach?: readonly Fd[]; hint: string },
): Fd {
  const program = new LaunchProgram('errand');
  program.unshare(CLONE.NEWNS);
  program.step('mount', 'mount', [null, '/', null, MS.REC | MS.PRIVATE, null]);
  const open = (path: string) => program.step('mount', 'openat', [AT.FDCWD, path, O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
  // Before /proc is covered.
  const names = open('/proc/self/fd');
  program.step('mount', 'fchdir', [names]);
  const place = open(MOUNTPOINT);
  let below: Slot | Fd = place;
  for (const fd of attach) {
    program.step('mount', 'move_mount', [fd, '', below, '', MOVE_MOUNT.F_EMPTY_PATH | MOVE_MOUNT.T_EMPTY_PATH]);
    below = fd;
  }
  for (const [i, bytes] of options.entries()) {
    const flags = i === 0 ? 0 : MS.REMOUNT;
    program.step('mount', 'mount', [type, MOUNTPOINT, type, flags, Buffer.concat([bytes, NUL])], {
      text: () => `mount("${type}", ${JSON.stringify(bytes.toString())}${i === 0 ? '' : ', MS_REMOUNT'})`,
      hint,
    });
  }
  const mount = program.step('mount', 'open_tree', [AT.FDCWD, MOUNTPOINT, OPEN_TREE.CLONE | OPEN_TREE.CLOEXEC]);
  if (attr) {
    const change = mountAttr({ set: attr });
    program.step('mount', 'mount_setattr', [mount, '', AT.EMPTY_PATH, change, change.length]);
  }
  errand(program);
  for (const slot of [names, place]) Fd.own(slot.value as number).close();
  return Fd.own(mount.value as number);
}

const NUL = Buffer.alloc(1);
