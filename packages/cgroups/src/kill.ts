import { setTimeout as sleep } from 'node:timers/promises';
import { attempt, openPidfd } from '@iso/sys';
import { CgroupError, E } from './error.js';
import { freeze, thaw } from './freeze.js';
import type { Places } from './places.js';
import type { CgroupDirectory } from './raw/directory.js';
import { counter } from './state.js';
import { untilState, type WaitOptions } from './wait.js';

const SIGKILL = 9;
/** Longer than the end of many processes takes. */
const MOMENT_MS = 1000;

/**
 * Kills every process in a group and below it, and waits until it is empty, whatever they fork meanwhile. v2: `cgroup.kill`;
 * before Linux 5.14, and on v1, freeze, SIGKILL, thaw.
 *
 * @throws CgroupError `busy` where something survives the time; `threaded` in a threaded group, whose processes are above it
 */
export async function kill(places: Places, options: WaitOptions): Promise<void> {
  const { v2 } = places;
  if (v2?.has('cgroup.kill') && killAtOnce(v2) && !(await emptied(v2, options))) {
    // Its signal is for the first thread of each, which is deaf where it has ended before the others.
    for (const pid of membersOf(places)) killByPidfd(pid);
    await emptied(v2, options);
  }
  const deadline = Date.now() + (options.timeoutMs ?? 10_000);
  for (let wait = 1; ; wait = Math.min(wait * 2, 50)) {
    options.signal?.throwIfAborted();
    if (membersOf(places).length === 0) return;
    if (Date.now() > deadline) {
      throw new CgroupError(E.BUSY, {
        syscall: 'kill',
        path: places.directories[0]?.path ?? '',
        reason: 'busy',
        hint: 'processes survive SIGKILL: stuck in the kernel (state D), frozen with a v1 group above, or outside of this pid namespace',
      });
    }
    await killFrozen(places, options);
    await sleep(wait);
  }
}

/** Whether there was a group yet: somebody else may remove it as soon as it is empty. */
function killAtOnce(v2: CgroupDirectory): boolean {
  try {
    v2.write('cgroup.kill', '1');
    return true;
  } catch (error) {
    if (CgroupError.is(error, 'removed')) return false;
    throw error;
  }
}

/** Whether a group is empty within a moment. */
async function emptied(v2: CgroupDirectory, options: WaitOptions): Promise<boolean> {
  try {
    await untilState(v2, 'populated', false, {
      ...options,
      timeoutMs: Math.min(options.timeoutMs ?? MOMENT_MS, MOMENT_MS),
    });
    return true;
  } catch (error) {
    if (CgroupError.is(error, 'busy')) return false;
    throw error;
  }
}

/** Nothing can fork while it is frozen, so that every process is hit. */
async function killFrozen(places: Places, options: WaitOptions): Promise<void> {
  const freezer = places.of('freezer');
  if (freezer) {
    try {
      await freeze(places, { ...options, timeoutMs: 2000 });
    } catch (error) {
      // What does not stand still is hit as well as can be; the next round comes. Somebody may have removed what freezes, too.
      if (!CgroupError.is(error, 'busy', 'removed')) throw error;
    }
  }
  try {
    for (const pid of membersOf(places)) killByPidfd(pid);
  } finally {
    // On v1 what is frozen cannot die.
    if (freezer) await thawIfThere(places, options);
  }
}

async function thawIfThere(places: Places, options: WaitOptions): Promise<void> {
  try {
    await thaw(places, options);
  } catch (error) {
    if (!CgroupError.is(error, 'removed')) throw error;
  }
}

/** Processes in a group and below it, in any of its hierarchies. */
export function membersOf(places: Places): number[] {
  const found = new Set<number>();
  for (const directory of places.directories) {
    if (directory.version === 2 && counter(directory, 'populated') === 0) continue;
    for (const pid of deepMembers(directory)) found.add(pid);
  }
  return [...found];
}

function deepMembers(directory: CgroupDirectory): number[] {
  const pids = pidsIn(directory);
  for (const name of directory.children()) {
    const child = directory.descend(name);
    if (!child) continue;
    pids.push(...deepMembers(child));
    child[Symbol.dispose]();
  }
  return pids;
}

/** Processes of one directory; 0 is one that this pid namespace does not see. */
export function pidsIn(directory: CgroupDirectory, file = 'cgroup.procs'): number[] {
  let text: string | undefined;
  try {
    text = directory.read(file);
  } catch (error) {
    if (CgroupError.is(error, 'removed')) return [];
    throw error;
  }
  return (text ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}

/** Signals go to what a pid is now, held by a pidfd while we look. */
function killByPidfd(pid: number): void {
  using pidfd = pid === 0 ? undefined : openPidfd(pid);
  if (pidfd) attempt('pidfd_send_signal', pidfd, SIGKILL, null, 0);
}
