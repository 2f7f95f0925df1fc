import { statSync } from 'node:fs';
import { AT, KernelError, type LaunchProgram, O, type Slot } from '@iso/sys';
import { attributes } from './attributes.js';
import { attach, cloneMount, newMount } from './filesystem.js';
import { MOUNT_ATTR, MOVE_MOUNT } from './raw/flags.js';
import type { Workshop } from './recipe.js';
import type { FileSpec } from './spec.js';
import { openInside, openTarget } from './target.js';

/**
 * Adds the steps of a file with given content.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param spec - the line
 */
export function file(program: LaunchProgram, { root, covers, files }: Workshop, spec: FileSpec): void {
  const from = { at: covers as Slot, name: String(files.indexOf(spec)) };
  const content = cloneMount(program, from, { attr: attributes(spec), propagation: 0 });
  attach(program, content, openTarget(program, root, spec.target, { kind: 'file' }));
}

/**
 * Makes what is mounted over something: files with their content, an empty directory and /dev/null. They lie on a memory file
 * system below the new root, where nothing resolves to; it goes with the old root, and only what was cloned of it lives on.
 *
 * @param program - the launch
 * @param files - to make
 * @param masks - whether something will be masked
 * @returns slot of its root
 */
export function makeCovers(program: LaunchProgram, files: readonly FileSpec[], masks: boolean): Slot {
  const covers = newMount(program, 'tmpfs', { parameters: { mode: '755' } });
  // Attached, because kernels before 6.15 clone attached mounts only; private, as all that is mounted on what is not shared.
  program.step('mount', 'move_mount', [covers, '', AT.FDCWD, '/', MOVE_MOUNT.F_EMPTY_PATH]);
  for (const [i, spec] of files.entries()) {
    const flags = O.CREAT | O.EXCL | O.WRONLY | O.CLOEXEC;
    const fd = program.step('mount', 'openat', [covers, String(i), flags, spec.mode ?? 0o644]);
    if (spec.content.length) program.step('mount', 'write', [fd, spec.content, spec.content.length]);
  }
  if (masks) makeMasks(program, covers);
  return covers;
}

/** What hides something is sealed once: a clone has the attributes of what it was cloned from. */
function makeMasks(program: LaunchProgram, covers: Slot): void {
  const attr = MOUNT_ATTR.RDONLY | MOUNT_ATTR.NOEXEC;
  program.step('mount', 'mkdirat', [covers, EMPTY, 0o555]);
  program.step('mount', 'mknodat', [covers, NULL, S_IFREG | 0o444, 0]);
  for (const [name, from] of [
    [EMPTY, { at: covers, name: EMPTY }],
    [NULL, verifiedNull()],
  ] as const) {
    const cover = cloneMount(program, from, { attr });
    program.step('mount', 'move_mount', [cover, '', covers, name, MOVE_MOUNT.F_EMPTY_PATH]);
  }
}

const EMPTY = 'empty';
const NULL = 'null';
const S_IFREG = 0o100000;

/**
 * Hides what stands at a path of the root: a directory behind an empty one, a file behind /dev/null. What it is, is seen
 * in the root itself; where nothing is, nothing happens.
 *
 * @param program - the launch
 * @param shop - what the lines of a recipe share
 * @param path - absolute, as the container sees it
 */
export function mask(program: LaunchProgram, { root, covers }: Workshop, path: string): void {
  let target: Slot;
  const open = (directory: boolean) => () => {
    target = openInside(program, root, path, { directory });
  };
  const cover = (name: string) => () => {
    attach(program, cloneMount(program, { at: covers as Slot, name }, { propagation: 0 }), target);
  };
  const hide = () => {
    const found = target;
    program.attempt('mount', ['ENOTDIR'], open(true), {
      onSuccess: cover(EMPTY),
      onError: () => {
        target = found;
        cover(NULL)();
      },
    });
  };
  program.attempt('mount', ['ENOENT', 'ENOTDIR'], open(false), { onSuccess: hide });
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
