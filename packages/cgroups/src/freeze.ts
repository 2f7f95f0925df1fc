import { setTimeout as sleep } from 'node:timers/promises';
import type { Places } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';
import { counter } from './state.js';
import { late, untilState, type WaitOptions } from './wait.js';

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
      await untilState(directory, 'frozen', true, options);
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
  await untilState(directory, 'frozen', false, options);
}

/** Whether a group was told to freeze, by itself or an ancestor. */
export function isFreezing(places: Places): boolean {
  const directory = places.of('freezer');
  if (!directory) return false;
  if (directory.version === 1) return directory.read('freezer.state') !== 'THAWED';
  return directory.read('cgroup.freeze') === '1' || counter(directory, 'frozen') === 1;
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
