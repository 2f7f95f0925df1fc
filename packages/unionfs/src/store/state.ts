import { randomBytes } from 'node:crypto';
import { attempt, type Fd } from '@iso/sys';
import type { Driver } from '../driver/driver.js';
import { check, tryUnlink } from '../file/call.js';
import { pauses, tryLock, unlock } from '../file/lock.js';
import { explain, StoreError } from './error.js';
import { type Hold, Holds } from './hold.js';
import { mountTables } from './mounted.js';
import type { Places } from './places.js';
import type { SnapshotRecord } from './record.js';
import { type RecordList, Records } from './records.js';

/** When a commit returns: `commit`: it survives a power cut; `none`: it is up to the kernel, for stores that are thrown away. */
export type Durability = 'commit' | 'none';

const GENERATION = 8;

/**
 * The files of a store and their locks. All changes of records happen in {@link State.exclusively}, one at a time on the machine, and
 * nothing that takes long does.
 */
export class State implements Disposable {
  readonly driver: Driver & Disposable;
  readonly durability: Durability;
  readonly records: Records;
  readonly holds: Holds;
  readonly locks: Fd;
  readonly leases: Fd;
  /** File systems of layers that have a quota. */
  readonly images: Fd;
  /** Of temporary snapshots that were made here, by layer. */
  readonly kept = new Map<string, Hold>();
  /** Of layers that archives were unpacked in: directories that those did not describe, and that are not yet as they are below. */
  readonly implied = new Map<string, readonly Buffer[]>();
  readonly #lock: Fd;
  #list: RecordList | undefined;
  #generation = -1n;
  #closed = false;

  /**
   * @param places - the store's directories; become this object's
   * @param lock - its lock file; becomes this object's
   * @param driver - becomes this object's
   * @param durability - see {@link Durability}
   */
  constructor(places: Places, lock: Fd, driver: Driver & Disposable, durability: Durability) {
    this.#lock = lock;
    this.driver = driver;
    this.durability = durability;
    this.records = new Records(places.snapshots);
    this.holds = new Holds(places.holds);
    this.locks = places.locks;
    this.leases = places.leases;
    this.images = places.images;
  }

  /**
   * Runs alone of all processes. It must not wait for anything.
   *
   * @param act - told how to get all records; changes of them go through {@link State.put} and {@link State.drop}
   * @param signal - gives up waiting for the others
   * @returns what `act` does
   */
  async exclusively<T>(act: (list: () => RecordList) => T, signal?: AbortSignal): Promise<T> {
    for (const pause of pauses()) {
      signal?.throwIfAborted();
      this.#checkOpen();
      // From the lock to its end nothing else of this thread runs: it would have the lock too, which belongs to the open file.
      if (!tryLock(this.#lock)) await pause();
      else {
        try {
          this.#turnPage();
          return act(() => (this.#list ??= this.records.list()));
        } catch (error) {
          throw explain(error);
        } finally {
          if (!this.#closed) unlock(this.#lock);
        }
      }
    }
    throw new Error('unreachable');
  }

  /** The record of a name, without any lock. */
  read(name: string): SnapshotRecord {
    this.#checkOpen();
    const record = this.records.read(name);
    if (record === undefined) throw new StoreError('notFound', 'there is no such snapshot', { snapshot: name });
    if (typeof record === 'string') throw corrupt(name, record);
    if (record.preparing) throw new StoreError('locked', 'another process is making it', { snapshot: name });
    return record;
  }

  /** Writes a record; to be called in {@link State.exclusively}. */
  put(record: SnapshotRecord, durable = false): void {
    try {
      this.records.write(record, durable && this.durability !== 'none');
    } catch (error) {
      this.#list = undefined;
      throw explain(error, record.name);
    }
    this.#list?.records.set(record.name, record);
  }

  /** Removes a record; to be called in {@link State.exclusively}. */
  drop(name: string): void {
    this.records.remove(name);
    this.#list?.records.delete(name);
  }

  /** Forgets what is known of the records; after changes that went past {@link State.put} and {@link State.drop}. */
  forget(): void {
    this.#list = undefined;
  }

  /** Removes layers whose records are gone, with nobody waiting: their holds, taken for exclusive use, are closed. */
  discard(layers: readonly { id: string; hold: Hold }[]): void {
    if (layers.length === 0) return;
    // A record that a power cut brings back must not find its layer half removed.
    if (this.durability !== 'none') this.records.sync();
    let failure: unknown;
    for (const { id, hold } of layers) {
      try {
        this.driver.remove(id);
        tryUnlink(this.images.number, Buffer.from(id));
        this.holds.remove(id);
      } catch (error) {
        failure ??= error;
      } finally {
        hold.close();
        this.kept.delete(id);
        this.implied.delete(id);
      }
    }
    if (failure) throw explain(failure);
  }

  /** A hold for exclusive use, or undefined where somebody uses the layer. Our own of a temporary snapshot counts as nobody. */
  takeAway(id: string): Hold | undefined {
    const hold = this.kept.get(id) ?? this.holds.open(id) ?? this.holds.create(id);
    if (hold.lock('use', 'exclusive')) {
      if (!hold.marked || !this.isAttached(id)) return hold;
      this.giveBack(id, hold);
    } else if (!this.kept.has(id)) hold.close();
    return undefined;
  }

  /** Whether a layer is mounted in a namespace that can be seen, by whom ever. */
  isAttached(id: string): boolean {
    return mountTables().includes(id);
  }

  /** Undoes {@link State.takeAway} for a layer that stays after all. */
  giveBack(id: string, hold: Hold): void {
    if (this.kept.get(id) === hold) hold.lock('use', 'shared');
    else hold.close();
  }

  /** A new layer's id. */
  static newLayer(): string {
    return randomBytes(8).toString('hex');
  }

  get closed(): boolean {
    return this.#closed;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const hold of this.kept.values()) hold.close();
    this.kept.clear();
    this.records[Symbol.dispose]();
    this.holds[Symbol.dispose]();
    for (const fd of [this.#lock, this.locks, this.leases, this.images]) fd.close();
    this.driver[Symbol.dispose]();
  }

  #checkOpen(): void {
    if (this.#closed) throw Object.assign(new Error('the store is closed'), { code: 'ERR_INVALID_STATE' });
  }

  /** What is known stays good as long as nobody else had the lock in between. */
  #turnPage(): void {
    const page = Buffer.alloc(GENERATION);
    check(attempt('pread64', this.#lock, page, GENERATION, 0), 'pread64');
    const found = page.readBigUInt64LE(0);
    if (found !== this.#generation) this.#list = undefined;
    this.#generation = BigInt.asUintN(64, found + 1n);
    page.writeBigUInt64LE(this.#generation, 0);
    check(attempt('pwrite64', this.#lock, page, GENERATION, 0), 'pwrite64');
  }
}

/** What a record that cannot be read means to the caller. */
export function corrupt(name: string, problem: string): StoreError {
  return new StoreError('corrupt', problem, { snapshot: name, hint: 'check({ repair: true }) tells and mends' });
}
