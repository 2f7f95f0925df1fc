import { Fd, invalid, retryOnInterrupt } from '@iso/sys';
import { ROOT } from '../diff/adopt.js';
import { writeLayer } from '../diff/changes.js';
import { tryUnlink } from '../file/call.js';
import { unpack } from '../layer/unpacker.js';
import { explain, StoreError } from './error.js';
import { openImage } from './image.js';
import { checkName, fileName } from './name.js';
import { use } from './open.js';
import { checkLabels, parentOf } from './prepare.js';
import type { SnapshotRecord } from './record.js';
import type { Staged } from './records.js';
import { corrupt, type State } from './state.js';

/** How a snapshot is committed. */
export interface CommitOptions {
  /** Labels to add to those that it has. */
  labels?: Readonly<Record<string, string>>;
  /** The committed snapshot that it lies on from now on; only for one that was prepared `late`. */
  parent?: string;
  signal?: AbortSignal;
}

/** Makes an active snapshot a committed one of another name. What it holds is on the disk before anything says so. */
export async function commit(state: State, name: string, key: string, options: CommitOptions): Promise<SnapshotRecord> {
  const { labels = {}, parent, signal } = options;
  checkLabels(labels);
  if (parent !== undefined) checkName(parent);
  return await retitle(state, key, name, { kind: 'committed', labels, parent }, signal);
}

/** What becomes of an active snapshot. */
interface Retitled {
  /** Its new kind; what is committed is temporary no more. */
  kind: 'active' | 'committed';
  /** To add. */
  labels?: Readonly<Record<string, string>>;
  /** Of one that was prepared `late`. */
  parent?: string | undefined;
}

/**
 * Gives an active snapshot another name, and maybe another kind. Its record changes by two renames of one file, so that its layer
 * has one record at every moment; a cut between them is rolled forward.
 *
 * @param state - the store
 * @param key - its name
 * @param name - its new name
 * @param to - what it becomes
 * @param signal - gives up
 * @returns its new record
 */
export async function retitle(
  state: State,
  key: string,
  name: string,
  { kind, labels = {}, parent }: Retitled,
  signal: AbortSignal | undefined,
): Promise<SnapshotRecord> {
  checkName(name);
  checkName(key);
  const { record, hold } = use(state, key, true);
  const updated = new Date().toISOString();
  const become = ({ temporary: _, late: __, quota, ...from }: SnapshotRecord): SnapshotRecord => {
    const kept = quota && kind === 'active' ? { quota } : {};
    return {
      ...from,
      ...kept,
      ...lateParent(state, from, parent),
      name,
      kind,
      labels: { ...from.labels, ...labels },
      updated,
    };
  };
  const durable = kind === 'committed' && state.durability !== 'none';
  let staged: Staged | undefined;
  try {
    if (name !== key) checkFree(state, name);
    if ((parent !== undefined) !== (record.late === true))
      throw invalid('a parent is told when a snapshot is prepared, or if it was prepared late when it is committed');
    const planned = become(record);
    // Without an archive nothing was said of the root. Of others than late ones it may be that somebody unpacked in their directory.
    const implied = record.late ? (state.implied.get(record.layer) ?? [ROOT]) : [];
    if (!record.quota) state.driver.adopt?.(record.layer, planned.below, implied);
    const moved = kind === 'committed' && record.quota !== undefined;
    if (moved) await moveIn(state, record);
    if (durable) syncLayer(state, record.layer);
    staged = state.records.stage(planned, durable);
    const done = await state.exclusively(() => {
      if (name !== key) checkFree(state, name);
      const now = state.read(key);
      const final = become(now);
      if (JSON.stringify(final) !== JSON.stringify(planned)) {
        // Its labels changed meanwhile: the layer cannot, it is ours.
        state.records.discard(staged as Staged);
        staged = state.records.stage(final, durable);
      }
      state.forget();
      state.records.place(staged as Staged, key);
      try {
        state.records.rename(fileName(key), name);
      } catch (error) {
        // Where that fails as well, the commit is ended by whoever comes next.
        state.records.write(now);
        throw error;
      }
      return final;
    }, signal);
    if (durable) state.records.sync();
    if (moved) tryUnlink(state.images.number, Buffer.from(record.layer));
    state.kept.get(record.layer)?.close();
    state.kept.delete(record.layer);
    if (kind === 'committed') state.implied.delete(record.layer);
    return done;
  } catch (error) {
    throw explain(error, key);
  } finally {
    if (staged) state.records.discard(staged);
    hold.close();
  }
}

/** What a snapshot that was prepared late lies on. */
function lateParent(
  state: State,
  record: Pick<SnapshotRecord, 'parent' | 'below'>,
  parent: string | undefined,
): Pick<SnapshotRecord, 'parent' | 'below'> {
  if (parent === undefined) return { parent: record.parent, below: record.below };
  const { name, layer, below } = parentOf(state, parent);
  return { parent: name, below: [layer, ...below] };
}

/** Copies what a layer with a quota holds to where the driver keeps layers: others can lie on it there. */
async function moveIn(state: State, record: SnapshotRecord): Promise<void> {
  const { driver } = state;
  // What an attempt that was cut off has left.
  driver.remove(record.layer);
  driver.create(record.layer, record.below);
  try {
    using image = await openImage(state, record);
    using directory = Fd.open(driver.directory(record.layer), { directory: true });
    const archive = async function* () {
      yield* writeLayer(image.diff);
    };
    const settings = { format: driver.format, base: record.below.length === 0 };
    await unpack(archive(), directory.number, settings, { progress() {}, warning() {}, check() {} });
  } catch (error) {
    driver.release?.(record.layer);
    driver.remove(record.layer);
    throw error;
  }
}

function checkFree(state: State, name: string): void {
  const there = state.records.read(name);
  if (typeof there === 'string') throw corrupt(name, there);
  if (there) throw new StoreError('exists', 'there is a snapshot of that name', { snapshot: name });
}

/** Everything of the file system that the layer lies on: cheaper than each of its files. */
function syncLayer(state: State, layer: string): void {
  try {
    using directory = Fd.open(state.driver.directory(layer), { directory: true });
    retryOnInterrupt('syncfs', directory);
  } finally {
    state.driver.release?.(layer);
  }
}
