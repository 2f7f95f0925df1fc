import type { Fd, LaunchProgram, Slot } from '@iso/sys';
import { attributes } from './attributes.js';
import { bind, device } from './bind.js';
import { cgroup } from './cgroup.js';
import { file } from './cover.js';
import { dev } from './dev.js';
import { attach, newMount } from './filesystem.js';
import { kernelMount, proc } from './kernel-mount.js';
import { type BindSpec, checkSpec, type FileSpec, type MountSpec, type TmpfsSpec } from './spec.js';
import { components, openTarget } from './target.js';

/** What the lines of a recipe share. */
export interface Workshop {
  readonly root: Slot;
  /** A memory file system with what is mounted over things: `empty`, a directory, and files by their number. */
  readonly covers: Slot | undefined;
  /** Files with their content, in the order of their numbers. */
  readonly files: readonly FileSpec[];
  /** Binds that were cloned before the host's mounts became masters. */
  readonly peers?: ReadonlyMap<BindSpec, Slot>;
  /** Makes the mount of a bind where its source is not to be seen from the child's mount namespace. */
  readonly source?: (program: LaunchProgram, spec: BindSpec) => Slot | Fd;
}

/**
 * Adds the steps of one line of a recipe.
 *
 * @param program - the launch
 * @param shop - what the lines share
 * @param spec - the line
 */
export function applySpec(program: LaunchProgram, shop: Workshop, spec: MountSpec): void {
  const { root } = shop;
  checkSpec(spec);
  switch (spec.type) {
    case 'bind':
      return bind(program, shop, spec);
    case 'tmpfs':
      return tmpfs(program, root, spec);
    case 'proc':
      return proc(program, root, spec);
    case 'cgroup':
      return cgroup(program, root, spec);
    case 'dev':
      return dev(program, root, spec.target);
    case 'device':
      return device(program, shop, spec);
    case 'mount': {
      const mount = spec.source.open(program);
      attach(program, mount, openTarget(program, root, spec.target, { kind: 'directory' }));
      return spec.source.furnish?.(program, mount);
    }
    case 'file':
      return file(program, shop, spec);
    case 'symlink': {
      const parts = components(spec.target);
      const name = parts.pop() as string;
      const parent = parts.length ? openTarget(program, root, `/${parts.join('/')}`, { kind: 'directory' }) : root;
      return void program.step('mount', 'symlinkat', [spec.path, parent, name]);
    }
    case 'directory':
      return void openTarget(program, root, spec.target, { kind: 'directory' });
    default:
      return kernelMount(program, root, spec);
  }
}

function tmpfs(program: LaunchProgram, root: Slot, spec: TmpfsSpec): void {
  const target = openTarget(program, root, spec.target, { kind: 'directory' });
  const parameters: Record<string, string> = { mode: (spec.mode ?? 0o1777).toString(8) };
  if (spec.size !== undefined) parameters.size = String(spec.size);
  if (spec.nrInodes !== undefined) parameters.nr_inodes = String(spec.nrInodes);
  for (const name of ['uid', 'gid'] as const) if (spec[name] !== undefined) parameters[name] = String(spec[name]);
  attach(program, newMount(program, 'tmpfs', { parameters, attr: attributes(spec) }), target);
}
