import type { Fd, LaunchProgram, Slot } from '@iso/sys';
import type { MountFlags } from './attributes.js';

/** A host path inside. */
export interface BindSpec extends MountFlags {
  type: 'bind';
  /** Host path. */
  source: string;
  /** Path inside. */
  target: string;
  /** Takes the mounts below it too, and makes them read-only with it. */
  recursive?: boolean;
  /** Default `private`. */
  propagation?: 'private' | 'slave' | 'shared';
  /** User namespace whose maps the mount gets, see mount_setattr(2); needs CAP_SYS_ADMIN of the caller. */
  idmap?: Fd;
}

/** A memory file system. */
export interface TmpfsSpec extends MountFlags {
  type: 'tmpfs';
  target: string;
  /** Bytes. */
  size?: number;
  /** Mode of its root, default 0o1777. */
  mode?: number;
}

/** The kernel's file systems that show a namespace of the container. */
export interface KernelSpec extends MountFlags {
  type: 'proc' | 'sysfs' | 'mqueue' | 'devpts' | 'cgroup2';
  target: string;
}

/** A /dev of its own: a tmpfs with the six harmless nodes and the usual links. */
export interface DevSpec {
  type: 'dev';
  target: string;
}

/** A file with given content, mounted over what is there. */
export interface FileSpec extends MountFlags {
  type: 'file';
  target: string;
  content: Uint8Array;
  /** Default 0o644. */
  mode?: number;
}

/** A symbolic link. */
export interface SymlinkSpec {
  type: 'symlink';
  target: string;
  /** What it says. */
  path: string;
}

/** A directory. */
export interface DirectorySpec {
  type: 'directory';
  target: string;
}

/** One line of the recipe of a root file system. The order of the recipe is the order of mounting. */
export type MountSpec = BindSpec | TmpfsSpec | KernelSpec | DevSpec | FileSpec | SymlinkSpec | DirectorySpec;

/** Something that can be mounted: adds steps that leave a detached mount's descriptor in the child. */
export interface MountSource {
  /**
   * Adds the steps, in phase `mount`.
   *
   * @param program - the launch
   * @returns slot of the mount's descriptor
   */
  open(program: LaunchProgram): Slot;
  /**
   * Adds the steps that mount on it once it is attached, where it consists of several mounts.
   *
   * @param program - the launch
   * @param root - slot that `open` returned
   */
  furnish?(program: LaunchProgram, root: Slot): void;
}
