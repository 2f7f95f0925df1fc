import { F, Fd, type LaunchProgram, O, openHow, RESOLVE, type Slot } from '@iso/sys';
import { attributeChange, attributes, type MountChange, type MountFlags } from './attributes.js';
import { call } from './calls/call.js';
import { fscommand, fsconfig, fsmount, fsopen, fspick, type Parameter } from './calls/context.js';
import { umount } from './calls/mount.js';
import { mountSetattr, moveMount, openTree } from './calls/tree.js';
import { FSPICK, MNT } from './raw/flags.js';
import type { MountSource } from './spec.js';

/** Where a mount is attached: a path of this process, a directory or file by descriptor, or a path inside a root. */
export type AttachTarget =
  | string
  | Fd
  | {
      /** A directory that is the root for the path: no symbolic link leads out of it. */
      root: Fd;
      /** Path inside it. */
      path: string;
    };

/**
 * A mount, or a tree of mounts, held by a descriptor. One that was created or cloned is in no mount namespace until it is
 * attached; then it stays when this object is closed. Unattached it is unmounted by {@link MountTree.close}.
 *
 * All methods act in the mount namespace of this process and need CAP_SYS_ADMIN over it. Without that, mount in a
 * launch that has a user namespace of its own: {@link rootfs}. A tree can also be the root of a launch, or one of its mounts.
 *
 * @example
 * ```ts root
 * import { MountTree } from '@iso/mounts';
 * using memory = MountTree.create('tmpfs', { parameters: { size: '1m', mode: '700' }, nosuid: true });
 * using readonly = MountTree.clone('/usr', { recursive: true, readonly: true });
 * if (memory.fd.closed || readonly.fd.closed) throw new Error('not open');
 * ```
 */
export class MountTree implements Disposable, MountSource {
  /** Descriptor of its root: files in it are opened relative to that, attached or not. */
  readonly fd: Fd;

  private constructor(fd: Fd) {
    this.fd = fd;
  }

  /**
   * Creates a file system and mounts it, attached nowhere.
   *
   * @param type - the file system, for example `tmpfs`
   * @param options - `parameters` of the file system; `source`: its device or name; attributes of the mount
   * @returns the mount
   * @throws KernelError `ENODEV` for an unknown type; `EINVAL` with the kernel's words for a parameter; `EPERM`
   */
  static create(
    type: string,
    options: MountFlags & { source?: string; parameters?: Readonly<Record<string, Parameter>> } = {},
  ): MountTree {
    using context = fsopen(type);
    if (options.source !== undefined) fsconfig(context, 'source', options.source);
    for (const [key, value] of Object.entries(options.parameters ?? {})) fsconfig(context, key, value);
    fscommand(context, 'CMD_CREATE');
    return new MountTree(fsmount(context, attributes(options)));
  }

  /**
   * Takes over the descriptor of a mount that something else has made.
   *
   * @param fd - of its root, as fsmount(2) and open_tree(2) return it; closed with this object
   * @returns the mount
   */
  static own(fd: Fd): MountTree {
    return new MountTree(fd);
  }

  /**
   * Clones the mount at a path, attached nowhere. Private unless `propagation` says otherwise: the clone of a shared mount
   * would be its peer, and what is mounted on it would appear there.
   *
   * @param path - of this process, or relative to `at`
   * @param options - `recursive`: with the mounts below; a change, made on all of them
   * @returns the clone
   * @throws KernelError `ENOENT`, `EPERM`; `EINVAL` for an unbindable mount, or where the file system takes no id map
   */
  static clone(path: string, options: MountChange & { recursive?: boolean; at?: Fd } = {}): MountTree {
    const { recursive = false, at = null } = options;
    const tree = new MountTree(openTree(at, path, { clone: true, recursive }));
    try {
      return tree.setattr({ propagation: 'private', ...options }, { recursive });
    } catch (error) {
      tree.close();
      throw error;
    }
  }

  /**
   * Opens the mount whose root is at a path, to change it or to take it away. Closing it unmounts nothing.
   *
   * @param path - of this process, or relative to `at`
   * @param options - `at`: a directory
   * @returns the mount
   * @throws KernelError `ENOENT`, `EACCES`
   */
  static open(path: string, options: { at?: Fd } = {}): MountTree {
    return new MountTree(openTree(options.at ?? null, path));
  }

  /**
   * Changes attributes, propagation, or the id map, see mount_setattr(2).
   *
   * @param change - what to set and to clear
   * @param options - `recursive`: the mounts below too, all or none
   * @returns this
   * @throws KernelError `EPERM` for a locked flag; `EINVAL` for a second id map, or where the file system supports none
   */
  setattr(change: MountChange, options: { recursive?: boolean } = {}): this {
    mountSetattr(this.fd, '', attributeChange(change), options);
    return this;
  }

  /**
   * Changes parameters of the file system, in all its mounts.
   *
   * @param parameters - by name; `{ ro: true }` makes the superblock read-only
   * @returns this
   * @throws KernelError with the kernel's own words in `kernelMessage`
   */
  reconfigure(parameters: Readonly<Record<string, Parameter>>): this {
    using context = fspick(this.fd, '', FSPICK.EMPTY_PATH);
    for (const [key, value] of Object.entries(parameters)) fsconfig(context, key, value);
    fscommand(context, 'CMD_RECONFIGURE');
    return this;
  }

  /**
   * Attaches it, or moves it there.
   *
   * @param target - where; of a path the last symbolic link is not followed, of a path inside a root all are, inside it
   * @param options - `beneath`: under the mount that is there on top (Linux 6.5)
   * @returns this
   * @throws KernelError `ENOENT`, `ENOTDIR`, `EINVAL`; `ELOOP` where a path inside a root goes through a magic link
   */
  attach(target: AttachTarget, options: { beneath?: boolean } = {}): this {
    if (typeof target === 'string') moveMount(this.fd, null, target, options);
    else if (target instanceof Fd) moveMount(this.fd, target, '', options);
    else {
      using place = openIn(target.root, target.path);
      moveMount(this.fd, place, '', options);
    }
    return this;
  }

  /**
   * Takes it out of the mount namespace: with the mounts below, and away for good when nobody uses it any more. This object
   * counts as a user, and so does whatever lies open in it.
   *
   * @throws KernelError `EINVAL` where it is not attached, not the mount on top, or locked
   */
  detach(): void {
    umount(`/proc/self/fd/${this.fd.number}`, MNT.DETACH);
  }

  /**
   * Adds it to a launch, once: as `root` of a root file system, or as a line of a recipe.
   *
   * @param program - the launch
   * @returns slot of its descriptor in the child
   */
  open(program: LaunchProgram): Slot {
    return program.step('mount', 'fcntl', [this.fd, F.DUPFD_CLOEXEC, 3]);
  }

  /** Lets it go; unmounts it where it is attached nowhere. Again does nothing. */
  close(): void {
    this.fd.close();
  }

  /** The same as {@link MountTree.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function openIn(root: Fd, path: string): Fd {
  const how = openHow(O.PATH | O.CLOEXEC, RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS);
  return Fd.own(call('openat2', [root, path, how, how.length], { path, since: '5.6' }));
}
