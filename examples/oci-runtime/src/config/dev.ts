import { attach, attributes, cloneMount, type MountFlags, type MountSpec, newMount } from '@iso/mounts';
import { AT, type LaunchProgram, O, type Slot } from '@iso/sys';
import { RuntimeError } from '../error.js';
import { type DeviceNode, hostNode, nodesOf } from './devices.js';
import type { Config } from './spec.js';

/** What a memory file system on /dev is made with. */
interface Tmpfs {
  flags: MountFlags;
  parameters: Record<string, string | true>;
}

const links: readonly [name: string, path: string][] = [
  ['fd', '/proc/self/fd'],
  ['stdin', '/proc/self/fd/0'],
  ['stdout', '/proc/self/fd/1'],
  ['stderr', '/proc/self/fd/2'],
  ['ptmx', 'pts/ptmx'],
  ['core', '/proc/kcore'],
];

/**
 * A memory file system on /dev, with the nodes that every container has and those of its configuration.
 *
 * @param config - of the bundle
 * @param tmpfs - its options
 * @returns a line of the root's recipe
 */
export function devMount(config: Config, { flags, parameters }: Tmpfs): MountSpec {
  const nodes = nodesOf(config).filter(({ path }) => path.startsWith('/dev/'));
  const device = nodes.length > 0 && flags.nodev;
  if (device) throw new RuntimeError('/dev: nodev, and devices on it');
  return {
    type: 'mount',
    target: '/dev',
    source: {
      open: (program) => newMount(program, 'tmpfs', { parameters, attr: attributes({ ...flags, readonly: false }) }),
      furnish: (program, dev) => {
        for (const node of nodes) make(program, dev, node);
        for (const [name, to] of links) program.step('mount', 'symlinkat', [to, dev, name], { ignore: ['EEXIST'] });
      },
    },
  };
}

/** Nobody else sees the file system yet: names in it lead where they say. */
function make(program: LaunchProgram, dev: Slot, { path, kind, rdev, mode, uid, gid }: DeviceNode): void {
  const parts = path.split('/').slice(2);
  const name = parts.join('/');
  for (let i = 1; i < parts.length; i++)
    program.step('mount', 'mkdirat', [dev, parts.slice(0, i).join('/'), 0o755], { ignore: ['EEXIST'] });
  const node = () => {
    program.step('mount', 'mknodat', [dev, name, kind | mode, rdev], { text: `mknodat(${path})` });
  };
  const host = hostNode(path, kind, rdev);
  // A user namespace cannot make nodes: the host's own are bound then, where it has one of that name.
  const borrow = () => {
    program.step('mount', 'openat', [dev, name, O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC, 0o666]);
    const clone = cloneMount(program, path, { attr: attributes({ nosuid: true, noexec: true }) });
    attach(program, clone, program.step('mount', 'openat', [dev, name, O.PATH | O.CLOEXEC, 0]));
  };
  const owner = () => {
    if (uid || gid) program.step('mount', 'fchownat', [dev, name, uid, gid, AT.SYMLINK_NOFOLLOW]);
  };
  if (!host) {
    node();
    return owner();
  }
  program.attempt('mount', ['EPERM'], node, { onSuccess: owner, onError: borrow });
}
