import { Fd, type LaunchProgram, type Slot } from '@iso/sys';

/** Adds a step that opens a descriptor inside, for later steps, and tells it once it is there. */
export function opening(
  program: LaunchProgram,
  call: 'socket' | 'openat',
  args: Parameters<LaunchProgram['step']>[2],
  made: (fd: Fd) => void,
): Slot {
  const opened = program.step('host', call, args);
  program.started(() => made(Fd.own(opened.value as number)));
  return opened;
}
