import { F, Fd, type LaunchProgram, PR, syscall } from '@iso/sys';

const MFD_CLOEXEC = 1;
const F_SETLK = 6;
const F_RDLCK = 0;
const F_WRLCK = 1;
/** Above every descriptor that a child is likely to be given. */
const HIGH = 600;

/**
 * Adds the steps by which a child dies with the thread that started it, see PR_SET_PDEATHSIG. A child whose parent ends before
 * it asks for that signal would never get one, and in a pid namespace its parent's pid tells it nothing. But a record lock
 * belongs to one process and goes before its children are told of its death: a child that gets the lock has no parent
 * any more, and ends.
 *
 * @param program - the launch
 * @param signal - what it gets
 */
export function dieWithParent(program: LaunchProgram, signal: number): void {
  const file = openLifeline();
  program.defer(() => file.close());
  program.step('privileges', 'prctl', [PR.SET_PDEATHSIG, signal, 0, 0, 0]);
  const lock = () =>
    program.step('privileges', 'fcntl', [file, F_SETLK, flock(F_RDLCK)], { text: 'fcntl(lifeline, F_SETLK, F_RDLCK)' });
  program.attempt('privileges', ['EAGAIN', 'EACCES'], lock, {
    onSuccess: () => program.step('privileges', 'exit', [127]),
  });
}

/** A file that this process holds a lock on. */
function openLifeline(): Fd {
  using low = Fd.own(syscall('memfd_create', 'lifeline', MFD_CLOEXEC));
  const high = Fd.own(syscall('fcntl', low, F.DUPFD_CLOEXEC, HIGH));
  try {
    // Closing any descriptor of the file drops the lock, so it is taken last.
    low.close();
    syscall('fcntl', high, F_SETLK, flock(F_WRLCK));
  } catch (error) {
    high.close();
    throw error;
  }
  return high;
}

/** struct flock: the whole file. */
function flock(type: number): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeInt16LE(type, 0);
  return bytes;
}
