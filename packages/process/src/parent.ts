import { Fd, type LaunchProgram, PR, syscall } from '@iso/sys';

const MFD_CLOEXEC = 1;
const F_SETLK = 6;
const F_RDLCK = 0;
const F_WRLCK = 1;

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
    program.step('privileges', 'fcntl', [file, F_SETLK, readLock], { text: 'fcntl(lifeline, F_SETLK, F_RDLCK)' });
  program.attempt('privileges', ['EAGAIN', 'EACCES'], lock, {
    onSuccess: () => program.step('privileges', 'exit', [127]),
  });
}

/** A file that this process holds a lock on. */
function openLifeline(): Fd {
  const file = Fd.own(syscall('memfd_create', 'lifeline', MFD_CLOEXEC));
  try {
    syscall('fcntl', file, F_SETLK, writeLock);
  } catch (error) {
    file.close();
    throw error;
  }
  return file;
}

/** struct flock: the whole file. */
function flock(type: number): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeInt16LE(type, 0);
  return bytes;
}

const readLock = flock(F_RDLCK);
const writeLock = flock(F_WRLCK);
