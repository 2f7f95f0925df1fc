import { detach, FSCONFIG, FSOPEN_CLOEXEC, type MountSource, MOVE_MOUNT } from '@iso/mounts';
import { AT, invalid, type LaunchProgram, O, type Slot } from '@iso/sys';

/** What an overlay mount is made of, see the kernel's Documentation/filesystems/overlayfs.rst. */
export interface OverlayOptions {
  /** Read-only layers, the uppermost first; 1 to 500 host directories, any character in their paths. */
  lower: readonly string[];
  /** Writable layer: a host directory, or `'tmpfs'` for one that goes away with the mount. Without it: read-only. */
  upper?: string;
  /** Empty directory on the file system of `upper`; needed where that is a directory. */
  work?: string;
  /** Most bytes that a `tmpfs` layer takes; default half of the memory. */
  size?: number;
  /** Keeps overlay's marks in user.* attributes: the only ones that a user namespace may write (Linux 5.11). */
  userxattr?: boolean;
  /** Never syncs the writable layer (Linux 5.10); it must not be used again after a crash. */
  volatile?: boolean;
}

const MAX_LAYERS = 500;

/**
 * A union of directories as a mount source for `rootfs()` of `@iso/mounts`. Layers are passed by descriptor where the
 * kernel takes them so (Linux 6.13), so that no character of a path means anything; else by escaped paths.
 *
 * Needs CAP_SYS_ADMIN, or a user namespace joined in the same launch together with `userxattr`.
 *
 * @param options - layers
 * @returns a mount source
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for no layer, more than 500, an upper directory without `work`
 *
 * @example
 * ```ts
 * import { LaunchProgram } from '@iso/sys';
 * import { overlay } from '@iso/unionfs';
 * const program = new LaunchProgram();
 * overlay({ lower: ['/usr', '/etc'], upper: 'tmpfs' }).open(program);
 * if (!program.explain().includes('lowerdir+')) throw new Error('no layers');
 * ```
 */
export function overlay(options: OverlayOptions): MountSource {
  const { lower, upper, work } = options;
  if (lower.length === 0) throw invalid('an overlay needs at least one lower layer');
  if (lower.length > MAX_LAYERS) throw invalid(`an overlay takes ${MAX_LAYERS} lower layers, not ${lower.length}`);
  if (!upper && lower.length === 1) throw invalid('one layer without a writable one is no overlay: bind it read-only');
  if (upper && upper !== 'tmpfs' && !work) throw invalid('an upper directory needs a work directory on its file system');
  for (const path of [...lower, ...(upper && upper !== 'tmpfs' ? [upper, work as string] : [])]) {
    if (!path.startsWith('/') || path.includes('\0')) throw invalid(`not an absolute path: ${JSON.stringify(path)}`);
  }
  return { open: (program) => open(program, options) };
}

function open(program: LaunchProgram, options: OverlayOptions): Slot {
  const lowers = options.lower.map((path) => openDirectory(program, path));
  const layer = options.upper ? writable(program, options) : undefined;
  const context = program.step('mount', 'fsopen', ['overlay', FSOPEN_CLOEXEC], { hint: 'the kernel has no overlay file system' });
  const set = (key: string, value: string) =>
    program.step('mount', 'fsconfig', [context, FSCONFIG.SET_STRING, key, value, 0], { context });
  const setFd = (key: string, fd: Slot) => program.step('mount', 'fsconfig', [context, FSCONFIG.SET_FD, key, null, fd], { context });
  program.attempt(
    'mount',
    ['EINVAL'],
    () => {
      for (const fd of lowers) setFd('lowerdir+', fd);
      if (layer) {
        setFd('upperdir', layer.upper);
        setFd('workdir', layer.work);
      }
    },
    () => {
      // Before Linux 6.13: paths, the writable layer's relative to the working directory.
      set('lowerdir', options.lower.map((path) => path.replace(/[\\:,]/g, '\\$&')).join(':'));
      if (layer) {
        program.step('mount', 'fchdir', [layer.directory]);
        set('upperdir', layer.upperName);
        set('workdir', layer.workName);
      }
    },
  );
  // Their defaults differ from kernel to kernel.
  if (!options.userxattr) for (const feature of ['metacopy', 'index']) set(feature, 'off');
  set('redirect_dir', options.userxattr ? 'nofollow' : 'off');
  set('xino', 'off');
  if (options.userxattr) program.step('mount', 'fsconfig', [context, FSCONFIG.SET_FLAG, 'userxattr', null, 0], { context });
  if (options.volatile) program.step('mount', 'fsconfig', [context, FSCONFIG.SET_FLAG, 'volatile', null, 0], { context });
  program.step('mount', 'fsconfig', [context, FSCONFIG.CMD_CREATE, null, null, 0], {
    context,
    hint: 'in a user namespace overlay needs userxattr and Linux 5.11',
  });
  const mount = program.step('mount', 'fsmount', [context, FSOPEN_CLOEXEC, 0]);
  // The union has its own hold on the layer by now.
  if (layer && options.upper === 'tmpfs') detach(program, layer.directory);
  return mount;
}

interface Layer {
  upper: Slot;
  work: Slot;
  /** A directory that the names are relative to. */
  directory: Slot;
  upperName: string;
  workName: string;
}

function writable(program: LaunchProgram, options: OverlayOptions): Layer {
  if (options.upper !== 'tmpfs') {
    const escape = (path: string) => path.replace(/[\\,]/g, '\\$&');
    return {
      upper: openDirectory(program, options.upper as string),
      work: openDirectory(program, options.work as string),
      directory: openDirectory(program, '/'),
      upperName: escape(options.upper as string),
      workName: escape(options.work as string),
    };
  }
  const context = program.step('mount', 'fsopen', ['tmpfs', FSOPEN_CLOEXEC]);
  const set = (key: string, value: string) =>
    program.step('mount', 'fsconfig', [context, FSCONFIG.SET_STRING, key, value, 0], { context });
  set('mode', '755');
  if (options.size !== undefined) set('size', String(options.size));
  program.step('mount', 'fsconfig', [context, FSCONFIG.CMD_CREATE, null, null, 0], { context });
  const directory = program.step('mount', 'fsmount', [context, FSOPEN_CLOEXEC, 0]);
  // Overlay takes layers of attached mounts only (before 6.15). On "/" of the child's own namespace it is in nobody's way:
  // the child's root lies below, and the old root goes away with the pivot.
  program.step('mount', 'move_mount', [directory, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  // The root of the union shows the mode of its uppermost layer.
  const mask = program.step('mount', 'umask', [0]);
  for (const name of ['upper', 'work']) program.step('mount', 'mkdirat', [directory, name, 0o755]);
  program.step('mount', 'umask', [mask]);
  const inside = (name: string) => program.step('mount', 'openat', [directory, name, O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
  return { upper: inside('upper'), work: inside('work'), directory, upperName: 'upper', workName: 'work' };
}

function openDirectory(program: LaunchProgram, path: string): Slot {
  return program.step('mount', 'openat', [AT.FDCWD, path, O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
}
