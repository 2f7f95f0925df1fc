import { Fd, FdWatcher } from '@iso/sys';
import type { Mount } from './mountinfo.js';
import { mountTable } from './table.js';

/** What came, went and changed in a mount table. */
export interface MountTableChange {
  /** Mounts that are there now and were not before. */
  added: Mount[];
  /** Mounts that are gone. */
  removed: Mount[];
  /** Mounts that were moved or have other attributes, as they are now. */
  changed: Mount[];
  /** The whole table now. */
  table: Mount[];
}

/**
 * Watches the mount table of this process's mount namespace, or of another process's. The kernel tells of each mount, unmount
 * and move, and of changed attributes, not of propagation; those that come faster than they are taken are told of as one.
 *
 * @param options - `pid`: another process; `signal` ends it
 * @returns changes, for as long as they are asked for
 * @throws the signal's reason; Node's `ENOENT`, `EACCES` as {@link mountTable}
 *
 * @example
 * ```ts
 * import { watchMounts } from '@iso/mounts';
 * const gone = AbortSignal.timeout(10);
 * try {
 *   for await (const { added } of watchMounts({ signal: gone })) console.log(added);
 * } catch (reason) {
 *   if (!gone.aborted) throw reason;
 * }
 * ```
 */
export async function* watchMounts(
  options: { pid?: number; signal?: AbortSignal } = {},
): AsyncGenerator<MountTableChange, void, void> {
  const { pid, signal } = options;
  signal?.throwIfAborted();
  using file = Fd.open(`/proc/${pid ?? 'self'}/mountinfo`);
  let dirty = false;
  let wake = () => {};
  const look = () => {
    dirty = true;
    wake();
  };
  using _watcher = new FdWatcher(file, 'priority', look);
  // To poll a mountinfo file takes its event away, and the event loop polls once more than it tells of when it takes the file on,
  // on its next turn: what happened until then is looked for.
  setImmediate(() => setImmediate(look));
  const abort = () => wake();
  signal?.addEventListener('abort', abort);
  const select = pid === undefined ? {} : { pid };
  try {
    let before = mountTable(select);
    for (;;) {
      while (!dirty) {
        signal?.throwIfAborted();
        await new Promise<void>((resolve) => (wake = resolve));
      }
      signal?.throwIfAborted();
      dirty = false;
      const table = mountTable(select);
      const change = compare(before, table);
      before = table;
      if (change.added.length + change.removed.length + change.changed.length > 0) yield change;
    }
  } finally {
    signal?.removeEventListener('abort', abort);
  }
}

function compare(before: readonly Mount[], table: Mount[]): MountTableChange {
  const key = (mount: Mount) => mount.uniqueId ?? BigInt(mount.id);
  const text = (mount: Mount) => JSON.stringify({ ...mount, uniqueId: undefined });
  const old = new Map(before.map((mount) => [key(mount), mount]));
  const now = new Set(table.map(key));
  return {
    added: table.filter((mount) => !old.has(key(mount))),
    removed: before.filter((mount) => !now.has(key(mount))),
    changed: table.filter((mount) => {
      const was = old.get(key(mount));
      return was !== undefined && text(was) !== text(mount);
    }),
    table,
  };
}
