import { attempt, Fd, O } from '@iso/sys';
import { check, open, tryOpen, tryUnlink, writeAll } from '../file/call.js';
import { readDirectory } from '../file/directory.js';
import { tryLock } from '../file/lock.js';
import { explain } from './error.js';
import { checkName } from './name.js';
import { State } from './state.js';

/** Names that no `gc()` takes, as long as this is open and its process lives. See {@link Store.lease}. */
export interface Lease extends Disposable {
  /**
   * Adds names, of snapshots that are there or that are to come. From then on none of them goes: ask whether one is there after this.
   *
   * @param names - of snapshots
   * @throws StoreError `noSpace`
   */
  add(...names: string[]): Promise<void>;
  /** Gives all of them free; again does nothing. */
  close(): void;
}

/** Makes a lease: a file with names, locked by its owner. */
export async function openLease(state: State, names: readonly string[]): Promise<Lease> {
  const file = Buffer.from(State.newLayer());
  const directory = state.leases;
  const fd = await state.exclusively(() => {
    const made = Fd.own(open(directory.number, file, O.RDWR | O.CREAT | O.EXCL | O.APPEND, 0o600));
    tryLock(made);
    return made;
  });
  let size = 0;
  const lease: Lease = {
    async add(...more) {
      more.forEach(checkName);
      const lines = Buffer.from(more.map((name) => `${JSON.stringify(name)}\n`).join(''));
      await state.exclusively(() => {
        try {
          writeAll(fd.number, lines, file);
          size += lines.length;
        } catch (error) {
          attempt('ftruncate', fd, size);
          throw explain(error);
        }
      });
    },
    close() {
      if (fd.closed) return;
      if (!directory.closed) tryUnlink(directory.number, file);
      fd.close();
    },
    [Symbol.dispose]: () => lease.close(),
  };
  try {
    if (names.length) await lease.add(...names);
  } catch (error) {
    lease.close();
    throw error;
  }
  return lease;
}

/**
 * Names that living processes keep. To be called alone.
 *
 * @param directory - of the leases
 * @param dryRun - leaves those of processes that are gone, which else are removed
 */
export function leasedNames(directory: Fd, dryRun: boolean): string[] {
  attempt('lseek', directory, 0, 0);
  const names: string[] = [];
  for (const { name } of readDirectory(directory.number)) {
    const opened = tryOpen(directory.number, name, O.RDWR);
    if (opened < 0) continue;
    using fd = Fd.own(opened);
    // Whoever can lock it is not the owner, who is gone then.
    if (!tryLock(fd)) names.push(...readNames(fd));
    else if (!dryRun) tryUnlink(directory.number, name);
  }
  return names;
}

function readNames(fd: Fd): string[] {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const chunk = Buffer.alloc(65536);
    const length = check(attempt('pread64', fd, chunk, chunk.length, at), 'pread64');
    if (length === 0) break;
    parts.push(chunk.subarray(0, length));
    at += length;
  }
  const lines = Buffer.concat(parts).toString().split('\n').slice(0, -1);
  return lines.map((line) => JSON.parse(line) as string);
}
