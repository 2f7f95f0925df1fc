import { readdirSync, readlinkSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Cgroup, Layout } from '@iso/cgroups';
import { attach, cloneMount, MOUNT_ATTR, type MountSource, mountAttr, newMount } from '@iso/mounts';
import { AT, type LaunchProgram, O, type Slot } from '@iso/sys';

const SEALED = MOUNT_ATTR.NOSUID | MOUNT_ATTR.NODEV | MOUNT_ATTR.NOEXEC;

/**
 * What a container sees on /sys/fs/cgroup of a machine with v1 hierarchies: its own group in each hierarchy that it has one in, by the
 * hierarchy's name, as docker shows it. What sizes itself by its limits looks for them there. Of others' groups it sees nothing.
 *
 * @param cgroup - the container's
 * @param options - `readonly`
 * @returns to be mounted there; undefined where v2 alone has it all
 */
export function cgroupView(cgroup: Cgroup, { readonly }: { readonly: boolean }): MountSource | undefined {
  const { layout } = cgroup;
  const places = placesOf(cgroup, layout);
  if (layout.kind === 'unified' || places.size === 0) return undefined;
  return {
    open: (program) => newMount(program, 'tmpfs', { parameters: { mode: '755', size: '65536' }, attr: SEALED }),
    furnish(program, folder) {
      for (const [name, path] of places) show(program, folder, name, path, readonly);
      for (const [name, to] of links(layout))
        program.step('mount', 'symlinkat', [to, folder, name], { ignore: ['EEXIST'] });
      if (!readonly) return;
      const bytes = mountAttr({ set: MOUNT_ATTR.RDONLY });
      program.step('mount', 'mount_setattr', [folder, '', AT.EMPTY_PATH, bytes, bytes.length], {
        text: 'mount_setattr(cgroups, {set: MOUNT_ATTR_RDONLY})',
      });
    },
  };
}

/** Its directory in each hierarchy, by the hierarchy's name. */
function placesOf(cgroup: Cgroup, { hierarchies }: Layout): Map<string, string> {
  const places = new Map<string, string>();
  for (const { version, controllers, mount } of hierarchies) {
    const path = version === 2 ? cgroup.path() : controllers[0] && cgroup.path(controllers[0]);
    // A controller may be another hierarchy's; without a v2 tree `path()` is one of v1.
    if (path?.startsWith(`${mount}/`)) places.set(basename(mount), path);
  }
  return places;
}

/** `cpu` beside `cpu,cpuacct`. */
function links({ v1 }: Layout): [name: string, to: string][] {
  const homes = new Set(Object.values(v1).map((mount) => dirname(mount)));
  return [...homes].flatMap((home) =>
    readdirSync(home, { withFileTypes: true })
      .filter((entry) => entry.isSymbolicLink())
      .map((entry): [string, string] => [entry.name, readlinkSync(`${home}/${entry.name}`)]),
  );
}

function show(program: LaunchProgram, folder: Slot, name: string, path: string, readonly: boolean): void {
  program.step('mount', 'mkdirat', [folder, name, 0o755]);
  const place = program.step('mount', 'openat', [folder, name, O.PATH | O.DIRECTORY | O.NOFOLLOW | O.CLOEXEC, 0]);
  attach(program, cloneMount(program, path, { attr: SEALED | (readonly ? MOUNT_ATTR.RDONLY : 0) }), place);
}
