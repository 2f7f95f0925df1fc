import { resolve } from 'node:path';
import { AT, CLONE, type LaunchProgram, type Part, type Slot } from '@iso/sys';
import { cloneMount } from './filesystem.js';
import { MNT, MOUNT_ATTR, MOVE_MOUNT, MS } from './raw/flags.js';
import { mountAttr } from './raw/structs.js';
import { applySpec, makeCovers, mask, protect, type Workshop } from './recipe.js';
import type { MountSource, MountSpec } from './spec.js';

/** A root file system. */
export interface RootfsOptions {
  /** Host directory that becomes the root, as it is. */
  directory?: string;
  /** What becomes the root instead, for example `overlay()` of `@iso/unionfs`. */
  root?: MountSource;
  /** Makes the root read-only, with the mounts of the host below a `directory`; what `mounts` adds is as it says itself. */
  readonly?: boolean;
  /** What is mounted in it, in this order. */
  mounts?: readonly MountSpec[];
  /** Paths of /proc and /sys that are hidden. */
  maskedPaths?: readonly string[];
  /** Paths of /proc and /sys that are read-only. */
  readonlyPaths?: readonly string[];
}

/**
 * Gives a process a mount namespace and a root of its own. Everything is mounted by descriptor: each target is resolved
 * inside the new root (openat2, RESOLVE_IN_ROOT), so a hostile root file system cannot lead a mount or a creation outside.
 *
 * Needs CAP_SYS_ADMIN, or a user namespace joined in the same launch.
 *
 * @param options - what the root is made of
 * @returns a part for a launch
 *
 * @example
 * ```ts root
 * import { rootfs } from '@iso/mounts';
 * import { LaunchProgram } from '@iso/sys';
 * const program = new LaunchProgram();
 * void rootfs({ directory: '/', readonly: true }).confine(program);
 * if (!program.explain().includes('pivot_root')) throw new Error('no root');
 * ```
 */
export function rootfs(options: RootfsOptions): Part {
  return { confine: (program) => confine(program, options) };
}

function confine(program: LaunchProgram, options: RootfsOptions): void {
  program.unshare(CLONE.NEWNS);
  program.ownRoot();
  // Not private: a host that unmounts something later must not find it busy here.
  program.step('mount', 'mount', [null, '/', null, MS.REC | MS.SLAVE, null], { text: 'mount("/", MS_REC|MS_SLAVE)' });
  const root = options.root?.open(program) ?? directory(program, options);
  const files = (options.mounts ?? []).filter((spec) => spec.type === 'file');
  const covers = files.length + (options.maskedPaths?.length ?? 0) > 0 ? makeCovers(program, files) : undefined;
  const shop: Workshop = { root, covers, files };
  // Attached first: mounting on a detached tree is refused by kernels before 6.15. The root lies on top of "/" of a mount
  // namespace that is this child's own, and nothing resolves through it: the child's root is below.
  program.step('mount', 'move_mount', [root, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  options.root?.furnish?.(program, root);
  for (const spec of options.mounts ?? []) applySpec(program, shop, spec);
  for (const path of options.maskedPaths ?? []) mask(program, shop, path);
  for (const path of options.readonlyPaths ?? []) protect(program, shop, path);
  if (options.readonly) setReadonly(program, root, true);
  program.step('root', 'fchdir', [root]);
  program.step('root', 'pivot_root', ['.', '.'], { hint: 'the initial root of an initramfs cannot be pivoted away' });
  // On top of the new root lies the old one, and on that lie the covers, which are met first.
  if (covers) program.step('root', 'umount2', ['.', MNT.DETACH]);
  program.step('root', 'umount2', ['.', MNT.DETACH]);
  program.step('root', 'chdir', ['/']);
}

function directory(program: LaunchProgram, options: RootfsOptions): Slot {
  const attr = options.readonly ? MOUNT_ATTR.RDONLY : 0;
  const root = cloneMount(program, resolve(options.directory ?? '/'), { recursive: true, attr });
  // The mounts below it are read-only from now on, it itself when the mount targets have been made.
  if (options.readonly) setReadonly(program, root, false);
  return root;
}

function setReadonly(program: LaunchProgram, root: Slot, readonly: boolean): void {
  const attr = mountAttr({ [readonly ? 'set' : 'clear']: MOUNT_ATTR.RDONLY });
  program.step('mount', 'mount_setattr', [root, '', AT.EMPTY_PATH, attr, attr.length], {
    text: `mount_setattr(root, {${readonly ? 'set' : 'clear'}: MOUNT_ATTR_RDONLY})`,
  });
}
