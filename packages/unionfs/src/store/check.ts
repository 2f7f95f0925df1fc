import { Fd, KernelError } from '@iso/sys';
import { tryStat } from '../file/stat.js';
import type { Hold } from './hold.js';
import { fileName } from './name.js';
import type { SnapshotRecord } from './record.js';
import type { RecordList } from './records.js';
import type { State } from './state.js';

/**
 * Something that is not as it should be, and what `repair` does about it:
 *
 * - `record`: a record that cannot be read; mended from the records of those that lie on it, else removed
 * - `unfinished`: a commit that was cut off before its last step; it is ended
 * - `abandoned`: a snapshot that was being made, or a temporary one, by a process that ended; removed
 * - `layer`: the layer of a snapshot is not on the disk; the snapshot and all that lie on it are removed
 * - `parent`: the snapshot below is gone, or is another one; mended, or removed with all that lie on it
 * - `shared`: two snapshots have one layer; the one that is not committed is removed, or the later one
 * - `dangling`: a layer that no snapshot has; removed
 */
export type ProblemKind = 'record' | 'unfinished' | 'abandoned' | 'layer' | 'parent' | 'shared' | 'dangling';

/** What `check()` found. */
export interface Problem {
  kind: ProblemKind;
  /** The snapshot, or the file of its record, or the layer. */
  about: string;
  /** What is wrong, and what was done, or would be `with repair`. */
  message: string;
  repaired: boolean;
}

/**
 * Compares the records with each other and with the disk.
 *
 * @param state - the store
 * @param options - `repair` mends
 * @returns what was found; nothing for a store in order
 */
export async function checkStore(
  state: State,
  options: { repair?: boolean; signal?: AbortSignal },
): Promise<Problem[]> {
  const { repair = false, signal } = options;
  const layers: { id: string; hold: Hold }[] = [];
  const problems = await state.exclusively((list) => {
    // What is on the disk counts, not what is known of it.
    state.forget();
    return new Check(state, list(), repair, layers).run();
  }, signal);
  state.discard(layers);
  return problems;
}

class Check {
  readonly #state: State;
  readonly #list: RecordList;
  readonly #repair: boolean;
  readonly #layers: { id: string; hold: Hold }[];
  readonly #problems: Problem[] = [];
  readonly #removed = new Set<string>();
  /** Layers that are told of already. */
  readonly #going = new Set<string>();

  constructor(state: State, list: RecordList, repair: boolean, layers: { id: string; hold: Hold }[]) {
    this.#state = state;
    // Its own: what is mended here is not what is on the disk yet.
    this.#list = { ...list, records: new Map(list.records) };
    this.#repair = repair;
    this.#layers = layers;
  }

  run(): Problem[] {
    this.#unfinished();
    this.#broken();
    this.#parents();
    this.#shared();
    this.#missing();
    this.#left();
    if (this.#repair) {
      this.#state.records.clean();
      for (const name of this.#removed) this.#state.records.remove(name);
      this.#state.forget();
    }
    return this.#problems;
  }

  /** What is wrong, and what is done about it where that was asked for. */
  #tell(kind: ProblemKind, about: string, wrong: string, done: string): void {
    const message = `${wrong}; ${this.#repair ? '' : 'with repair: '}${done}`;
    this.#problems.push({ kind, about, message, repaired: this.#repair });
  }

  #records(): SnapshotRecord[] {
    return [...this.#list.records.values()].filter(({ name }) => !this.#removed.has(name));
  }

  #unfinished(): void {
    for (const [file, record] of this.#list.unfinished) {
      this.#tell('unfinished', record.name, 'its commit was cut off before the last step', 'ended');
      const taken = this.#list.records.has(record.name);
      if (!taken) this.#list.records.set(record.name, record);
      if (!this.#repair) continue;
      if (taken) this.#state.records.removeFile(file);
      else this.#state.records.rename(file, record.name);
    }
  }

  #broken(): void {
    for (const { file, problem } of this.#list.broken) {
      const above = this.#records().find((record) => record.parent !== null && fileName(record.parent) === file);
      const found = above && this.#restored(above);
      const done = found ? 'mended from what lies on it, without its labels' : 'removed';
      this.#tell('record', found?.name ?? file, problem, done);
      if (found) this.#restore(found);
      else if (this.#repair) this.#state.records.removeFile(file);
    }
  }

  /** What the record below one must have said. */
  #restored({ parent, below, created }: SnapshotRecord): SnapshotRecord | undefined {
    const [layer, ...rest] = below;
    if (parent === null || layer === undefined || !this.#onDisk(layer)) return undefined;
    const grandparent = rest.length ? this.#records().find((it) => it.layer === rest[0])?.name : null;
    if (grandparent === undefined) return undefined;
    const now = new Date().toISOString();
    return {
      version: 1,
      name: parent,
      kind: 'committed',
      layer,
      parent: grandparent,
      below: rest,
      labels: {},
      created,
      updated: now,
    };
  }

  #restore(record: SnapshotRecord): void {
    this.#list.records.set(record.name, record);
    if (this.#repair) this.#state.put(record, true);
  }

  #parents(): void {
    for (const record of this.#records().sort((a, b) => a.below.length - b.below.length)) {
      if (record.parent === null || this.#removed.has(record.name)) continue;
      const parent = this.#list.records.get(record.parent);
      const expected = parent && [parent.layer, ...parent.below];
      if (expected && parent.kind === 'committed' && expected.join() === record.below.join()) continue;
      const restored = parent ? undefined : this.#restored(record);
      if (restored) {
        this.#tell('parent', record.name, `the record of ${JSON.stringify(record.parent)} is gone`, 'mended');
        this.#restore(restored);
      } else {
        this.#tell(
          'parent',
          record.name,
          `what it lies on is not ${JSON.stringify(record.parent)} any more`,
          'removed',
        );
        this.#drop(record);
      }
    }
  }

  #shared(): void {
    const owners = new Map<string, SnapshotRecord>();
    for (const record of this.#records()) {
      const other = owners.get(record.layer);
      if (!other) owners.set(record.layer, record);
      else {
        const committed = record.kind === 'committed' && other.kind !== 'committed';
        const [keep, loose] = committed ? [record, other] : [other, record];
        this.#tell('shared', loose.name, `it has the layer of ${JSON.stringify(keep.name)}`, 'removed');
        owners.set(record.layer, keep);
        this.#drop(loose, false);
      }
    }
  }

  #missing(): void {
    for (const record of this.#records()) {
      if (record.preparing || (record.kind === 'view' && record.below.length) || this.#removed.has(record.name))
        continue;
      if (record.quota ? this.#hasImage(record.layer) : this.#onDisk(record.layer)) continue;
      this.#tell('layer', record.name, 'its layer is not on the disk', 'removed with all that lie on it');
      this.#drop(record);
    }
  }

  #left(): void {
    for (const record of this.#records()) {
      if (!record.preparing && !record.temporary) continue;
      if (!this.#takeAway(record.layer)) continue;
      this.#tell('abandoned', record.name, 'who was making it has ended', 'removed');
      this.#removed.add(record.name);
    }
    const known = new Set(this.#records().map(({ layer }) => layer));
    for (const id of this.#state.holds.list()) {
      if (known.has(id) || this.#going.has(id)) continue;
      if (this.#takeAway(id)) this.#tell('dangling', id, 'no snapshot has this layer', 'removed');
    }
  }

  /** Removes a record, and those of all that lie on it: what they show is not there. */
  #drop(record: SnapshotRecord, withLayer = true): void {
    const going = [record];
    for (let i = 0; i < going.length; i++) {
      const { name } = going[i] as SnapshotRecord;
      this.#removed.add(name);
      going.push(...this.#records().filter((it) => it.parent === name));
    }
    for (const { name, layer } of withLayer ? going : going.slice(1)) {
      if (name !== record.name) this.#tell('parent', name, `it lies on ${JSON.stringify(record.name)}`, 'removed');
      this.#takeAway(layer);
    }
  }

  #takeAway(id: string): boolean {
    if (this.#state.kept.has(id)) return false;
    const hold = this.#state.takeAway(id);
    if (!hold) return false;
    this.#going.add(id);
    if (this.#repair) this.#layers.push({ id, hold });
    else hold.close();
    return true;
  }

  #hasImage(layer: string): boolean {
    return typeof tryStat(this.#state.images.number, Buffer.from(layer)) !== 'number';
  }

  #onDisk(layer: string): boolean {
    try {
      Fd.open(this.#state.driver.directory(layer), { directory: true }).close();
      return true;
    } catch (error) {
      if (KernelError.is(error, 'ENOENT', 'ENOTDIR')) return false;
      throw error;
    } finally {
      this.#state.driver.release?.(layer);
    }
  }
}
