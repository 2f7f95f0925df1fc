import { F, type Fd, type LaunchProgram, type StepArg } from '@iso/sys';

/**
 * Lays out the child's descriptors: number i is a copy of `sources[i]`, and nothing else stays open.
 *
 * @param program - the launch
 * @param sources - descriptors of this process, in the order of the child's numbers
 */
export function layOut(program: LaunchProgram, sources: readonly Fd[]): void {
  const count = sources.length;
  // A source that sits on a number which another one needs moves out of the way first (1 and 2 swapped, for example).
  const from: StepArg[] = sources.map((source, i) =>
    source.number < count && source.number !== i
      ? program.step('fds', 'fcntl', [source, F.DUPFD_CLOEXEC, count])
      : source,
  );
  for (const [i, source] of from.entries()) {
    // dup2 of a number onto itself would keep close-on-exec, which Node sets on 0, 1 and 2.
    if (source === sources[i] && sources[i]?.number === i) program.step('fds', 'fcntl', [i, F.SETFD, 0]);
    else program.step('fds', 'dup3', [source, i, 0]);
  }
  program.closeFrom(count);
}
