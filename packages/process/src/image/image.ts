import { attempt, F, Fd, KernelError, type LaunchProgram, syscall, UnsupportedError } from '@iso/sys';
import { arm64 as gateArm64 } from './gate/arm64.js';
import { x64 as gateX64 } from './gate/x64.js';
import { arm64 as initArm64 } from './init/arm64.js';
import { x64 as initX64 } from './init/x64.js';
import type { Machine } from './machine.js';

/** A program that needs no file system: an executable file in memory. */
export interface Image {
  readonly fd: Fd;
  /** Where in it the number belongs that it is told. */
  readonly toldAt: number;
}

/**
 * `init`: the first process of a pid namespace, told the pid that it looks after. `gate`: waits on the descriptor that it is told, then
 * executes the program.
 */
export type ImageName = 'init' | 'gate';

const images: Record<ImageName, Partial<Record<string, Machine>>> = {
  init: { x64: initX64, arm64: initArm64 },
  gate: { x64: gateX64, arm64: gateArm64 },
};
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10;
/** Above every descriptor that a child is likely to be given. */
const HIGH = 600;

/**
 * Makes it, see memfd_create(2).
 *
 * @param name - which
 * @returns the file, not sealed yet
 * @throws KernelError `EACCES` where the sysctl vm.memfd_noexec forbids executable memory files
 */
export function openImage(name: ImageName): Image {
  const image = images[name][process.arch];
  if (!image) throw new UnsupportedError(name, `there is none for ${process.arch}`);
  let made = attempt('memfd_create', name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  // Linux before 6.3 knows no MFD_EXEC, and makes every one executable.
  if (made === -22) made = attempt('memfd_create', name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (made < 0)
    throw new KernelError(made, { syscall: 'memfd_create', hint: 'the sysctl vm.memfd_noexec may forbid it' });
  using low = Fd.own(made);
  const bytes = Buffer.from(image.code, 'hex');
  syscall('write', low, bytes, bytes.length);
  return { fd: Fd.own(syscall('fcntl', low, F.DUPFD_CLOEXEC, HIGH)), toldAt: image.toldAt };
}

/**
 * Makes the gate of a launch, which keeps it open in the child.
 *
 * @param program - the launch
 * @param descriptor - the child's number of what the gate waits on
 * @returns the file, sealed
 * @throws what {@link openImage} throws
 */
export function openGate(program: LaunchProgram, descriptor: number): Fd {
  const { fd, toldAt } = openImage('gate');
  program.defer(() => fd.close());
  program.keep(fd);
  const number = Buffer.alloc(4);
  number.writeInt32LE(descriptor);
  syscall('pwrite64', fd, number, number.length, toldAt);
  syscall('fcntl', fd, F.ADD_SEALS, ALL_SEALS);
  return fd;
}

const ALL_SEALS = 15;
