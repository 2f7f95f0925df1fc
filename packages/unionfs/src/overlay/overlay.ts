import { detach, FSCONFIG, FSOPEN_CLOEXEC, MOVE_MOUNT, type MountSource, newMount } from '@iso/mounts';
import { AT, invalid, type LaunchProgram, O, type Slot } from '@iso/sys';
import { type OverlayFeatures, overlayParameters } from './parameters.js';

/** What an overlay mount is made of, see the kernel's Documentation/filesystems/overlayfs.rst. */
export interface OverlayOptions extends OverlayFeatures {
  /** Read-only layers, the uppermost first; 1 to 500 host directories, any character in their paths. */
  lower: readonly string[];
  /** Writable layer: a host directory, or `'tmpfs'` for one that goes away with the mount. Without it: read-only. */
  upper?: string;
  /** Empty directory on the file system of `upper`; needed where that is a directory. */
  work?: string;
  /** Most bytes that a `tmpfs` layer takes; default half of the memory. */
  size?: number;
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
  if (upper && upper !== 'tmpfs' && !work)
    throw invalid('an upper directory needs a work directory on its file system');
  for (const path of [...lower, ...(upper && upper !== 'tmpfs' ? [upper, work as string] : [])]) {
    if (!path.startsWith('/') || path.includes('\0')) throw invalid(`not an absolute path: ${JSON.stringify(path)}`);
  }
  return { open: (program) => open(program, options) };
}

function open(program: LaunchProgram, options: OverlayOptions): Slot {
  const { upper, work, size } = options;
  if (upper !== 'tmpfs') {
    const layer = upper === undefined ? undefined : existingLayer(program, upper, work as string);
    return mountUnion(program, options, layer);
  }
  const memory = mountMemory(program, size);
  const mount = mountUnion(program, options, makeLayer(program, memory, 'upper', 'work', 0o755));
  // The union has its own hold on the layer by now.
  detach(program, memory);
  return mount;
}

/** A writable layer in the child. */
export interface Layer {
  upper: Slot;
  work: Slot;
  /** A directory that the names are relative to. */
  directory: Slot;
  upperName: string;
  workName: string;
}

/** Adds the steps that mount lower layers and a writable one; the result is detached. */
export function mountUnion(program: LaunchProgram, options: OverlayOptions, layer: Layer | undefined, attr = 0): Slot {
  const lowers = options.lower.map((path) => openDirectory(program, path));
  const hint = 'the kernel has no overlay file system, or not for user namespaces (Linux 5.11)';
  const context = program.step('mount', 'fsopen', ['overlay', FSOPEN_CLOEXEC], { hint });
  const config = (command: number, key: string | null, value: string | null, fd: Slot | number) =>
    program.step('mount', 'fsconfig', [context, command, key, value, fd], { context });
  program.attempt(
    'mount',
    ['EINVAL', 'EOPNOTSUPP', 'EBADF'],
    () => {
      for (const fd of lowers) config(FSCONFIG.SET_FD, 'lowerdir+', null, fd);
      if (layer) {
        config(FSCONFIG.SET_FD, 'upperdir', null, layer.upper);
        config(FSCONFIG.SET_FD, 'workdir', null, layer.work);
      }
    },
    {
      onError: () => {
        // Before Linux 6.13: paths, the writable layer's relative to the working directory.
        config(
          FSCONFIG.SET_STRING,
          'lowerdir',
          options.lower.map((path) => path.replace(/[\\:,]/g, '\\$&')).join(':'),
          0,
        );
        if (layer) {
          program.step('mount', 'fchdir', [layer.directory]);
          config(FSCONFIG.SET_STRING, 'upperdir', layer.upperName, 0);
          config(FSCONFIG.SET_STRING, 'workdir', layer.workName, 0);
        }
      },
    },
  );
  for (const [key, value] of overlayParameters(options)) {
    config(value === null ? FSCONFIG.SET_FLAG : FSCONFIG.SET_STRING, key, value, 0);
  }
  program.step('mount', 'fsconfig', [context, FSCONFIG.CMD_CREATE, null, null, 0], {
    context,
    hint: 'in a user namespace a lower layer must have no mounts of the host below it',
  });
  return program.step('mount', 'fsmount', [context, FSOPEN_CLOEXEC, attr]);
}

/**
 * Adds the steps that mount a memory file system for writable layers. Overlay takes layers of attached mounts only (before
 * 6.15). On "/" of the child's own namespace it is in nobody's way: the child's root lies below.
 */
export function mountMemory(program: LaunchProgram, size?: number): Slot {
  const memory = newMount(program, 'tmpfs', {
    parameters: { mode: '755', ...(size === undefined ? {} : { size: String(size) }) },
  });
  program.step('mount', 'move_mount', [memory, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  return memory;
}

/** Adds the steps that make a writable layer; the root of the union shows the mode of its uppermost layer. */
export function makeLayer(
  program: LaunchProgram,
  directory: Slot,
  upperName: string,
  workName: string,
  mode: number,
): Layer {
  const mask = program.step('mount', 'umask', [0]);
  program.step('mount', 'mkdirat', [directory, upperName, mode]);
  program.step('mount', 'mkdirat', [directory, workName, 0o755]);
  program.step('mount', 'umask', [mask]);
  const inside = (name: string) =>
    program.step('mount', 'openat', [directory, name, O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
  return { upper: inside(upperName), work: inside(workName), directory, upperName, workName };
}

function existingLayer(program: LaunchProgram, upper: string, work: string): Layer {
  const escaped = (path: string) => path.replace(/[\\,]/g, '\\$&');
  return {
    upper: openDirectory(program, upper),
    work: openDirectory(program, work),
    directory: openDirectory(program, '/'),
    upperName: escaped(upper),
    workName: escaped(work),
  };
}

function openDirectory(program: LaunchProgram, path: string): Slot {
  return program.step('mount', 'openat', [AT.FDCWD, path, O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
}
