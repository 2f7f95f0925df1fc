import { type LaunchProgram, O, type Slot } from '@iso/sys';
import { attach, cloneMount, newMount } from './filesystem.js';
import { MOUNT_ATTR } from './raw/flags.js';
import { openTarget } from './target.js';

const nodes: readonly [name: string, major: number, minor: number][] = [
  ['null', 1, 3],
  ['zero', 1, 5],
  ['full', 1, 7],
  ['random', 1, 8],
  ['urandom', 1, 9],
  ['tty', 5, 0],
];
const links: readonly [name: string, path: string][] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['core', '/proc/kcore'],
  ['ptmx', 'pts/ptmx'],
];
const S_IFCHR = 0o020000;

/**
 * Adds the steps of a /dev: a memory file system with six nodes.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param path - where
 */
export function dev(program: LaunchProgram, root: Slot, path: string): void {
  const target = openTarget(program, root, path, {
    kind: 'directory',
    literal: true,
    hint: `${path} of the root must be a directory, not a symbolic link`,
  });
  const mount = newMount(program, 'tmpfs', { parameters: { mode: '755', size: '65536k' }, attr: MOUNT_ATTR.NOSUID });
  attach(program, mount, target);
  const make = () => {
    for (const [name, major, minor] of nodes) {
      program.step('mount', 'mknodat', [mount, name, S_IFCHR | 0o666, (major << 8) | minor], {
        text: () => `mknodat(dev, "${name}", S_IFCHR|0666, ${major}:${minor})`,
      });
    }
  };
  // A user namespace cannot make nodes: the host's own six are bound, one by one. Read-only, which keeps nobody from writing to a
  // device, and root of a namespace that maps the host's from changing its node.
  const borrow = () => {
    for (const [name] of nodes) {
      program.step('mount', 'openat', [mount, name, O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC, 0o666]);
      const node = cloneMount(program, `/dev/${name}`, {
        attr: MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC,
      });
      attach(program, node, program.step('mount', 'openat', [mount, name, O.PATH | O.CLOEXEC, 0]));
    }
  };
  program.attempt('mount', ['EPERM'], make, { onError: borrow });
  for (const [name, to] of links) program.step('mount', 'symlinkat', [to, mount, name]);
}
