import { MNT, moveMount, umount } from '@iso/mounts';
import { invalid } from '@iso/sys';
import { adoptDirectories } from '../diff/adopt.js';
import { type Change, changes, type WriteLayerOptions, writeLayer } from '../diff/changes.js';
import { checkArgument } from '../file/argument.js';
import { type UnpackOptions, unpackLayer } from '../layer/unpack.js';
import type { Unpacked } from '../layer/unpacker.js';
import { tarEnd } from '../tar/writer.js';
import { checkStore, type Problem } from './check.js';
import { type CombineOptions, rebase, squash } from './combine.js';
import { type CommitOptions, commit, retitle } from './commit.js';
import { copySnapshot } from './copy.js';
import { type Lease, openLease } from './lease.js';
import { lockNamed, type NamedLock, unlockNamed } from './lock.js';
import { checkName, fileName } from './name.js';
import { holdLayer, openLayer, openMount } from './open.js';
import { checkLabels, type PrepareOptions, prepare } from './prepare.js';
import type { SnapshotKind } from './record.js';
import { type Collected, collect, remove } from './remove.js';
import {
  type AttachedSnapshot,
  describeRecord,
  type OpenLayer,
  type Snapshot,
  type SnapshotMount,
} from './snapshot.js';
import type { State } from './state.js';
import { measure, type Usage } from './usage.js';

/** Which snapshots {@link Store.walk} tells of. */
export interface SnapshotFilter {
  kind?: SnapshotKind;
  /** Only those that lie directly on it. */
  parent?: string;
  /** Only those that have all of these. */
  labels?: Readonly<Record<string, string>>;
}

/**
 * Snapshots: layers with names, each on its parent, see {@link openStore}. An active one is written by one owner, then committed
 * under another name, and from then on never changes; others may lie on it. A view is a read-only look at a committed one.
 *
 * Names are any text: keys of containers, chain ids. They share one namespace. Every method may be called by many processes at once;
 * what is in use, by whom ever, is not taken away: `inUse`. Locks are the kernel's, so that those of a dead process are gone.
 *
 * All methods throw StoreError with a `reason`, KernelError, or `TypeError` (`ERR_INVALID_ARG_VALUE`) for what is no name or label.
 */
export class Store implements AsyncDisposable {
  readonly #state: State;

  /** @internal */
  constructor(state: State) {
    this.#state = state;
  }

  /** Name of its driver. */
  get driver(): string {
    return this.#state.driver.name;
  }

  /** Whether a snapshot can be prepared `late`: its layer holds nothing of what it will lie on. */
  get takesLate(): boolean {
    return this.#state.driver.adopt !== undefined;
  }

  /**
   * Makes an active snapshot: writable, empty or on a committed one.
   *
   * @param key - its name
   * @param options - parent, labels, `temporary`
   * @returns what it is
   * @throws StoreError `exists`, `locked`, `notFound` and `notCommitted` (of the parent), `noSpace`
   */
  async prepare(key: string, options: PrepareOptions = {}): Promise<Snapshot> {
    return describeRecord(await prepare(this.#state, 'active', key, options));
  }

  /**
   * Makes a view: a committed snapshot, read-only, which cannot be removed as long as the view is there.
   *
   * @param key - its name
   * @param options - as for {@link Store.prepare}
   * @returns what it is
   * @throws as {@link Store.prepare}
   */
  async view(key: string, options: PrepareOptions = {}): Promise<Snapshot> {
    return describeRecord(await prepare(this.#state, 'view', key, options));
  }

  /**
   * Makes an active snapshot a committed one. The key is free afterwards. With the durability `commit` it is on the disk when this
   * returns; a power cut before that leaves either the active one or the committed one, whole.
   *
   * @param name - of the committed one
   * @param key - of the active one
   * @param options - labels to add
   * @returns what it is
   * @throws StoreError `exists`, `notFound`, `notActive`, `inUse` (it is mounted writable), `noSpace`; nothing is changed then
   */
  async commit(name: string, key: string, options: CommitOptions = {}): Promise<Snapshot> {
    return describeRecord(await commit(this.#state, name, key, options));
  }

  /**
   * Gives an active snapshot another name; it is temporary no more.
   *
   * @param key - its name
   * @param name - its new name
   * @param options - `signal` gives up
   * @returns what it is
   * @throws StoreError `exists`, `notFound`, `notActive`, `inUse`
   */
  async rename(key: string, name: string, options: { signal?: AbortSignal } = {}): Promise<Snapshot> {
    return describeRecord(await retitle(this.#state, key, name, { kind: 'active' }, options.signal));
  }

  /**
   * Mounts a snapshot, attached nowhere: an active one writable unless `readonly`, which only one may do at a time; any other read-only.
   *
   * @param name - of the snapshot
   * @param options - `readonly`
   * @returns the mount and what holds the snapshot
   * @throws StoreError `notFound`, `inUse`, `corrupt`; KernelError of the mount
   */
  async openMount(name: string, options: { readonly?: boolean } = {}): Promise<SnapshotMount> {
    const readonly = options.readonly ?? this.#state.read(checkName(name)).kind !== 'active';
    return await openMount(this.#state, name, readonly);
  }

  /**
   * The same, attached to a directory of this process's mount namespace. It stays there when this process ends; that others know that it
   * is in use then takes somebody who keeps the `hold`.
   *
   * @param name - of the snapshot
   * @param target - a directory
   * @param options - `readonly`
   * @returns what unmounts it, and holds the snapshot
   * @throws as {@link Store.openMount}; KernelError `ENOENT`, `ENOTDIR` of the target
   */
  async mount(name: string, target: string, options: { readonly?: boolean } = {}): Promise<AttachedSnapshot> {
    const { fd, hold, readonly, close: release } = await this.openMount(name, options);
    try {
      moveMount(fd, null, target);
    } catch (error) {
      release();
      throw error;
    }
    // A descriptor would keep umount(8) from it.
    fd.close();
    const close = () => {
      if (hold.closed) return;
      try {
        umount(target, MNT.DETACH);
      } finally {
        release();
      }
    };
    return { target, hold, readonly, close, [Symbol.dispose]: close };
  }

  /**
   * The directory of an active snapshot's layer, for `unpackLayer()`; nobody else writes it meanwhile.
   *
   * @param key - of the snapshot
   * @returns the directory, and what it is to an archive
   * @throws StoreError `notFound`, `notActive`, `inUse`
   */
  async openLayer(key: string): Promise<OpenLayer> {
    return await openLayer(this.#state, checkName(key));
  }

  /**
   * Unpacks a layer's archive into an active snapshot, see `unpackLayer()`. Where that fails, the snapshot holds a part of it: remove it, or
   * try again. Several archives make one layer, one over the other. A whiteout is for what lies below the snapshot: what an archive before it
   * brought to the same snapshot, it hides only where layers are copies (vfs, btrfs, zfs, devicemapper).
   *
   * @param key - of the snapshot
   * @param source - path of a file, or bytes as they come
   * @param options - what to expect, limits, progress, signal
   * @returns digests and sizes of what was unpacked
   * @throws as {@link Store.openLayer} and `unpackLayer()`
   */
  async applyLayer(
    key: string,
    source: string | AsyncIterable<Uint8Array>,
    options: Omit<UnpackOptions, 'format' | 'base' | 'implied' | 'onImplied'> = {},
  ): Promise<Unpacked> {
    using held = await holdLayer(this.#state, checkName(key), true);
    const { directory, format, base, record, diff } = held;
    const { layer, late } = record;
    const { implied } = this.#state;
    const before = implied.get(layer);
    const unpacked = await unpackLayer(source, directory, {
      ...options,
      format,
      base,
      ...(before ? { implied: before } : {}),
      onImplied: (directories) => implied.set(layer, directories),
    });
    if (!late && diff && 'upper' in diff) {
      adoptDirectories(diff, unpacked.implied);
      implied.set(layer, []);
    }
    return unpacked;
  }

  /**
   * What a snapshot's layer changes of what is below.
   *
   * @param name - of the snapshot
   * @param options - `signal` gives up
   * @returns changes, one by one
   */
  async *changes(name: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<Change, void, undefined> {
    using layer = await holdLayer(this.#state, checkName(name), false);
    if (layer.diff) yield* changes(layer.diff, options);
  }

  /**
   * A snapshot's layer as an archive, see `writeLayer()`: the same bytes each time.
   *
   * @param name - of the snapshot
   * @param options - ids, epoch
   * @returns the archive's bytes, as they are asked for
   */
  async *writeLayer(name: string, options: WriteLayerOptions = {}): AsyncGenerator<Buffer, void, undefined> {
    using layer = await holdLayer(this.#state, checkName(name), false);
    if (layer.diff) yield* writeLayer(layer.diff, options);
    else yield tarEnd();
  }

  /**
   * What a snapshot is.
   *
   * @param name - of the snapshot
   * @returns what it is
   * @throws StoreError `notFound`, `locked` (it is being made), `corrupt`
   */
  async stat(name: string): Promise<Snapshot> {
    return describeRecord(this.#state.read(checkName(name)));
  }

  /**
   * Whether there is a snapshot of a name.
   *
   * @param name - of the snapshot
   * @returns whether there is; one that is being made is not there yet
   */
  async has(name: string): Promise<boolean> {
    const record = this.#state.records.read(checkName(name));
    return typeof record === 'object' && !record.preparing;
  }

  /**
   * All snapshots, by name; those that come or go meanwhile may be told or not.
   *
   * @param filter - which
   * @returns snapshots
   */
  async *walk(filter: SnapshotFilter = {}): AsyncGenerator<Snapshot, void, undefined> {
    for (const record of this.#state.records.list().records.values()) {
      if (record.preparing) continue;
      if (filter.kind !== undefined && record.kind !== filter.kind) continue;
      if (filter.parent !== undefined && record.parent !== filter.parent) continue;
      if (Object.entries(filter.labels ?? {}).some(([key, value]) => record.labels[key] !== value)) continue;
      yield describeRecord(record);
    }
  }

  /**
   * Changes labels.
   *
   * @param name - of the snapshot
   * @param change - `labels` to set; those that are undefined go
   * @returns what it is now
   * @throws StoreError `notFound`, `noSpace`
   */
  async update(
    name: string,
    change: { labels: Readonly<Record<string, string | undefined>> },
    options: { signal?: AbortSignal } = {},
  ): Promise<Snapshot> {
    checkLabels(change.labels);
    checkName(name);
    return await this.#state.exclusively(() => {
      const record = this.#state.read(name);
      const labels: Record<string, string> = {};
      for (const [key, value] of Object.entries({ ...record.labels, ...change.labels })) {
        if (value !== undefined) labels[key] = value;
      }
      const updated = { ...record, labels, updated: new Date().toISOString() };
      this.#state.put(updated, true);
      return describeRecord(updated);
    }, options.signal);
  }

  /**
   * What a snapshot's layer takes on the disk, without what lies below. It is counted each time.
   *
   * @param name - of the snapshot
   * @returns bytes, inodes, and the bytes that no other layer shares
   * @throws StoreError `notFound`
   */
  async usage(name: string): Promise<Usage> {
    using layer = await holdLayer(this.#state, checkName(name), false);
    if (!layer.diff) return { bytes: 0, inodes: 0, exclusive: 0 };
    return measure(layer.directory, layer.format === 'plain');
  }

  /**
   * Copies a snapshot, and what lies below, to another store, of any driver; what is there already by its name is not copied again.
   *
   * @param name - of a committed or an active snapshot
   * @param target - the other store
   * @param options - `signal` gives up
   * @returns names that were copied, the lowest first
   * @throws StoreError as `prepare()` and `commit()` of the other store; what was copied whole until then stays
   */
  async copy(name: string, target: Store, options: { signal?: AbortSignal } = {}): Promise<string[]> {
    return await copySnapshot(this, target, checkName(name), options.signal);
  }

  /**
   * Makes one layer of several: a committed snapshot on `base` that shows the same as `top`.
   *
   * @param name - of the new snapshot
   * @param top - the snapshot whose layers are put together
   * @param options - `base`: the snapshot that they end above, and that the new one lies on; none takes all of them
   * @returns what was made
   * @throws StoreError `exists`, `notFound` (`top` does not lie on `base`), `noSpace`
   */
  async squash(name: string, top: string, options: CombineOptions & { base?: string } = {}): Promise<Snapshot> {
    const { base, ...rest } = options;
    for (const each of [name, top, ...(base === undefined ? [] : [base])]) checkName(each);
    return await squash(this, name, top, base, rest);
  }

  /**
   * Puts the layers of a snapshot on another one, each by itself: what they change is changed there. Also merges two: the layers of
   * the one on top of the other.
   *
   * @param name - of the uppermost of the new snapshots; those below are called `NAME 1 of 3` …
   * @param top - the snapshot whose layers are taken
   * @param options - `from`: the snapshot that they end above, none takes all; `onto`: the one that they are put on
   * @returns the uppermost
   * @throws StoreError `exists`, `notFound` (`top` does not lie on `from`), `notCommitted`, `noSpace`; what was made until then stays,
   * for `gc()`
   */
  async rebase(
    name: string,
    top: string,
    options: CombineOptions & { from?: string; onto?: string } = {},
  ): Promise<Snapshot> {
    const { from, onto, ...rest } = options;
    for (const each of [name, top, ...[from, onto].filter((it) => it !== undefined)]) checkName(each);
    return await rebase(this, name, top, { from, onto }, rest);
  }

  /**
   * Looks whether all is in order: each record readable, each layer there, each parent the one that it was, nothing left over.
   *
   * @param options - `repair` mends what it can, and removes what cannot be mended
   * @returns problems; none for a store in order
   */
  async check(options: { repair?: boolean; signal?: AbortSignal } = {}): Promise<Problem[]> {
    return await checkStore(this.#state, options);
  }

  /**
   * Removes a snapshot, and its layer with it.
   *
   * @param name - of the snapshot
   * @param options - `recursive`: with all that lie on it, or nothing
   * @returns names that are gone
   * @throws StoreError `notFound`, `hasChildren`, `inUse`
   */
  async remove(name: string, options: { recursive?: boolean; signal?: AbortSignal } = {}): Promise<string[]> {
    return await remove(this.#state, name, options);
  }

  /**
   * Removes what processes that ended have left: snapshots that they were making, temporary ones, layers that no snapshot has, leases.
   *
   * @param options - `dryRun` only tells
   * @returns what is gone, or would be
   */
  async cleanup(options: { dryRun?: boolean; signal?: AbortSignal } = {}): Promise<Collected> {
    return await collect(this.#state, undefined, options);
  }

  /**
   * Removes what nobody needs: committed snapshots below no root, no active snapshot or view, and no lease; and what
   * {@link Store.cleanup} does.
   *
   * @param options - `roots`: names to keep with all below them; `dryRun` only tells
   * @returns what is gone, or would be
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where `roots` is a single string, which is a list of its letters
   */
  async gc(options: { roots: Iterable<string>; dryRun?: boolean; signal?: AbortSignal }): Promise<Collected> {
    checkArgument('the argument of gc()', options, 'options: { … }');
    const { roots, ...rest } = options;
    if (typeof roots !== 'object' || roots === null)
      throw invalid(`roots is ${JSON.stringify(roots)}: not a list of names`);
    const names = new Set(roots);
    names.forEach(checkName);
    return await collect(this.#state, names, rest);
  }

  /**
   * Keeps names from `gc()`, for as long as the lease is open and this process lives. Take it before you ask whether a snapshot is there.
   *
   * @param names - of snapshots that are there, or that are to come
   * @returns the lease; dispose it
   */
  async lease(...names: string[]): Promise<Lease> {
    names.forEach(checkName);
    return await openLease(this.#state, names);
  }

  /**
   * A lock that all users of the store know by its name: two who are about to unpack the same layer, say. It means nothing to the store.
   *
   * @param name - any text
   * @param options - `signal` gives up
   * @returns the lock; dispose it
   */
  async lock(name: string, options: { signal?: AbortSignal } = {}): Promise<NamedLock> {
    const file = fileName(name);
    const directory = this.#state.locks;
    const fd = await lockNamed(directory, file, options);
    const close = () => (directory.closed ? fd.close() : unlockNamed(directory, file, fd));
    return { name, close, [Symbol.dispose]: close };
  }

  /** Closes it. Temporary snapshots that were made through it are given up; mounts that are open stay. */
  close(): void {
    this.#state[Symbol.dispose]();
  }

  /** The same as {@link Store.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }
}
