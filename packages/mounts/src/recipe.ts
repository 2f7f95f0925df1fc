import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { AT, KernelError, type LaunchProgram, O, type Slot } from '@iso/sys';
import { attributes } from './attributes.js';
import { attach, cloneMount, newMount } from './filesystem.js';
import { MountTree } from './mount-tree.js';
import { MOUNT_ATTR, MOVE_MOUNT, MS } from './raw/flags.js';
import type { BindSpec, FileSpec, KernelSpec, MountSpec } from './spec.js';
import { components, openInside, openTarget } from './target.js';

/** What the lines of a recipe share. */
export interface Workshop {
  readonly root: Slot;
  /** A memory file system with what is mounted over things: `empty`, a directory, and files by their number. */
  readonly covers: Slot | undefined;
  /** Files with their content, in the order of their numbers. */
  readonly files: readonly FileSpec[];
  /** The child is in another mount namespace than the sources of binds. */
  readonly elsewhere?: boolean;
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
  switch (spec.type) {
    case 'bind':
      return bind(program, shop, spec);
    case 'tmpfs': {
      const target = openTarget(program, root, spec.target, { kind: 'directory' });
      const parameters: Record<string, string> = { mode: (spec.mode ?? 0o1777).toString(8) };
      if (spec.size !== undefined) parameters.size = String(spec.size);
      return attach(program, newMount(program, 'tmpfs', { parameters, attr: attributes(spec) }), target);
    }
    case 'dev':
      return dev(program, root, spec.target);
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

const PROPAGATION = { private: MS.PRIVATE, slave: MS.SLAVE, shared: MS.SHARED } as const;

function bind(program: LaunchProgram, { root, elsewhere }: Workshop, spec: BindSpec): void {
  const source = resolve(spec.source);
  const info = statSync(source, { throwIfNoEntry: false });
  if (!info) throw new KernelError(2, { syscall: 'open_tree', path: source, call: `bind ${source}` });
  const options = {
    attr: attributes(spec),
    ...(spec.recursive ? { recursive: true } : {}),
    ...(spec.propagation ? { propagation: PROPAGATION[spec.propagation] } : {}),
  };
  // Only who is privileged over the file system may map its ids, so that is done here and not in a user namespace.
  const tree = spec.idmap || elsewhere ? MountTree.clone(source, spec) : undefined;
  if (tree) program.defer(() => tree.close());
  attach(
    program,
    tree?.fd ?? cloneMount(program, source, options),
    openTarget(program, root, spec.target, { kind: info.isDirectory() ? 'directory' : 'file' }),
  );
}

function kernelMount(program: LaunchProgram, root: Slot, spec: KernelSpec): void {
  const attr =
    attributes(spec) | MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC | (spec.type === 'devpts' ? 0 : MOUNT_ATTR.NODEV);
  const target = openTarget(program, root, spec.target, {
    kind: 'directory',
    literal: true,
    hint: `${spec.target} of the root must be a directory, not a symbolic link`,
  });
  if (spec.type === 'proc') {
    const hint = 'in a user namespace proc needs a pid namespace of its own, and a full /proc visible outside';
    return attach(program, newMount(program, 'proc', { attr, hint }), target);
  }
  if (spec.type === 'devpts') {
    const mount = newMount(program, 'devpts', {
      parameters: { ptmxmode: '0666', mode: '0620' },
      // Group tty; where a user namespace does not map it, the mount goes without.
      optional: { gid: '5' },
      attr,
    });
    return attach(program, mount, target);
  }
  if (spec.type === 'mqueue') return attach(program, newMount(program, 'mqueue', { attr }), target);
  const hint =
    spec.type === 'sysfs'
      ? 'in a user namespace sysfs needs a network namespace of its own'
      : 'cgroup2 needs a cgroup namespace of its own';
  return attach(program, newMount(program, spec.type, { attr, hint }), target);
}

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

function dev(program: LaunchProgram, root: Slot, path: string): void {
  const target = openTarget(program, root, path, {
    kind: 'directory',
    literal: true,
    hint: `${path} of the root must be a directory, not a symbolic link`,
  });
  const mount = newMount(program, 'tmpfs', { parameters: { mode: '755', size: '65536k' }, attr: MOUNT_ATTR.NOSUID });
  attach(program, mount, target);
  const mask = program.step('mount', 'umask', [0]);
  const make = () => {
    for (const [name, major, minor] of nodes) {
      program.step('mount', 'mknodat', [mount, name, S_IFCHR | 0o666, (major << 8) | minor], {
        text: `mknodat(dev, "${name}", S_IFCHR|0666, ${major}:${minor})`,
      });
    }
  };
  // A user namespace cannot make nodes: the host's own six are bound, one by one.
  const borrow = () => {
    for (const [name] of nodes) {
      program.step('mount', 'openat', [mount, name, O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC, 0o666]);
      const node = cloneMount(program, `/dev/${name}`, { attr: MOUNT_ATTR.NOSUID | MOUNT_ATTR.NOEXEC });
      attach(program, node, program.step('mount', 'openat', [mount, name, O.PATH | O.CLOEXEC, 0]));
    }
  };
  program.attempt('mount', ['EPERM'], make, { onError: borrow });
  program.step('mount', 'umask', [mask]);
  for (const [name, to] of links) program.step('mount', 'symlinkat', [to, mount, name]);
}

function file(program: LaunchProgram, { root, covers, files }: Workshop, spec: FileSpec): void {
  const content = cloneMount(
    program,
    { at: covers as Slot, name: String(files.indexOf(spec)) },
    { attr: attributes(spec) },
  );
  attach(program, content, openTarget(program, root, spec.target, { kind: 'file' }));
}

/**
 * Makes what is mounted over something: files with their content, and an empty directory. They lie on a memory file system
 * below the new root, where nothing resolves to; it goes with the old root, and only what was cloned of it lives on.
 *
 * @param program - the launch
 * @param files - to make
 * @returns slot of its root
 */
export function makeCovers(program: LaunchProgram, files: readonly FileSpec[]): Slot {
  const covers = newMount(program, 'tmpfs', { parameters: { mode: '755' } });
  // Attached, because kernels before 6.15 clone attached mounts only.
  program.step('mount', 'move_mount', [covers, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  const mask = program.step('mount', 'umask', [0]);
  program.step('mount', 'mkdirat', [covers, EMPTY, 0o555]);
  for (const [i, spec] of files.entries()) {
    const flags = O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC;
    const fd = program.step('mount', 'openat', [covers, String(i), flags, spec.mode ?? 0o644]);
    if (spec.content.length) program.step('mount', 'write', [fd, spec.content, spec.content.length]);
  }
  program.step('mount', 'umask', [mask]);
  return covers;
}

const EMPTY = 'empty';

/**
 * Hides what stands at a path of the root: a directory behind an empty one, a file behind /dev/null. What it is, is seen
 * in the root itself; where nothing is, nothing happens.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param path - absolute, as the container sees it
 */
export function mask(program: LaunchProgram, { root, covers }: Workshop, path: string): void {
  const attr = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOEXEC;
  let target: Slot;
  const open = (directory: boolean) => () => {
    target = openInside(program, root, path, { directory });
  };
  program.attempt('mount', ['ENOENT', 'ENOTDIR'], open(true), {
    onSuccess: () => attach(program, cloneMount(program, { at: covers as Slot, name: EMPTY }, { attr }), target),
    onError: () =>
      program.attempt('mount', ['ENOENT', 'ENOTDIR'], open(false), {
        onSuccess: () => attach(program, cloneMount(program, verifiedNull(), { attr }), target),
      }),
  });
}

/**
 * Makes a path of the root read-only, with the mounts below it.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param path - absolute, as the container sees it; where nothing is, nothing happens
 */
export function protect(program: LaunchProgram, { root }: Workshop, path: string): void {
  let target: Slot;
  const open = () => {
    target = openInside(program, root, path);
  };
  const remount = () =>
    attach(program, cloneMount(program, target, { recursive: true, attr: MOUNT_ATTR.RDONLY }), target);
  program.attempt('mount', ['ENOENT', 'ENOTDIR'], open, { onSuccess: remount });
}

/** The host's /dev/null, if that is what it is: a link in its place would become the cover (CVE-2025-31133). */
function verifiedNull(): string {
  const info = statSync('/dev/null', { throwIfNoEntry: false });
  if (!info?.isCharacterDevice() || info.rdev !== 0x103) {
    throw new KernelError(19, {
      syscall: 'open_tree',
      path: '/dev/null',
      hint: '/dev/null of the host is not the null device',
    });
  }
  return '/dev/null';
}
