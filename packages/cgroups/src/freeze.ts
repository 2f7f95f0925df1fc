import { setTimeout as sleep } from 'node:timers/promises';
import { FdWatcher, O } from '@iso/sys';
import { CgroupError, E } from './error.js';
import type { Places } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';

/** How long to wait for a group to change. */
export interface WaitOptions {
  /** Gives up. */
  signal?: AbortSignal;
  /** Gives up after so many milliseconds, with `EBUSY`; default 10,000. */
  timeoutMs?: number;
}

/**
 * Stops everything in a group and waits until it stands still.
 *
 * @throws CgroupError `busy` where it does not within the time; it goes on to run then
 */
export async function freeze(places: Places, options: WaitOptions): Promise<void> {
  const directory = freezerOf(places);
  if (directory.version === 2) {
    directory.write('cgroup.freeze', '1');
    try {
      await untilEvent(directory, 'frozen', 1, options);
    } catch (error) {
      directory.write('cgroup.freeze', '0');
      throw error;
    }
    return;
  }
  const deadline = Date.now() + (options.timeoutMs ?? 10_000);
  try {
    for (let tries = 1; ; tries++) {
      options.signal?.throwIfAborted();
      directory.write('freezer.state', 'FROZEN');
      if (directory.read('freezer.state') === 'FROZEN') return;
      if (Date.now() > deadline) throw late(directory, 'freezer.state', 'FROZEN');
      // A process that forks all the time escapes: let it run on, and try again.
      if (tries % 50 === 0) {
        directory.write('freezer.state', 'THAWED');
        await sleep(10);
      } else await sleep(1);
    }
  } catch (error) {
    directory.write('freezer.state', 'THAWED');
    throw error;
  }
}

/**
 * Lets everything in a group go on, and waits until it does. It does not where an ancestor is frozen: that is no error.
 */
export async function thaw(places: Places, options: WaitOptions): Promise<void> {
  const directory = freezerOf(places);
  if (directory.version === 1) return directory.write('freezer.state', 'THAWED');
  directory.write('cgroup.freeze', '0');
  if (frozenAbove(directory)) return;
  await untilEvent(directory, 'frozen', 0, options);
}

/** Whether a group was told to freeze, by itself or an ancestor. */
export function isFreezing(places: Places): boolean {
  const directory = places.of('freezer');
  if (!directory) return false;
  if (directory.version === 1) return directory.read('freezer.state') !== 'THAWED';
  return directory.read('cgroup.freeze') === '1' || counter(directory, 'frozen') === 1;
}

/**
 * Waits until a counter of `cgroup.events` has a value. A group that somebody removes meanwhile, as systemd does, is empty.
 *
 * @throws CgroupError `busy` after the time, `removed` where the group is gone that was to freeze; the signal's reason
 */
export async function untilEvent(
  directory: CgroupDirectory,
  key: 'populated' | 'frozen',
  value: number,
  { signal, timeoutMs = 10_000 }: WaitOptions,
): Promise<void> {
  signal?.throwIfAborted();
  if (counter(directory, key) === value) return;
  const file = directory.openFd('cgroup.events', O.RDONLY);
  let watcher: FdWatcher | undefined;
  let timer: NodeJS.Timeout | undefined;
  let abort: (() => void) | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      const look = () => {
        try {
          const now = counter(directory, key);
          if (now === value || (now === undefined && key === 'populated' && value === 0)) resolve();
          else if (now === undefined) throw directory.failure(-E.NODEV, 'read', 'cgroup.events');
        } catch (error) {
          reject(error);
        }
      };
      watcher = new FdWatcher(file, 'priority', look);
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
      timer = setTimeout(() => {
        // A loop that was busy sees its timers before its descriptors.
        look();
        reject(late(directory, 'cgroup.events', `${key} ${value}`));
      }, timeoutMs);
      // It may have come before the watcher was there.
      look();
    });
  } finally {
    watcher?.close();
    clearTimeout(timer);
    if (abort) signal?.removeEventListener('abort', abort);
    file.close();
  }
}

/** A counter of `cgroup.events`; undefined on v1 and at the root. */
export function counter(directory: CgroupDirectory, key: 'populated' | 'frozen'): number | undefined {
  const text = directory.read('cgroup.events');
  const value = text && new RegExp(`^${key} (\\d)`, 'm').exec(text)?.[1];
  return value === undefined || value === '' ? undefined : Number(value);
}

function frozenAbove(directory: CgroupDirectory): boolean {
  for (let levels = 1; ; levels++) {
    const ancestor = directory.ancestor(levels);
    if (!ancestor) return false;
    const frozen = ancestor.read('cgroup.freeze') === '1';
    ancestor[Symbol.dispose]();
    if (frozen) return true;
  }
}

function freezerOf(places: Places): CgroupDirectory {
  return places.homeOf('freezer');
}

function late(directory: CgroupDirectory, file: string, what: string): CgroupError {
  return new CgroupError(E.BUSY, {
    syscall: 'read',
    call: `waiting for ${what}`,
    path: `${directory.path}/${file}`,
    reason: 'busy',
    hint: 'it did not come about in time: a process may be stuck in the kernel (state D)',
  });
}
