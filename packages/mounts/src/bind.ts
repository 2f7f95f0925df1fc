import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { KernelError, type LaunchProgram, type Slot } from '@iso/sys';
import { attributeChange } from './attributes.js';
import { attach, cloneMount } from './filesystem.js';
import { MountTree } from './mount-tree.js';
import type { Workshop } from './recipe.js';
import type { BindSpec, DeviceSpec } from './spec.js';
import { mountOf } from './table.js';
import { openTarget } from './target.js';

/**
 * Adds the steps of a bind.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param spec - the line
 */
export function bind(program: LaunchProgram, { root, peers, source }: Workshop, spec: BindSpec): void {
  const path = resolve(spec.source);
  const info = statSync(path, { throwIfNoEntry: false });
  if (!info) throw new KernelError(ENOENT, { syscall: 'open_tree', path, call: `bind ${path}` });
  // Only who is privileged over the file system may map its ids, so that is done here and not in a user namespace.
  const tree = spec.idmap ? MountTree.clone(path, spec) : undefined;
  if (tree) program.defer(() => tree.close());
  const mount = tree?.fd ?? peers?.get(spec) ?? (source ?? cloneBind)(program, spec);
  attach(program, mount, openTarget(program, root, spec.target, { kind: info.isDirectory() ? 'directory' : 'file' }));
}

/**
 * Adds the steps that clone the source of a bind in the child.
 *
 * @param program - the launch
 * @param spec - the bind
 * @returns slot of the clone
 */
export function cloneBind(program: LaunchProgram, spec: BindSpec): Slot {
  const path = resolve(spec.source);
  const { set = 0, clear = 0, propagation = 0 } = attributeChange(spec);
  return cloneMount(program, path, {
    attr: set,
    clear,
    ...(spec.recursive ? { recursive: true } : {}),
    ...(propagation ? { propagation } : {}),
    ...(spec.clear?.length ? { hint: () => whyLocked(path, spec) } : {}),
  });
}

/** Names the flags that the kernel keeps: those of the host's mount that the user asked to clear. */
function whyLocked(path: string, spec: BindSpec): string {
  const mount = mountOf(path);
  const locked = (spec.clear ?? []).filter((name) => mount?.options.includes(name === 'readonly' ? 'ro' : name));
  return `${mount?.target ?? path} has ${locked.join(', ') || 'flags'}, which a user namespace cannot clear: its owner’s mount namespace has locked it`;
}

/**
 * Adds the steps that bind a device node.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param spec - the line
 */
export function device(program: LaunchProgram, { root, source }: Workshop, spec: DeviceSpec): void {
  const path = resolve(spec.source);
  const info = statSync(path, { throwIfNoEntry: false });
  if (!info?.isCharacterDevice() && !info?.isBlockDevice()) {
    throw new KernelError(info ? ENODEV : ENOENT, {
      syscall: 'open_tree',
      path,
      call: `device ${path}`,
      hint: 'it is no device of this machine',
    });
  }
  const target = spec.target ?? path;
  const node = (source ?? cloneBind)(program, { type: 'bind', source: path, target, nosuid: true, noexec: true });
  attach(program, node, openTarget(program, root, target, { kind: 'file' }));
}

const ENOENT = 2;
const ENODEV = 19;
