import { Fd, type LaunchProgram } from '@iso/sys';

/** Adds a step that opens a descriptor inside, and tells it once it is there. */
export function opening(
  program: LaunchProgram,
  call: 'socket' | 'openat',
  args: Parameters<LaunchProgram['step']>[2],
  made: (fd: Fd) => void,
): void {
  const opened = program.step('host', call, args);
  program.started(() => made(Fd.own(opened.value as number)));
}
