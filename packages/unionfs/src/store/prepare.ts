import { invalid } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import { explain, StoreError } from './error.js';
import type { Hold } from './hold.js';
import { createImage, requireImages } from './image.js';
import { checkName, fileName } from './name.js';
import { isQuota, type Quota, type SnapshotRecord } from './record.js';
import { corrupt, State } from './state.js';

/** What a new snapshot is. */
export interface PrepareOptions {
  /** A committed snapshot that it lies on; none for an empty one. */
  parent?: string;
  /** Texts by name, which mean nothing to the store. */
  labels?: Readonly<Record<string, string>>;
  /**
   * It belongs to this process: `cleanup()` and `gc()` of any other remove it once this one has ended, or closed the store, unless it
   * was committed. For what is being unpacked or built.
   */
  temporary?: boolean;
  /**
   * What it lies on is told when it is committed: several layers of an image are unpacked side by side so. Only `temporary`, without
   * `parent` and `quota`, and with a driver of which {@link Store.takesLate} is true.
   */
  late?: boolean;
  /**
   * Limits what is written to it, on any file system and with any driver whose layers the kernel's overlay can show (overlay2, vfs,
   * btrfs): the layer becomes an ext4 image of its own, so that statfs(2) inside tells the limit. Needs mkfs.ext4 and loop devices.
   */
  quota?: Quota;
  /** Gives up waiting. */
  signal?: AbortSignal;
}

/**
 * Makes a snapshot. First its name is taken, so that the parent cannot go and no other takes it; then its layer is made, with
 * nobody waiting; then it is there. What a process that died left of the first steps is nobody's, and taken over.
 */
export async function prepare(
  state: State,
  kind: 'active' | 'view',
  name: string,
  options: PrepareOptions,
): Promise<SnapshotRecord> {
  checkArgument('the second argument', options, 'options: { … }');
  const { parent, labels = {}, temporary, late, quota, signal } = options;
  checkName(name);
  if (parent !== undefined) checkName(parent);
  checkLabels(labels);
  if (quota !== undefined && !isQuota(quota))
    throw invalid(`not a quota of a mebibyte or more: ${JSON.stringify(quota)}`);
  if (late && (!temporary || parent !== undefined || quota))
    throw invalid('a snapshot whose parent comes late is temporary, and has no parent and no quota yet');
  if (late && !state.driver.adopt)
    throw new StoreError('unsupported', `layers of ${state.driver.name} are copies of what they lie on`, {
      snapshot: name,
    });
  if (quota) requireImages(state, kind, name);
  const stale: { id: string; hold: Hold }[] = [];
  const { record, hold } = await state.exclusively(() => {
    clear(state, name, stale);
    const below = parent === undefined ? undefined : parentOf(state, parent);
    const layer = State.newLayer();
    const now = new Date().toISOString();
    const made: SnapshotRecord = {
      version: 1,
      name,
      kind,
      layer,
      parent: below?.name ?? null,
      below: below ? [below.layer, ...below.below] : [],
      labels: { ...labels },
      created: now,
      updated: now,
      preparing: true,
      ...(temporary ? { temporary } : {}),
      ...(late ? { late } : {}),
      ...(quota ? { quota } : {}),
    };
    const taken = claim(state, layer, name);
    try {
      state.put(made);
    } catch (error) {
      state.holds.remove(layer);
      taken.close();
      throw error;
    }
    return { record: made, hold: taken };
  }, signal);
  try {
    state.discard(stale);
    // A view shows the layer of its parent.
    if (quota) createImage(state, record, quota);
    else if (kind === 'active' || record.below.length === 0) state.driver.create(record.layer, record.below);
    const { preparing: _, ...ready } = record;
    await state.exclusively(() => state.put(ready));
    if (temporary) {
      hold.lock('use', 'shared');
      state.kept.set(record.layer, hold);
    } else hold.close();
    return ready;
  } catch (error) {
    await state.exclusively(() => state.drop(name));
    state.discard([{ id: record.layer, hold }]);
    throw explain(error, name);
  }
}

/** Makes room for a name: what nobody finished is thrown away, anything else stays. */
function clear(state: State, name: string, stale: { id: string; hold: Hold }[]): void {
  const old = state.records.read(name);
  if (typeof old === 'string') throw corrupt(name, old);
  if (old === undefined) return finish(state, name);
  const dead = old.preparing || old.temporary ? state.takeAway(old.layer) : undefined;
  if (dead && state.kept.get(old.layer) !== dead) {
    state.drop(name);
    stale.push({ id: old.layer, hold: dead });
    return;
  }
  if (dead) state.giveBack(old.layer, dead);
  if (old.preparing) throw new StoreError('locked', 'another process is making it', { snapshot: name });
  throw new StoreError('exists', 'there is a snapshot of that name', { snapshot: name });
}

/** The file may hold a record whose commit was cut off before its last step: that comes now. */
function finish(state: State, name: string): void {
  const record = state.records.unfinished(name);
  if (!record) return;
  // Where the new name was given again in the meantime, the layer is nobody's: cleanup() takes it.
  if (!state.records.rename(fileName(name), record.name)) state.records.remove(name);
  state.forget();
}

/**
 * A snapshot that others can lie on.
 *
 * @param state - the store
 * @param name - of the snapshot
 * @returns its record
 * @throws StoreError `notFound`, `notCommitted`
 */
export function parentOf(state: State, name: string): SnapshotRecord {
  const record = state.read(name);
  if (record.kind !== 'committed') {
    const message = `its parent ${JSON.stringify(name)} is ${record.kind}, not committed`;
    throw new StoreError('notCommitted', message, { snapshot: name });
  }
  return record;
}

function claim(state: State, layer: string, name: string): Hold {
  let hold: Hold | undefined;
  try {
    hold = state.holds.create(layer);
    hold.lock('use', 'exclusive');
    return hold;
  } catch (error) {
    hold?.close();
    throw explain(error, name);
  }
}

/** Refuses what is no text. */
export function checkLabels(labels: Readonly<Record<string, string | undefined>>): void {
  checkArgument('labels', labels, 'options: { … }');
  for (const [key, value] of Object.entries(labels)) {
    if (value === undefined) continue;
    if (
      typeof value !== 'string' ||
      !value.isWellFormed() ||
      !key.isWellFormed() ||
      key.length + value.length > 65536
    ) {
      throw invalid(`not a label: ${JSON.stringify(key)}`);
    }
  }
}
