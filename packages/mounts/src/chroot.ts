import { readFileSync } from 'node:fs';
import { AT, CLONE, errand, Fd, LaunchProgram, O, type Slot } from '@iso/sys';
import { type Mount, parseMountInfo } from './mountinfo.js';
import { MNT, MS } from './raw/flags.js';
import { mountTable } from './table.js';

/** The child of a caller that is in a chroot itself: its ways out of it and back. */
interface Chrooted {
  /** A pidfd of the child: by joining its own mount namespace it comes to the root of that. */
  self: Slot;
  /** The caller's root. */
  home: Slot;
}

const NOT_A_MOUNT_POINT =
  "the root of this process is no mount point, as in a chroot: the launch can do without by `enter: 'chroot'`";

/**
 * Adds the step that makes all mounts slaves. Not private: a host that unmounts something later must not find it busy here.
 *
 * @param program - the launch
 */
export function enslave(program: LaunchProgram): void {
  program.step('mount', 'mount', [null, '/', null, MS.REC | MS.SLAVE, null], {
    text: 'mount("/", MS_REC|MS_SLAVE)',
    hint: NOT_A_MOUNT_POINT,
  });
}

/**
 * Adds the same step for a launch that enters its root by chroot(2), also where the caller is in a chroot whose root is no mount
 * point: a namespace's mounts can be changed as a whole from its own root only.
 *
 * @param program - the launch
 * @returns what {@link enterByChroot} needs
 */
export function enslaveFromChroot(program: LaunchProgram): Chrooted | undefined {
  if (mountTable().some((mount) => mount.target === '/')) {
    enslave(program);
    return undefined;
  }
  const home = program.step('mount', 'openat', [AT.FDCWD, '/', O.PATH | O.DIRECTORY | O.CLOEXEC, 0]);
  const self = openSelf(program, 'mount');
  program.step('mount', 'setns', [self, CLONE.NEWNS]);
  enslave(program);
  program.step('mount', 'fchdir', [home]);
  program.step('mount', 'chroot', ['.']);
  return { self, home };
}

/**
 * Adds the steps that enter a root by chroot(2). The mount namespace keeps the host's mounts, so whoever has CAP_SYS_CHROOT
 * gets out. Each proc and sysfs outside the root is taken away or covered: as long as one is whole, a user namespace inside
 * may mount another in which nothing is masked.
 *
 * @param program - the launch
 * @param root - the root's descriptor in the child
 * @param chrooted - what {@link enslaveFromChroot} returned
 */
export function enterByChroot(program: LaunchProgram, root: Slot, chrooted: Chrooted | undefined): void {
  const table = chrooted ? wholeTable() : mountTable();
  if (chrooted) program.step('root', 'setns', [chrooted.self, CLONE.NEWNS]);
  for (const { target } of table.filter((mount) => mount.type === 'proc' || mount.type === 'sysfs').reverse()) {
    const sealed = MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOEXEC;
    program.attempt(
      'root',
      ['EINVAL', 'EPERM', 'ENOENT', 'EACCES'],
      () => void program.step('root', 'umount2', [target, MNT.DETACH]),
      {
        // Locked to a user namespace, or not to be reached any more.
        onError: () =>
          void program.step('root', 'mount', ['tmpfs', target, 'tmpfs', sealed, 'size=4096'], {
            ignore: ['ENOENT', 'EACCES'],
          }),
      },
    );
  }
  program.step('root', 'fchdir', [root]);
  program.step('root', 'chroot', ['.'], { hint: 'chroot(2) needs CAP_SYS_CHROOT' });
  program.step('root', 'chdir', ['/']);
}

function openSelf(program: LaunchProgram, phase: 'mount' | 'host'): Slot {
  return program.step(phase, 'pidfd_open', [program.step(phase, 'getpid', []), 0]);
}

/** The mounts of this mount namespace that are outside this process's chroot too. */
function wholeTable(): Mount[] {
  const program = new LaunchProgram('errand');
  const self = openSelf(program, 'host');
  program.step('host', 'setns', [self, CLONE.NEWNS]);
  const file = program.step('host', 'openat', [AT.FDCWD, '/proc/thread-self/mountinfo', O.CLOEXEC, 0], {
    ignore: ['ENOENT'],
  });
  errand(program);
  Fd.own(self.value as number).close();
  if ((file.value as number) < 0) return mountTable();
  using fd = Fd.own(file.value as number);
  return parseMountInfo(readFileSync(fd.number, 'utf8'));
}
