/**
 * Mounts and root file systems.
 *
 * @packageDocumentation
 */
export { attributes, type IdMap, type MountChange, type MountFlags, type Propagation } from './attributes.js';
export { fscommand, fsconfig, fsmount, fsopen, fspick, type Parameter } from './calls/context.js';
export { mount, umount } from './calls/mount.js';
export { listmount, mountNamespaceId, statmount } from './calls/statmount.js';
export { type AttributeChange, mountSetattr, moveMount, openTree, openTreeAttr } from './calls/tree.js';
export { defaultMaskedPaths, defaultMounts, defaultReadonlyPaths } from './defaults.js';
export { attach, type CloneOptions, cloneMount, detach, newMount } from './filesystem.js';
export { type LiveSpec, mountInto, unmountFrom } from './live.js';
export { type AttachTarget, MountTree } from './mount-tree.js';
export { type Mount, parseMountInfo } from './mountinfo.js';
export {
  FSCONFIG,
  FSOPEN_CLOEXEC,
  FSPICK,
  LSMT_ROOT,
  MNT,
  MOUNT_ATTR,
  MOVE_MOUNT,
  MS,
  OPEN_TREE,
  STATMOUNT,
} from './raw/flags.js';
export { mountAttr, type StatMount } from './raw/structs.js';
export { type RootfsOptions, rootfs } from './rootfs.js';
export type {
  BindSpec,
  CgroupSpec,
  DeviceSpec,
  DevSpec,
  DirectorySpec,
  FileSpec,
  KernelSpec,
  MountSource,
  MountSpec,
  ProcSpec,
  SourceSpec,
  SymlinkSpec,
  TmpfsSpec,
} from './spec.js';
export { mountTable } from './table.js';
export { type MountTableChange, watchMounts } from './watch.js';
