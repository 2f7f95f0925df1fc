import { readFileSync, writeFileSync } from 'node:fs';
import { errnoNumber, KernelError, UnsupportedError } from './error.js';
import { Fd } from './fd.js';
import { Feature } from './feature.js';
import { kernel, type SyscallArg } from './kernel.js';
import { errand, park } from './launcher/launch.js';
import { LaunchProgram } from './launcher/program.js';
import { AT, CLONE } from './raw/flags.js';
import { layouts } from './raw/layouts.js';
import type { SyscallName } from './raw/numbers.js';
import { syscall } from './syscall.js';

const OPEN_TREE_CLOEXEC = 0o2000000;
const MFD_EXEC = 0x10;
const PIDFD_GET_INFO = 0xc040ff0b;
const NO_FD = 0x7fffffff;

/** What the launcher and the other packages ask of a kernel beyond Linux 5.0, each tried at its first use. */
export const features = {
  /** clone3(2). A seccomp filter may lack it too: Docker's answers ENOSYS without CAP_SYS_ADMIN. */
  clone3: new Feature('clone3', () => exists('clone3', null, 0), { since: '5.3' }),
  /** A start inside a cgroup v2, `CLONE_INTO_CGROUP`. */
  cloneIntoCgroup: new Feature(
    'CLONE_INTO_CGROUP',
    () => {
      const program = new LaunchProgram('errand');
      program.cgroup(Fd.borrow(NO_FD));
      answers(() => errand(program), 'EBADF');
    },
    { since: '5.7' },
  ),
  /** pidfd_open(2). */
  pidfdOpen: new Feature('pidfd_open', () => Fd.own(syscall('pidfd_open', process.pid, 0)).close(), { since: '5.3' }),
  /** What a process was and how it ended, by its pidfd: the ioctl PIDFD_GET_INFO. */
  pidfdInfo: new Feature(
    'PIDFD_GET_INFO',
    () => {
      using pidfd = Fd.own(syscall('pidfd_open', process.pid, 0));
      lacking(() => syscall('ioctl', pidfd, PIDFD_GET_INFO, Buffer.alloc(64)), ['ENOTTY', 'EINVAL']);
    },
    { since: '6.13' },
  ),
  /** close_range(2). */
  closeRange: new Feature('close_range', () => syscall('close_range', 0xffffffff, 0xffffffff, 0), { since: '5.9' }),
  /** openat2(2). */
  openat2: new Feature(
    'openat2',
    () => {
      const { size } = layouts.open_how;
      Fd.own(syscall('openat2', AT.FDCWD, '/', Buffer.alloc(size), size)).close();
    },
    { since: '5.6' },
  ),
  /** Mounts by descriptor: open_tree, move_mount, fsopen, fsmount. */
  mountDescriptors: new Feature(
    'open_tree',
    () => Fd.own(syscall('open_tree', AT.FDCWD, '/', OPEN_TREE_CLOEXEC)).close(),
    { since: '5.2' },
  ),
  /** mount_setattr(2). */
  mountSetattr: new Feature('mount_setattr', () => exists('mount_setattr', NO_FD, '', 0, null, 0), { since: '5.12' }),
  /** statmount(2) and listmount(2). */
  statmount: new Feature(
    'statmount',
    () => {
      exists('statmount', null, null, 0, 0);
      exists('listmount', null, null, 0, 0);
    },
    { since: '6.8' },
  ),
  /** User namespaces in which this process may do something. */
  userNamespaces: new Feature('user namespaces', userNamespace, { since: '3.8' }),
  /** Time namespaces. Unknown without CAP_SYS_ADMIN. */
  timeNamespaces: new Feature(
    'time namespaces',
    () => {
      const program = new LaunchProgram('errand');
      program.step('host', 'unshare', [CLONE.NEWTIME]);
      lacking(() => errand(program), ['EINVAL']);
    },
    { since: '5.6' },
  ),
  /** Programs in memory: an executable memfd_create(2). */
  executableMemfd: new Feature('executable memfd', () => {
    try {
      Fd.own(syscall('memfd_create', 'probe', MFD_EXEC)).close();
    } catch (error) {
      if (KernelError.is(error, 'EACCES'))
        throw new UnsupportedError('executable memfd', 'the sysctl vm.memfd_noexec is 2', { cause: error });
      // Before 6.3 each of them is.
      if (!KernelError.is(error, 'EINVAL')) throw error;
      Fd.own(syscall('memfd_create', 'probe', 0)).close();
    }
  }),
} as const satisfies Readonly<Record<string, Feature>>;

/** A call that can only fail: any error but ENOSYS shows that it is there; EPERM may come from a filter that hides it. */
function exists(name: SyscallName, ...args: SyscallArg[]): void {
  const result = Number(kernel().call(name, args));
  if (result === -errnoNumber('ENOSYS'))
    throw new UnsupportedError(name, 'the kernel or a seccomp filter answered ENOSYS');
  if (result === -errnoNumber('EPERM')) throw new KernelError(result, { syscall: name });
}

function answers(action: () => void, code: string): void {
  try {
    action();
  } catch (error) {
    if (!KernelError.is(error, code)) throw error;
  }
}

/** Errors that say that there is no such thing. */
function lacking(action: () => unknown, codes: readonly string[]): void {
  try {
    action();
  } catch (error) {
    if (!KernelError.is(error, ...codes)) throw error;
    throw new UnsupportedError(error.syscall, `the kernel answered ${error.code}`, { cause: error });
  }
}

/** Makes one, becomes root in it, and uses that: a security module may allow the one and not the other. */
function userNamespace(): void {
  const held: Fd[] = [];
  try {
    using parked = park(CLONE.NEWUSER | CLONE.NEWUTS);
    writeFileSync(`/proc/${parked.pid}/setgroups`, 'deny');
    writeFileSync(`/proc/${parked.pid}/uid_map`, `0 ${process.geteuid?.()} 1`);
    const program = new LaunchProgram('errand');
    for (const [name, type] of [['user', CLONE.NEWUSER] as const, ['uts', CLONE.NEWUTS] as const]) {
      const fd = Fd.open(`/proc/${parked.pid}/ns/${name}`);
      held.push(fd);
      program.join(fd, type, { exposed: false });
    }
    program.step('host', 'sethostname', ['probe', 5]);
    errand(program);
  } catch (error) {
    const reason = refusal((error as { code?: string }).code);
    throw reason ? new UnsupportedError('user namespaces', reason, { cause: error }) : error;
  } finally {
    for (const fd of held) fd.close();
  }
}

/** Why nobody like us gets a user namespace here, where that shows; else it may come from elsewhere, or pass. */
function refusal(code: string | undefined): string | undefined {
  if (code === 'EINVAL') return 'the kernel is built without them';
  if (code === 'ENOSPC' && sysctl('user/max_user_namespaces') === '0')
    return 'the sysctl user.max_user_namespaces is 0';
  if (code !== 'EPERM' && code !== 'EACCES') return undefined;
  if (sysctl('kernel/unprivileged_userns_clone') === '0') return 'the sysctl kernel.unprivileged_userns_clone is 0';
  if (sysctl('kernel/apparmor_restrict_unprivileged_userns') === '1')
    return 'AppArmor restricts them: the sysctl kernel.apparmor_restrict_unprivileged_userns is 1';
  if (!/^\S+ \S+ \S+ \S+ \/ /m.test(text('/proc/self/mountinfo'))) return 'this process runs in a chroot';
  if (/^Seccomp:\s+2$/m.test(text('/proc/self/status'))) return 'a seccomp filter refuses them';
  return undefined;
}

function sysctl(name: string): string {
  return text(`/proc/sys/${name}`).trim();
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
