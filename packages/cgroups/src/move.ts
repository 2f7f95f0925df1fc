import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { invalid } from '@iso/sys';
import { CgroupError, E } from './error.js';
import { pidsIn } from './kill.js';
import { type Layout, parseProcCgroup } from './layout.js';
import type { Places } from './places.js';
import { CgroupDirectory } from './raw/directory.js';

/** A process that is just being made answers EINVAL. */
const TRIES = 5;
const BETWEEN_MS = 30;

/**
 * Moves a process with all its threads. Where one hierarchy refuses, it goes back to where it was in the others.
 *
 * @throws CgroupError `noSuchProcess`, `internalProcess`, `threaded`, `notDelegated`
 */
export async function moveProcess(places: Places, pid: number): Promise<void> {
  checkId(pid);
  const origin = originOf(pid, places.layout);
  const moved: CgroupDirectory[] = [];
  try {
    for (const directory of places.directories) {
      await patiently(() => directory.write('cgroup.procs', String(pid)));
      moved.push(directory);
    }
  } catch (error) {
    for (const { mount } of moved) back(origin.get(mount), mount, pid);
    throw error;
  }
}

/**
 * Moves one thread: on v1 by itself in every hierarchy of the group, on v2 into a threaded group of its process's domain.
 *
 * @throws CgroupError `threaded` where the group does not take threads
 */
export async function moveThread(places: Places, tid: number): Promise<void> {
  checkId(tid);
  for (const directory of places.directories) {
    if (directory.version === 1) await patiently(() => directory.write('tasks', String(tid)));
    // On a hybrid machine the controllers are on v1, and the v2 group of a thread is that of its process.
    else if (places.v1.length === 0 || directory.read('cgroup.type') === 'threaded') {
      await patiently(() => directory.write('cgroup.threads', String(tid)));
    }
  }
}

/**
 * Moves every process of one group into another, those that are forked meanwhile too.
 *
 * @throws CgroupError `busy` where new ones appear faster than they are moved
 */
export async function moveAll(from: Places, to: Places): Promise<void> {
  for (const source of from.directories) {
    const target = to.directories.find(({ mount }) => mount === source.mount);
    if (!target) continue;
    for (let pass = 0; ; pass++) {
      // A kernel thread, or one that another pid namespace has, stays.
      const pids = pidsIn(source).filter((pid) => pid !== 0);
      if (pids.length === 0) break;
      if (pass > 1000) {
        throw new CgroupError(E.BUSY, { syscall: 'write', path: `${target.path}/cgroup.procs`, reason: 'busy' });
      }
      for (const pid of pids) {
        try {
          await patiently(() => target.write('cgroup.procs', String(pid)));
        } catch (error) {
          if (!CgroupError.is(error, 'noSuchProcess')) throw error;
        }
      }
    }
  }
}

/** Where a process is, as directories below each mount. */
function originOf(pid: number, { root, hierarchies }: Layout): Map<string, string> {
  let text: string;
  try {
    text = readFileSync(`${root === '/' ? '' : root}/proc/${pid}/cgroup`, 'latin1');
  } catch {
    throw new CgroupError(E.SRCH, {
      syscall: 'write',
      call: `moving process ${pid}`,
      reason: 'noSuchProcess',
      hint: 'there is no process of that number in this pid namespace',
    });
  }
  const lines = parseProcCgroup(text);
  return new Map(
    hierarchies.flatMap(({ mount, version, controllers, top }): [string, string][] => {
      const line = lines.find((one) =>
        version === 2
          ? one.controllers.length === 0
          : one.controllers.some((name) => name === controllers[0] || (name === 'blkio' && controllers[0] === 'io')),
      );
      if (!line) return [];
      return [[mount, top !== '/' && line.path.startsWith(top) ? line.path.slice(top.length) : line.path]];
    }),
  );
}

function back(path: string | undefined, mount: string, pid: number): void {
  if (path === undefined) return;
  try {
    const top = CgroupDirectory.top(mount, 1, true);
    const directory = top.descend(path);
    directory?.write('cgroup.procs', String(pid));
    directory?.[Symbol.dispose]();
    top[Symbol.dispose]();
  } catch {
    // The refusal that led here says more.
  }
}

async function patiently(write: () => void): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      return write();
    } catch (error) {
      if (!CgroupError.is(error, 'EINVAL') || tries === TRIES) throw error;
      await sleep(BETWEEN_MS);
    }
  }
}

function checkId(id: number): void {
  // 0 would be the thread that writes: whichever of Node's that is.
  if (!Number.isInteger(id) || id < 1) throw invalid(`not the id of a process or thread: ${String(id)}`);
}
