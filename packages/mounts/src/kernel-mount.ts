import { CLONE, type LaunchProgram, type Slot } from '@iso/sys';
import { attributes, type MountFlags } from './attributes.js';
import { attach, cloneMount, newMount } from './filesystem.js';
import { MOUNT_ATTR } from './raw/flags.js';
import type { KernelSpec, ProcSpec } from './spec.js';
import { mountTable } from './table.js';
import { openTarget } from './target.js';

const sealed = (flags: MountFlags) => attributes(flags) | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC | MOUNT_ATTR.NODEV;

/** A directory itself and no symbolic link: what the kernel shows must be where it is looked for. */
function openDirectory(program: LaunchProgram, root: Slot, target: string): Slot {
  const hint = `${target} of the root must be a directory, not a symbolic link`;
  return openTarget(program, root, target, { kind: 'directory', literal: true, hint });
}

/**
 * Adds the steps that mount a new proc, or what there is instead.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param spec - the line of a recipe
 */
export function proc(program: LaunchProgram, root: Slot, spec: ProcSpec): void {
  const target = openDirectory(program, root, spec.target);
  const attr = sealed(spec);
  const parameters = {
    ...(spec.hidepid ? { hidepid: spec.hidepid } : {}),
    ...(spec.subset ? { subset: spec.subset } : {}),
  };
  const { fallback } = spec;
  if (!fallback) {
    const hint = () => whyRefused(program, 'proc');
    return attach(program, newMount(program, 'proc', { parameters, attr, hint }), target);
  }
  let fresh: Slot;
  const make = () => {
    fresh = newMount(program, 'proc', { parameters, attr });
  };
  const instead = () => {
    if (fallback === 'bind') attach(program, cloneMount(program, '/proc', { recursive: true, attr }), target);
  };
  program.attempt('mount', ['EPERM'], make, { onSuccess: () => attach(program, fresh, target), onError: instead });
}

/**
 * Adds the steps that mount another of the kernel's file systems.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param spec - the line of a recipe
 */
export function kernelMount(program: LaunchProgram, root: Slot, spec: KernelSpec): void {
  const target = openDirectory(program, root, spec.target);
  if (spec.type === 'devpts') {
    const mount = newMount(program, 'devpts', {
      parameters: { ptmxmode: '0666', mode: '0620' },
      // Group tty; where a user namespace does not map it, the mount goes without.
      optional: { gid: '5' },
      attr: attributes(spec) | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC,
    });
    return attach(program, mount, target);
  }
  const hint = spec.type === 'sysfs' ? () => whyRefused(program, 'sysfs') : lacking[spec.type];
  attach(program, newMount(program, spec.type, { attr: sealed(spec), hint }), target);
}

const lacking = {
  cgroup2: 'in a user namespace cgroup2 needs a cgroup namespace of its own in the same launch',
  mqueue: 'in a user namespace mqueue needs an ipc namespace of its own in the same launch',
} as const;

const owners = {
  proc: { flag: CLONE.NEWPID, namespace: 'pid', at: '/proc' },
  sysfs: { flag: CLONE.NEWNET, namespace: 'network', at: '/sys' },
} as const;

/** Why the kernel refuses proc or sysfs in a user namespace, see mount_too_revealing in fs/namespace.c. */
function whyRefused(program: LaunchProgram, type: keyof typeof owners): string {
  const { flag, namespace, at } = owners[type];
  const without = type === 'proc' ? "; proc with fallback 'bind' or 'none' goes without" : '; bind the host’s instead';
  if (!(program.unshared & flag))
    return `in a user namespace ${type} needs a ${namespace} namespace of its own${without}`;
  const table = mountTable();
  if (!table.some((mount) => mount.type === type && mount.root === '/'))
    return `in a user namespace ${type} needs a whole ${at} that is visible outside, and there is none${without}`;
  const over = table
    .filter((mount) => mount.target.startsWith(`${at}/`) && mount.type !== 'cgroup')
    .map((mount) => mount.target);
  if (over.length === 0)
    return `a seccomp filter or a security module may refuse it, or CAP_SYS_ADMIN is missing${without}`;
  const shown = `${over.slice(0, 3).join(', ')}${over.length > 3 ? ' …' : ''}`;
  return `in a user namespace ${type} needs a whole ${at} that is visible outside, and this one is covered in part: ${shown}${without}`;
}
