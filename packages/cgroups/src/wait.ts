import { CgroupError, E } from './error.js';
import type { CgroupDirectory } from './raw/directory.js';
import { counter, type State, StateFile } from './state.js';

/** How long to wait for a group to change. */
export interface WaitOptions {
  /** Gives up. */
  signal?: AbortSignal;
  /** Gives up after so many milliseconds, with `EBUSY`; default 10,000. */
  timeoutMs?: number;
}

/**
 * Waits until `cgroup.events` says something of a group. One that somebody removes meanwhile, as systemd does, is empty and has
 * nothing frozen.
 *
 * @throws CgroupError `busy` after the time, `removed` where the group is gone that was to freeze; the signal's reason
 */
export async function untilState(
  directory: CgroupDirectory,
  key: keyof State,
  value: boolean,
  { signal, timeoutMs = 10_000 }: WaitOptions,
): Promise<void> {
  signal?.throwIfAborted();
  if (counter(directory, key) === Number(value)) return;
  let file: StateFile | undefined;
  let timer: NodeJS.Timeout | undefined;
  let abort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        try {
          if (file?.read()[key] === value) resolve();
        } catch (error) {
          reject(error);
        }
      };
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      timer = setTimeout(
        () => {
          // A loop that was busy sees its timers before its descriptors.
          look();
          reject(late(directory, 'cgroup.events', `${key} ${Number(value)}`));
        },
        Math.min(timeoutMs, 2 ** 31 - 1),
      ); // Node takes longer ones for 1 ms.
      file = new StateFile(directory);
      file.watch(look);
      // It may have come before the watcher was there.
      look();
    });
  } catch (error) {
    if (value || !CgroupError.is(error, 'removed')) throw error;
  } finally {
    file?.close();
    clearTimeout(timer);
    if (abort) signal?.removeEventListener('abort', abort);
  }
}

/** The error of what did not come about in time. */
export function late(directory: CgroupDirectory, file: string, what: string): CgroupError {
  return new CgroupError(E.BUSY, {
    syscall: 'read',
    call: `waiting for ${what}`,
    path: `${directory.path}/${file}`,
    reason: 'busy',
    hint: 'it did not come about in time: a process may be stuck in the kernel (state D)',
  });
}
