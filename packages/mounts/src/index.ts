/**
 * Mounts and root file systems.
 *
 * @packageDocumentation
 */
export { defaultMaskedPaths, defaultMounts, defaultReadonlyPaths } from './defaults.js';
export { attach, attributes, type CloneOptions, cloneMount, detach, newMount, openMount } from './filesystem.js';
export { mountInto, unmountFrom } from './live.js';
export {
  FSCONFIG,
  FSOPEN_CLOEXEC,
  MNT,
  MOUNT_ATTR,
  MOVE_MOUNT,
  MS,
  mountAttr,
  OPEN_TREE,
  openHow,
} from './raw/flags.js';
export { type RootfsOptions, rootfs } from './rootfs.js';
export type {
  BindSpec,
  DevSpec,
  DirectorySpec,
  FileSpec,
  KernelSpec,
  MountFlags,
  MountSource,
  MountSpec,
  SymlinkSpec,
  TmpfsSpec,
} from './spec.js';
export { type Mount, mountTable, parseMountInfo } from './table.js';
