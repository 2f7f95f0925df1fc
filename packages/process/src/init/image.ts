import { attempt, F, Fd, KernelError, syscall, UnsupportedError } from '@iso/sys';
import * as arm64 from './arm64.js';
import * as x64 from './x64.js';

/** A program that is the first process of a pid namespace: an executable file in memory, in no file system. */
export interface InitImage {
  readonly fd: Fd;
  /** Where the pid of the process that it looks after belongs. */
  readonly pidAt: number;
}

const images: Partial<Record<string, { code: string; pidAt: number }>> = { x64, arm64 };
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10;
/** Above every descriptor that a child is likely to be given. */
const HIGH = 600;

/**
 * Makes it, see memfd_create(2).
 *
 * @returns the file, not sealed yet
 * @throws KernelError `EACCES` where the sysctl vm.memfd_noexec forbids executable memory files
 */
export function openInit(): InitImage {
  const image = images[process.arch];
  if (!image) throw new UnsupportedError('init', `there is none for ${process.arch}`);
  let made = attempt('memfd_create', 'init', MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  // Linux before 6.3 knows no MFD_EXEC, and makes every one executable.
  if (made === -22) made = attempt('memfd_create', 'init', MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0)
    throw new KernelError(made, { syscall: 'memfd_create', hint: 'the sysctl vm.memfd_noexec may forbid it' });
  using low = Fd.own(made);
  const bytes = Buffer.from(image.code, 'hex');
  syscall('write', low, bytes, bytes.length);
  return { fd: Fd.own(syscall('fcntl', low, F.DUPFD_CLOEXEC, HIGH)), pidAt: image.pidAt };
}
