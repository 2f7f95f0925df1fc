import { invalid, type LaunchProgram, type Slot } from '@iso/sys';
import type { MountChange, MountFlags } from './attributes.js';

/** A host path inside. */
export interface BindSpec extends MountFlags {
  type: 'bind';
  /** Host path. */
  source: string;
  /** Path inside. */
  target: string;
  /** Takes the mounts below it too; attributes are theirs as well, so that `readonly` leaves nothing writable. */
  recursive?: boolean;
  /** Attributes of the host's mount to take away; those that are locked to a user namespace cannot be (`EPERM`). */
  clear?: NonNullable<MountChange['clear']>;
  /**
   * Default `private`. `slave`: what the host mounts below the source later appears inside. `shared`: and what is mounted
   * inside appears on the host, where the host's mount is shared and the launch has no user namespace of its own.
   */
  propagation?: 'private' | 'slave' | 'shared';
  /** User namespace whose maps the mount gets, see mount_setattr(2); needs CAP_SYS_ADMIN of the caller. */
  idmap?: NonNullable<MountChange['idmap']>;
}

/** A memory file system, see tmpfs(5). */
export interface TmpfsSpec extends MountFlags {
  type: 'tmpfs';
  target: string;
  /** Bytes; default half of the memory. */
  size?: number;
  /** Most inodes. */
  nrInodes?: number;
  /** Mode of its root, default 0o1777. */
  mode?: number;
  /** Owner of its root, as an id inside. */
  uid?: number;
  /** Group of its root, as an id inside. */
  gid?: number;
}

/** The processes of the child's pid namespace, see proc(5). */
export interface ProcSpec extends MountFlags {
  type: 'proc';
  target: string;
  /** Which processes others see. */
  hidepid?: 'off' | 'noaccess' | 'invisible' | 'ptraceable';
  /** `pid`: nothing but the processes. */
  subset?: 'pid';
  /**
   * What to do where the kernel refuses a new one (EPERM), as in a user namespace that sees no whole /proc: `bind` the
   * caller's, which shows the caller's processes; `none` leaves what the root has there. Default: an error that says why.
   */
  fallback?: 'bind' | 'none';
}

/** The kernel's file systems that show a namespace of the container. */
export interface KernelSpec extends MountFlags {
  type: 'sysfs' | 'mqueue' | 'devpts' | 'cgroup2';
  target: string;
}

/**
 * The cgroup hierarchies of the host as they are (v1, hybrid or v2), seen from a cgroup namespace of the child's own: its
 * cgroup is the root of each.
 */
export interface CgroupSpec {
  type: 'cgroup';
  target: string;
  /** Default true. */
  readonly?: boolean;
}

/** A device of the host, bound with its owner and mode; whether it may be used is the business of the cgroup. */
export interface DeviceSpec {
  type: 'device';
  /** Its path on the host; a link to it will do. */
  source: string;
  /** Default the same path. */
  target?: string;
}

/** Any other mount: a union, a {@link MountTree}. */
export interface SourceSpec {
  type: 'mount';
  source: MountSource;
  /** A directory. */
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
export type MountSpec =
  | BindSpec
  | TmpfsSpec
  | ProcSpec
  | KernelSpec
  | CgroupSpec
  | DevSpec
  | DeviceSpec
  | SourceSpec
  | FileSpec
  | SymlinkSpec
  | DirectorySpec;

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

const flags = ['readonly', 'nosuid', 'nodev', 'noexec', 'nosymfollow', 'nodiratime', 'atime'];
const members: Record<MountSpec['type'], readonly string[]> = {
  bind: ['source', 'recursive', 'clear', 'propagation', 'idmap', ...flags],
  tmpfs: ['size', 'nrInodes', 'mode', 'uid', 'gid', ...flags],
  proc: ['hidepid', 'subset', 'fallback', ...flags],
  sysfs: flags,
  mqueue: flags,
  devpts: flags,
  cgroup2: flags,
  cgroup: ['readonly'],
  dev: [],
  device: ['source'],
  mount: ['source'],
  file: ['content', 'mode', ...flags],
  symlink: ['path'],
  directory: [],
};

/**
 * Refuses what a line of a recipe does not have: an option that would be left out silently, above all one of a file system on
 * a bind, which shares the file system that is there.
 *
 * @param spec - the line
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function checkSpec(spec: MountSpec): void {
  const known = members[spec.type];
  if (!known)
    throw invalid(`no kind of mount: ${JSON.stringify(spec.type)}, there are ${Object.keys(members).join(', ')}`);
  for (const name of Object.keys(spec)) {
    if (name === 'type' || name === 'target' || known.includes(name)) continue;
    const why =
      spec.type === 'bind' && members.tmpfs.includes(name)
        ? ': it belongs to the file system, which a bind shares with the host'
        : '';
    const there = ['target', ...known].join(', ');
    throw invalid(`${spec.type} has no option ${JSON.stringify(name)}${why}; there are ${there}`);
  }
  for (const name of ['size', 'nrInodes', 'mode', 'uid', 'gid'] as const) {
    const value = (spec as unknown as Record<string, unknown>)[name];
    if (value === undefined) continue;
    const most = name === 'mode' ? 0o7777 : name === 'uid' || name === 'gid' ? 0xfffffffe : Number.MAX_SAFE_INTEGER;
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > most)
      throw invalid(`${spec.type}: ${name} is no number from 0 to ${most}: ${String(value)}`);
  }
}
