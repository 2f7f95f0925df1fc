import { readdirSync, readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { AT, CLONE, type LaunchProgram, O, type Slot } from '@iso/sys';
import { attach, newMount } from './filesystem.js';
import { MOUNT_ATTR } from './raw/flags.js';
import { mountAttr } from './raw/structs.js';
import type { CgroupSpec } from './spec.js';
import { mountTable } from './table.js';
import { openTarget } from './target.js';

/** What else stands among the options of a v1 hierarchy beside its controllers. */
const noControllers = /^(rw|ro|xattr|noprefix|clone_children|cpuset_v2_mode|favordynmods|release_agent=.*|sync)$/;

/**
 * Adds the steps that show the host's cgroup hierarchies, from a cgroup namespace that begins here: the child is in its cgroups by now.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param spec - the line of a recipe
 */
export function cgroup(program: LaunchProgram, root: Slot, spec: CgroupSpec): void {
  const readonly = (spec.readonly ?? true) ? MOUNT_ATTR.RDONLY : 0;
  const attr = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC | readonly;
  const hint = `${spec.target} of the root must be a directory, not a symbolic link`;
  const target = openTarget(program, root, spec.target, { kind: 'directory', literal: true, hint });
  program.step('mount', 'unshare', [CLONE.NEWCGROUP], { text: 'unshare(CLONE_NEWCGROUP)' });
  const hierarchies = mountTable().filter((mount) => mount.type === 'cgroup' || mount.type === 'cgroup2');
  if (!hierarchies.some((mount) => mount.type === 'cgroup'))
    return attach(program, newMount(program, 'cgroup2', { attr }), target);
  const folder = newMount(program, 'tmpfs', {
    parameters: { mode: '755', size: '65536' },
    attr: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC,
  });
  attach(program, folder, target);
  const homes = new Set(hierarchies.map((mount) => dirname(mount.target)));
  for (const mount of hierarchies) {
    const name = basename(mount.target);
    program.step('mount', 'mkdirat', [folder, name, 0o755], { ignore: ['EEXIST'] });
    const parameters = mount.type === 'cgroup' ? v1Parameters(mount.superOptions) : {};
    const place = program.step('mount', 'openat', [folder, name, O.PATH | O.DIRECTORY | O.NOFOLLOW | O.CLOEXEC, 0]);
    attach(program, newMount(program, mount.type, { parameters, attr }), place);
  }
  for (const home of homes) {
    for (const entry of readdirSync(home, { withFileTypes: true }).filter((entry) => entry.isSymbolicLink()))
      program.step('mount', 'symlinkat', [readlinkSync(`${home}/${entry.name}`), folder, entry.name], {
        ignore: ['EEXIST'],
      });
  }
  if (!readonly) return;
  const bytes = mountAttr({ set: MOUNT_ATTR.RDONLY });
  program.step('mount', 'mount_setattr', [folder, '', AT.EMPTY_PATH, bytes, bytes.length], {
    text: 'mount_setattr(cgroups, {set: MOUNT_ATTR_RDONLY})',
  });
}

/** A hierarchy is named by its controllers, or by its name where it has none. */
function v1Parameters(superOptions: readonly string[]): Record<string, string | true> {
  const names = superOptions.filter((option) => !noControllers.test(option));
  return Object.fromEntries(
    names.map((option) => (option.startsWith('name=') ? ['name', option.slice('name='.length)] : [option, true])),
  );
}
