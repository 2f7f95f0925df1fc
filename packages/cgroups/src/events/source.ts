import { dirname } from 'node:path';
import { attempt, Fd, FdWatcher, O, syscall, UnsupportedError } from '@iso/sys';
import type { CgroupDirectory } from '../raw/directory.js';

/** `linux/inotify.h` */
const IN = { DELETE: 0x200, ONLYDIR: 0x1000000, FLAGS: 0x80800 } as const;
const EVENTFD_FLAGS = 0x80800;

/** Something that calls back until it is closed. */
export interface Source {
  close(): void;
}

/**
 * Calls back by an eventfd that is registered in v1's `cgroup.event_control`.
 *
 * @param directory - of the group
 * @param file - `memory.oom_control`, `memory.usage_in_bytes`, `memory.pressure_level`
 * @param argument - what the file takes
 * @param happened - told how often since the last time; also once when the group is removed
 */
export function onLegacyEvent(
  directory: CgroupDirectory,
  file: string,
  argument: string,
  happened: (count: number) => void,
): Source {
  if (!directory.has('cgroup.event_control')) {
    throw new UnsupportedError('cgroup.event_control', 'this v1 hierarchy has no such file');
  }
  const event = Fd.own(syscall('eventfd2', 0, EVENTFD_FLAGS));
  try {
    const file_ = directory.openFd(file, O.RDONLY);
    try {
      const words = [event.number, file_.number, argument].filter((word) => word !== '');
      directory.write('cgroup.event_control', words.join(' '));
    } finally {
      // Registered, it is no longer needed.
      file_.close();
    }
  } catch (error) {
    event.close();
    throw error;
  }
  const count = Buffer.alloc(8);
  return watching(event, () => {
    if (attempt('read', event, count, 8) === 8) happened(Number(count.readBigUInt64LE(0)));
  });
}

/**
 * Calls back when a group below the same parent is removed: the kernel tells nothing on the group itself.
 *
 * @param directory - of the group
 * @param removed - called when one is; look whether it is this one
 */
export function onSiblingRemoved(directory: CgroupDirectory, removed: () => void): Source {
  const inotify = Fd.own(syscall('inotify_init1', IN.FLAGS));
  const result = attempt('inotify_add_watch', inotify, dirname(directory.path), IN.DELETE | IN.ONLYDIR);
  if (result < 0) {
    inotify.close();
    throw directory.failure(result, 'inotify_add_watch');
  }
  const events = Buffer.alloc(4096);
  return watching(inotify, () => {
    while (attempt('read', inotify, events, events.length) > 0);
    removed();
  });
}

function watching(fd: Fd, callback: () => void): Source {
  let watcher: FdWatcher;
  try {
    watcher = new FdWatcher(fd, 'readable', callback);
  } catch (error) {
    fd.close();
    throw error;
  }
  return {
    close: () => {
      watcher.close();
      fd.close();
    },
  };
}
