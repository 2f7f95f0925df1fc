import { attempt, F, type Fd, type LaunchProgram, O, Slot, type StepArg } from '@iso/sys';

/**
 * Lays out the child's descriptors: number i is a copy of `sources[i]`, and nothing else stays open.
 *
 * @param program - the launch
 * @param sources - descriptors of this process, or that the child has opened, in the order of the child's numbers; null for a number
 * that stays free
 */
export function layOut(program: LaunchProgram, sources: readonly (Fd | Slot | null)[]): void {
  const count = sources.length;
  // A source that sits on a number which another one needs moves out of the way first (1 and 2 swapped, for example).
  const from: (StepArg | null)[] = sources.map((source, i) =>
    source && (source instanceof Slot || (source.number < count && source.number !== i))
      ? program.step('fds', 'fcntl', [source, F.DUPFD_CLOEXEC, count])
      : source,
  );
  for (const [i, source] of from.entries()) {
    // What stands there in this process may lack close-on-exec: somebody who started it may have left it so.
    if (source === null) program.step('fds', 'close_range', [i, i, 0]);
    // dup2 of a number onto itself would keep close-on-exec, which Node sets on 0, 1 and 2.
    else if (!(source instanceof Slot) && source === sources[i] && (source as Fd).number === i)
      program.step('fds', 'fcntl', [i, F.SETFD, 0]);
    else program.step('fds', 'dup3', [source, i, 0]);
  }
  for (const [i, source] of sources.slice(0, 3).entries()) {
    // As libuv does: hardly a program expects its standard streams to answer EAGAIN.
    const flags = source && !(source instanceof Slot) ? attempt('fcntl', source, F.GETFL, 0) : 0;
    if (flags > 0 && flags & O.NONBLOCK) program.step('fds', 'fcntl', [i, F.SETFL, flags & ~O.NONBLOCK]);
  }
  program.closeFrom(count);
}
