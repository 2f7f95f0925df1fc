import { resolve } from 'node:path';
import { AT, CLONE, invalid, type LaunchProgram, type Part, type Slot } from '@iso/sys';
import { cloneBind } from './bind.js';
import { enslave, enslaveFromChroot, enterByChroot } from './chroot.js';
import { makeCovers, mask, protect } from './cover.js';
import { cloneMount } from './filesystem.js';
import { MNT, MOUNT_ATTR, MOVE_MOUNT } from './raw/flags.js';
import { mountAttr } from './raw/structs.js';
import { applySpec, type Workshop } from './recipe.js';
import type { BindSpec, MountSource, MountSpec } from './spec.js';
import { mountOf } from './table.js';

/** A root file system. */
export interface RootfsOptions {
  /** Host directory that becomes the root, as it is. Default `/`: the caller's own root. */
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
  /**
   * How the root is entered. `pivot_root` (default) leaves none of the host's mounts in the mount namespace. `chroot` does,
   * hides each proc and sysfs of them, and lets out who has CAP_SYS_CHROOT: for the initial root of an initramfs, which
   * cannot be pivoted away, and for callers in a chroot whose root is no mount point.
   */
  enter?: 'pivot_root' | 'chroot';
  /**
   * Path of the host on which the root is mounted, in the child's mount namespace alone, once everything in it is: for who joins that
   * namespace before the root is entered, and looks for it there. Default: no path leads to it.
   */
  mountpoint?: string;
}

/**
 * Gives a process a mount namespace and a root of its own. Everything is mounted by descriptor: each target is resolved
 * inside the new root (openat2, RESOLVE_IN_ROOT), so a hostile root file system cannot lead a mount or a creation outside.
 *
 * Needs CAP_SYS_ADMIN, or a user namespace joined in the same launch.
 *
 * @param options - what the root is made of
 * @returns a part for a launch
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for options that there are not, and for two roots of one launch
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
  check(options);
  return { confine: (program) => confine(program, options) };
}

const known: Record<keyof RootfsOptions, true> = {
  directory: true,
  root: true,
  readonly: true,
  mounts: true,
  maskedPaths: true,
  readonlyPaths: true,
  enter: true,
  mountpoint: true,
};

/** What is misspelt would be left out silently, and the root be writable, or another than the one that was meant. */
function check(options: RootfsOptions): void {
  if (typeof options !== 'object' || options === null) throw invalid('rootfs takes options: { directory } or { root }');
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(known, name));
  if (unknown !== undefined)
    throw invalid(`rootfs has no option ${JSON.stringify(unknown)}, there are ${Object.keys(known).join(', ')}`);
  if (options.root && options.directory !== undefined) throw invalid('rootfs takes a directory or a root, not both');
  if (options.mountpoint !== undefined && options.enter === 'chroot')
    throw invalid("a mountpoint is for a root that is entered by pivot_root: with enter: 'chroot' it stays on /");
}

function confine(program: LaunchProgram, options: RootfsOptions): void {
  const { mounts = [], maskedPaths = [], readonlyPaths = [], enter = 'pivot_root' } = options;
  if (program.hasOwnRoot) throw invalid('a launch has one root file system');
  program.unshare(CLONE.NEWNS);
  program.ownRoot();
  // Modes are what they are said to be, whatever the caller's mask; the child has one of its own.
  const umask = program.step('mount', 'umask', [0]);
  const peers = clonePeers(program, mounts);
  const chrooted = enter === 'chroot' ? enslaveFromChroot(program) : enslave(program);
  const root = options.root?.open(program) ?? directory(program, options);
  const files = mounts.filter((spec) => spec.type === 'file');
  const masks = maskedPaths.length > 0;
  const covers = files.length || masks ? makeCovers(program, files, masks) : undefined;
  const shop: Workshop = { root, covers, files, peers };
  // Attached first, above the covers: mounting on a detached tree is refused by kernels before 6.15. It lies on top of "/" of
  // a mount namespace that is this child's own, and nothing resolves through it: the child's root is below.
  program.step('mount', 'move_mount', [root, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  options.root?.furnish?.(program, root);
  for (const spec of mounts) applySpec(program, shop, spec);
  for (const path of maskedPaths) mask(program, shop, path);
  for (const path of readonlyPaths) protect(program, shop, path);
  if (options.readonly) setReadonly(program, root, true);
  if (options.mountpoint !== undefined)
    program.step('mount', 'move_mount', [root, '', AT.FDCWD, resolve(options.mountpoint), MOVE_MOUNT.F_EMPTY_PATH]);
  program.step('mount', 'umask', [umask]);
  if (enter === 'chroot') return enterByChroot(program, root, chrooted ?? undefined);
  program.step('root', 'fchdir', [root]);
  program.step('root', 'pivot_root', ['.', '.'], {
    hint: "the initial root of an initramfs cannot be pivoted away: `enter: 'chroot'` does without",
  });
  // On top of the new root lies the old one, and on that lie the covers, which are met first.
  if (covers) program.step('root', 'umount2', ['.', MNT.DETACH]);
  program.step('root', 'umount2', ['.', MNT.DETACH]);
  program.step('root', 'chdir', ['/']);
}

/** Sources of shared binds: once the child's mounts are slaves, a clone of one is no peer of the host's any more. */
function clonePeers(program: LaunchProgram, mounts: readonly MountSpec[]): Map<BindSpec, Slot> {
  const shared = mounts.filter((spec) => spec.type === 'bind' && spec.propagation === 'shared' && !spec.idmap);
  return new Map(shared.map((spec) => [spec as BindSpec, cloneBind(program, spec as BindSpec)]));
}

function directory(program: LaunchProgram, { directory = '/', readonly }: RootfsOptions): Slot {
  const path = resolve(directory);
  const root = cloneMount(program, path, { recursive: true, attr: readonly ? MOUNT_ATTR.RDONLY : 0 });
  // The mounts below it are read-only from now on, it itself when the mount targets have been made: but for one that is
  // read-only on the host, on which none is made.
  if (readonly && !mountOf(path)?.options.includes('ro')) setReadonly(program, root, false);
  return root;
}

function setReadonly(program: LaunchProgram, root: Slot, readonly: boolean): void {
  const attr = mountAttr({ [readonly ? 'set' : 'clear']: MOUNT_ATTR.RDONLY });
  program.step('mount', 'mount_setattr', [root, '', AT.EMPTY_PATH, attr, attr.length], {
    text: () => `mount_setattr(root, {${readonly ? 'set' : 'clear'}: MOUNT_ATTR_RDONLY})`,
  });
}
