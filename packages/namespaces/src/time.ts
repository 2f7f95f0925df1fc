import { AT, invalid, type LaunchProgram, O, type Slot } from '@iso/sys';

/** What the clocks of a time namespace are ahead of the machine's, see time_namespaces(7). */
export interface TimeOffsets {
  /** Seconds added to CLOCK_MONOTONIC; fractions and negative numbers too. */
  monotonic?: number;
  /** Seconds added to CLOCK_BOOTTIME. */
  boottime?: number;
}

/** Half of the largest time that the kernel knows. */
const MAX_SECONDS = 4_611_686_018;
const NANOSECONDS = 1e9;

/**
 * The text of a timens_offsets file.
 *
 * @param offsets - in seconds
 * @returns one line a clock
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is beyond 146 years either way
 */
export function timeOffsetsText(offsets: TimeOffsets): string {
  return (['monotonic', 'boottime'] as const)
    .filter((clock) => offsets[clock] !== undefined)
    .map((clock) => {
      const seconds = offsets[clock] as number;
      if (!(Math.abs(seconds) <= MAX_SECONDS)) throw invalid(`${clock} is no offset in seconds: ${seconds}`);
      // The nanoseconds are never negative; a number that is rounded up may be a whole second more.
      let whole = Math.floor(seconds);
      let rest = Math.round((seconds - whole) * NANOSECONDS);
      if (rest === NANOSECONDS) [whole, rest] = [whole + 1, 0];
      return `${clock} ${whole} ${rest}\n`;
    })
    .join('');
}

/**
 * Adds the steps that shift the clocks of a new time namespace.
 *
 * @param program - the launch
 * @param offsets - in seconds
 * @returns slot of the file, for an errand to close; undefined where nothing is shifted
 */
export function setTimeOffsets(program: LaunchProgram, offsets: TimeOffsets): Slot | undefined {
  const text = timeOffsetsText(offsets);
  if (text === '') return undefined;
  const fd = program.step('user', 'openat', [AT.FDCWD, '/proc/self/timens_offsets', O.WRONLY | O.CLOEXEC], {
    hint: {
      EACCES: 'a plain user sets clocks in a user namespace that is new in the same launch, not in one that exists',
      ENOENT: 'the kernel has no time namespaces, or /proc is missing',
    },
  });
  program.step('user', 'write', [fd, text, text.length], {
    text: `write(timens_offsets, ${JSON.stringify(text)})`,
    hint: {
      ERANGE: 'a clock would run below zero, or beyond its end',
      EACCES: 'somebody lives there: its clocks are set',
    },
  });
  return fd;
}
