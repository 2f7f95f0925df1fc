import { fstatSync } from 'node:fs';
import { AT, CLONE, F, type Fd, type LaunchProgram, O, openHow, RESOLVE, type Slot } from '@iso/sys';

const path = '/dev/null';
const NULL_DEVICE = 0x103;

/**
 * Puts the null device of the child's own root in the place of this process's, as runc does. Who is root in a container owns the file of
 * the host's too: by /proc/self/fd it would set that one's mode, owner and times.
 *
 * A new root that has none keeps what it is given. In a root that is joined, somebody may have taken it away to be given the host's:
 * there is no start.
 *
 * @param program - the launch, with what decides its root
 * @param descriptors - what the child is given
 */
export function replaceNull(program: LaunchProgram, descriptors: readonly (Fd | null)[]): void {
  if (!program.hasOwnRoot) return;
  const numbers = new Set(descriptors.filter(isNull).map(({ number }) => number));
  if (numbers.size === 0) return;
  // Under the same numbers: the child's table of descriptors is its own.
  const replace = (own: Slot) => {
    for (const number of numbers) program.step('sysctl', 'dup3', [own, number, O.CLOEXEC]);
  };
  if (!(program.unshared & CLONE.NEWNS)) return replace(open(program));
  let own: Slot;
  program.attempt('sysctl', ['*'], () => void (own = open(program)), { onSuccess: () => replace(own) });
}

function isNull(fd: Fd | null): fd is Fd {
  if (fd === null) return false;
  const info = fstatSync(fd.number);
  return info.isCharacterDevice() && info.rdev === NULL_DEVICE;
}

/** Opens what behaves as the null device does. Whatever else stands there may not hold the launch up. */
function open(program: LaunchProgram): Slot {
  const hint =
    'the root needs a null device of its own, where the child is given one: the host’s would be its to change';
  const how = openHow(O.RDWR | O.NOCTTY | O.NONBLOCK | O.CLOEXEC, RESOLVE.NO_SYMLINKS);
  const fd = program.step('sysctl', 'openat2', [AT.FDCWD, path, how, how.length], {
    text: `openat2(AT_FDCWD, "${path}", O_RDWR, RESOLVE_NO_SYMLINKS)`,
    hint,
  });
  // It alone takes a byte from nowhere, and has none to put there: files, terminals and other devices answer EFAULT, or ENOSPC.
  program.step('sysctl', 'write', [fd, null, 1], { hint });
  program.step('sysctl', 'read', [fd, null, 1], { hint });
  program.step('sysctl', 'fcntl', [fd, F.SETFL, O.RDWR], { hint });
  return fd;
}
