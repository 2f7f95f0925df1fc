import { readdirSync, readlinkSync, statSync } from 'node:fs';
import { attach, cloneMount, detach, MOUNT_ATTR, type MountSource, mountTable, newMount } from '@iso/mounts';
import { invalid, type LaunchProgram, O, type Slot } from '@iso/sys';
import { makeLayer, mountMemory, mountUnion } from './overlay.js';

/** What {@link patchwork} is made of. */
export interface PatchworkOptions {
  /** Host directory whose entries are the lower layers. */
  lower: string;
  /** Most bytes of the writable layer; default half of the memory. */
  size?: number;
  /** Makes the entries read-only. */
  readonly?: boolean;
  /** Names that stay empty directories, because something is mounted there anyway; default `proc`, `sys`, `dev`. */
  empty?: readonly string[];
}

/**
 * A directory with a throw-away writable layer in a user namespace, where other mounts lie below it. The kernel refuses such
 * a directory as a lower layer there, for it would uncover what those mounts hide. So each entry becomes an overlay of its
 * own; an entry with mounts below is bound as it is, read-only. Links and files of the directory itself are copied and bound.
 *
 * @param options - the directory
 * @returns a mount source for `rootfs()` of `@iso/mounts`
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for a path that is not absolute; Node's errors where it cannot be read
 *
 * @example
 * ```ts
 * import { patchwork } from '@iso/unionfs';
 * import { LaunchProgram } from '@iso/sys';
 * const program = new LaunchProgram();
 * patchwork({ lower: '/' }).open(program);
 * if (!program.explain().includes('userxattr')) throw new Error('no overlay');
 * ```
 */
export function patchwork(options: PatchworkOptions): MountSource {
  const { lower } = options;
  if (!lower.startsWith('/') || lower.includes('\0')) throw invalid(`not an absolute path: ${JSON.stringify(lower)}`);
  const patches: { name: string; mount: Slot; directory: boolean }[] = [];
  return {
    open: (program) => open(program, options, patches),
    furnish: (program, root) => {
      for (const { name, mount, directory } of patches.splice(0)) {
        const flags = O.PATH | O.NOFOLLOW | O.CLOEXEC | (directory ? O.DIRECTORY : 0);
        attach(program, mount, program.step('mount', 'openat', [root, name, flags, 0]));
      }
    },
  };
}

const S_IFREG = 0o100000;

function open(
  program: LaunchProgram,
  options: PatchworkOptions,
  patches: { name: string; mount: Slot; directory: boolean }[],
): Slot {
  const base = options.lower === '/' ? '' : options.lower.replace(/\/+$/, '');
  const empty = new Set(options.empty ?? ['proc', 'sys', 'dev']);
  const attr = options.readonly ? MOUNT_ATTR.RDONLY : 0;
  const mounts = mountTable().map((mount) => mount.target);
  const memory = mountMemory(program, options.size);
  const root = newMount(program, 'tmpfs', { parameters: { mode: '755', size: '1048576' } });
  const mask = program.step('mount', 'umask', [0]);
  for (const [i, entry] of readdirSync(options.lower, { withFileTypes: true }).entries()) {
    const { name } = entry;
    const path = `${base}/${name}`;
    if (entry.isSymbolicLink()) {
      program.step('mount', 'symlinkat', [readlinkSync(path), root, name]);
    } else if (entry.isDirectory()) {
      const mode = statSync(path).mode & 0o1777;
      program.step('mount', 'mkdirat', [root, name, empty.has(name) ? 0o755 : mode]);
      if (empty.has(name)) continue;
      const covered = mounts.some((target) => target.startsWith(`${path}/`));
      const mount = covered
        ? cloneMount(program, path, { recursive: true, attr: MOUNT_ATTR.RDONLY })
        : mountUnion(
            program,
            { lower: [path], userxattr: true },
            makeLayer(program, memory, `upper${i}`, `work${i}`, mode),
            attr,
          );
      patches.push({ name, mount, directory: true });
    } else if (entry.isFile()) {
      program.step('mount', 'mknodat', [root, name, S_IFREG | 0o600, 0]);
      patches.push({ name, mount: cloneMount(program, path, { attr: MOUNT_ATTR.RDONLY }), directory: false });
    }
  }
  program.step('mount', 'umask', [mask]);
  // The unions have their own hold on the layers by now.
  detach(program, memory);
  return root;
}
