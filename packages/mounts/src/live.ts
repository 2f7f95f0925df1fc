import { readFileSync, statSync } from 'node:fs';
import { AT, attempt, CLONE, errand, Fd, KernelError, LaunchProgram, O, syscall } from '@iso/sys';
import { MNT } from './raw/flags.js';
import { applySpec } from './recipe.js';
import type { FileSpec, MountSpec } from './spec.js';
import { components, openInside } from './target.js';

/**
 * Mounts something in the mount namespace of a running process. A bind's source is a path of the caller; the target is
 * resolved inside the process's root, so that no link of it leads outside.
 *
 * Needs CAP_SYS_ADMIN over that mount namespace, and over the caller's own for a bind.
 *
 * @param process - its pid, or a pidfd
 * @param spec - one line of a recipe; `file` is not among them
 * @throws KernelError `ESRCH` where the process is gone, `EPERM` without the privilege, `EINVAL`, each with its `step`
 *
 * @example
 * ```ts root
 * import { mountInto, rootfs, unmountFrom } from '@iso/mounts';
 * import { spawn } from '@iso/process';
 * const child = await spawn('sleep', ['60'], { stdio: 'ignore', confine: [rootfs({ directory: '/' })] });
 * mountInto(child.pid, { type: 'tmpfs', target: '/mnt' });
 * unmountFrom(child.pid, '/mnt');
 * await child.stop({ signal: 'SIGKILL' });
 * ```
 */
export function mountInto(process: Fd | number, spec: Exclude<MountSpec, FileSpec>): void {
  inside(process, (program) => {
    const root = program.step('mount', 'openat', [AT.FDCWD, '/', O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
    applySpec(program, { root, covers: undefined, files: [], elsewhere: true }, spec);
  });
}

/**
 * Unmounts what is mounted at a path of a running process, see umount2(2).
 *
 * Needs CAP_SYS_ADMIN over its mount namespace.
 *
 * @param process - its pid, or a pidfd
 * @param path - as the process sees it
 * @param options - `lazy`: takes it out of the tree now, and away when it is not used any more
 * @throws KernelError `EBUSY` where it is used; `EINVAL` where nothing is mounted there, or the mount is locked to others
 */
export function unmountFrom(process: Fd | number, path: string, options: { lazy?: boolean } = {}): void {
  const target = `/${components(path).join('/')}`;
  inside(process, (program) => {
    const root = program.step('mount', 'openat', [AT.FDCWD, '/', O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
    // Judges the path; held open it would keep the mount busy.
    program.step('mount', 'close', [openInside(program, root, target)]);
    program.step('root', 'umount2', [target, options.lazy ? MNT.DETACH : 0]);
  });
}

/** Runs steps in the mount namespace of a process, and in its user namespace where that is another. */
function inside(process: Fd | number, add: (program: LaunchProgram) => void): void {
  const program = new LaunchProgram('errand');
  program.ownFiles();
  try {
    const pidfd = process instanceof Fd ? process : Fd.own(syscall('pidfd_open', process, 0));
    if (pidfd !== process) program.defer(() => pidfd.close());
    const ownUser = sameUserNamespace(pidfd);
    program.join(pidfd, CLONE.NEWNS | (ownUser ? 0 : CLONE.NEWUSER));
    if (!ownUser) {
      // Who is nobody in the user namespace can create nothing on its file systems.
      program.step('user', 'setgroups', [0, null], { ignore: ['EPERM'] });
      program.step('user', 'setresgid', [0, 0, 0], { ignore: ['EINVAL'] });
      program.step('user', 'setresuid', [0, 0, 0], { ignore: ['EINVAL'] });
    }
    add(program);
  } catch (error) {
    program.finish('failed');
    throw error;
  }
  errand(program);
}

function sameUserNamespace(pidfd: Fd): boolean {
  const pid = /^Pid:\s*(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd.number}`, 'utf8'))?.[1];
  if (pid === undefined || Number(pid) <= 0)
    throw new KernelError(3, { syscall: 'setns', call: 'setns(pidfd)', hint: 'the process has ended' });
  const theirs = statSync(`/proc/${pid}/ns/user`);
  const ours = statSync('/proc/self/ns/user');
  // The pid could have been reused since: then this pidfd is dead.
  if (attempt('pidfd_send_signal', pidfd, 0, null, 0) === -3)
    throw new KernelError(3, { syscall: 'setns', call: 'setns(pidfd)', hint: 'the process has ended' });
  return theirs.ino === ours.ino && theirs.dev === ours.dev;
}
