import { readFileSync, statSync } from 'node:fs';
import { attempt, CLONE, errand, F, Fd, invalid, KernelError, LaunchProgram, type Slot, syscall } from '@iso/sys';
import { cloneBind } from './bind.js';
import { MountTree } from './mount-tree.js';
import { MNT } from './raw/flags.js';
import { applySpec } from './recipe.js';
import type { BindSpec, MountSpec } from './spec.js';
import { components, openInside } from './target.js';

/** Lines of a recipe that do not depend on which namespaces the mounting process is in. */
export type LiveSpec = Extract<
  MountSpec,
  { type: 'bind' | 'tmpfs' | 'dev' | 'devpts' | 'device' | 'mount' | 'symlink' | 'directory' }
>;

const kinds: readonly string[] = ['bind', 'tmpfs', 'dev', 'devpts', 'device', 'mount', 'symlink', 'directory'];

/**
 * Mounts something in the mount namespace of a running process. The source of a bind or device is a path of the caller; the
 * target is resolved inside the process's root, so that no link of it leads outside, also while the process changes it. Of `mount`
 * lines a {@link MountTree} is the caller's; other sources see the process's files.
 *
 * Needs CAP_SYS_ADMIN over that mount namespace: a plain user has it over those of user namespaces that it created.
 *
 * @param process - its pid, or a pidfd
 * @param spec - one line of a recipe
 * @throws KernelError `ESRCH` where the process is gone, `EPERM` without the privilege, `EINVAL`, `ENOTDIR`, each with its `step`
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
export function mountInto(process: Fd | number, spec: LiveSpec): void {
  if (!kinds.includes(spec.type))
    throw invalid(`${spec.type} cannot be mounted into a running process, but ${kinds.join(', ')} can`);
  const borrows = (spec.type === 'bind' && !spec.idmap) || spec.type === 'device';
  inside(process, borrows, (program, root, enter) => {
    const source = (_: LaunchProgram, bind: BindSpec) => {
      const mount = cloneHere(program, bind) ?? cloneBind(program, bind);
      enter();
      return mount;
    };
    applySpec(program, { root, covers: undefined, files: [], source }, spec);
  });
}

/**
 * Unmounts what is mounted at a path of a running process, see umount2(2); of several mounts the one on top, which the process may
 * have mounted itself. A symbolic link at the end of the path is not followed.
 *
 * Needs CAP_SYS_ADMIN over its mount namespace.
 *
 * @param process - its pid, or a pidfd
 * @param path - as the process sees it
 * @param options - `lazy`: takes it out of the tree now, and away when it is not used any more
 * @throws KernelError `EBUSY` where it is used; `EINVAL` where nothing is mounted there, or the mount is locked to others
 */
export function unmountFrom(process: Fd | number, path: string, options: { lazy?: boolean } = {}): void {
  const parts = components(path);
  const name = parts.pop() as string;
  inside(process, false, (program, root) => {
    // By its name in the directory: the mount itself must not be held open, and no link is followed that was not judged.
    const parent = parts.length ? openInside(program, root, `/${parts.join('/')}`, { directory: true }) : root;
    program.step('root', 'fchdir', [parent]);
    program.step('root', 'umount2', [name, MNT.NOFOLLOW | (options.lazy ? MNT.DETACH : 0)], {
      text: `umount2(${JSON.stringify(path)}, ${options.lazy ? 'MNT_DETACH|' : ''}UMOUNT_NOFOLLOW)`,
      hint: {
        EBUSY: 'it is in use: `lazy` does not wait for that',
        EINVAL: 'no mount is there, it is a symbolic link, or the mount is locked',
      },
    });
  });
}

/** The source of a bind, cloned by this process if it may. */
function cloneHere(program: LaunchProgram, spec: BindSpec): Fd | undefined {
  try {
    const tree = MountTree.clone(spec.source, spec);
    program.defer(() => tree.close());
    return tree.fd;
  } catch (error) {
    if (KernelError.is(error, 'EPERM')) return undefined;
    throw error;
  }
}

/**
 * Runs steps in the mount namespace of a process, and in its user namespace where that is another. With `late` the errand stays in a
 * copy of the caller's mount namespace until `enter` is called: there the user namespace has the privilege to clone.
 */
function inside(
  process: Fd | number,
  late: boolean,
  add: (program: LaunchProgram, root: Slot, enter: () => void) => void,
): void {
  const program = new LaunchProgram('errand');
  program.ownFiles();
  try {
    const pidfd = process instanceof Fd ? process : Fd.own(syscall('pidfd_open', process, 0));
    if (pidfd !== process) program.defer(() => pidfd.close());
    const { root, sameUser } = lookAt(pidfd);
    program.defer(() => root.close());
    const flags = (late ? 0 : CLONE.NEWNS) | (sameUser ? 0 : CLONE.NEWUSER);
    if (flags) program.join(pidfd, flags);
    if (!sameUser) {
      // Who is nobody in the user namespace can create nothing on its file systems.
      program.step('user', 'setgroups', [0, null], { ignore: ['EPERM'] });
      program.step('user', 'setresgid', [0, 0, 0], { ignore: ['EINVAL'] });
      program.step('user', 'setresuid', [0, 0, 0], { ignore: ['EINVAL'] });
    }
    program.step('mount', 'umask', [0]);
    const slot = program.step('mount', 'fcntl', [root, F.DUPFD_CLOEXEC, 3]);
    if (late) program.step('mount', 'unshare', [CLONE.NEWNS], { text: 'unshare(CLONE_NEWNS)' });
    add(program, slot, () => void program.step('mount', 'setns', [pidfd, CLONE.NEWNS]));
  } catch (error) {
    program.finish('failed');
    throw error;
  }
  errand(program);
}

/** The root of a process, and whether it is in this process's user namespace. */
function lookAt(pidfd: Fd): { root: Fd; sameUser: boolean } {
  const pid = /^Pid:\s*(-?\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${pidfd.number}`, 'utf8'))?.[1];
  if (pid === undefined || Number(pid) <= 0) throw gone();
  const theirs = statSync(`/proc/${pid}/ns/user`);
  const ours = statSync('/proc/self/ns/user');
  const root = Fd.open(`/proc/${pid}/root`, { path: true, directory: true });
  // The pid could have been reused since: then this pidfd is dead.
  if (attempt('pidfd_send_signal', pidfd, 0, null, 0) === -ESRCH) {
    root.close();
    throw gone();
  }
  return { root, sameUser: theirs.ino === ours.ino && theirs.dev === ours.dev };
}

const ESRCH = 3;

function gone(): KernelError {
  return new KernelError(ESRCH, { syscall: 'setns', call: 'setns(pidfd)', hint: 'the process has ended' });
}
