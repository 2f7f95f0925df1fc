import { StoreError } from './error.js';
import type { Hold } from './hold.js';
import { leasedNames } from './lease.js';
import { checkName } from './name.js';
import type { SnapshotRecord } from './record.js';
import type { RecordList } from './records.js';
import type { State } from './state.js';

/**
 * Removes snapshots: their records go at once, and together; then their layers, with nobody waiting.
 *
 * @param state - the store
 * @param name - of the snapshot
 * @param options - `recursive`: those that lie on it too
 * @returns names that are gone
 */
export async function remove(
  state: State,
  name: string,
  options: { recursive?: boolean; signal?: AbortSignal },
): Promise<string[]> {
  checkName(name);
  const { gone, layers } = await state.exclusively((list) => {
    const record = state.read(name);
    const all = list();
    const above = childrenOf(all);
    if (!options.recursive && above.has(name)) {
      const hint = 'remove those first, or use recursive';
      const message = `${above.get(name)?.length} lie on it`;
      throw new StoreError('hasChildren', message, { snapshot: name, hint });
    }
    return unlink(state, leavesFirst(record, above));
  }, options.signal);
  state.discard(layers);
  return gone;
}

/** Takes records away, all of them or none. To be called alone. */
function unlink(
  state: State,
  records: readonly SnapshotRecord[],
): { gone: string[]; layers: { id: string; hold: Hold }[] } {
  const layers: { id: string; hold: Hold }[] = [];
  for (const { name, layer } of records) {
    const hold = state.takeAway(layer);
    if (!hold) {
      for (const { id, hold } of layers) state.giveBack(id, hold);
      const hint = 'unmount it, or end whoever holds it';
      throw new StoreError('inUse', 'it is in use', { snapshot: name, hint });
    }
    layers.push({ id: layer, hold });
  }
  for (const { name } of records) state.drop(name);
  return { gone: records.map(({ name }) => name), layers };
}

/** Which snapshots lie on which. */
function childrenOf({ records }: RecordList): Map<string, SnapshotRecord[]> {
  const above = new Map<string, SnapshotRecord[]>();
  for (const record of records.values()) {
    if (record.parent === null) continue;
    const siblings = above.get(record.parent);
    if (siblings) siblings.push(record);
    else above.set(record.parent, [record]);
  }
  return above;
}

function leavesFirst(record: SnapshotRecord, above: ReadonlyMap<string, SnapshotRecord[]>): SnapshotRecord[] {
  // A chain may be too deep for recursion.
  const order = [record];
  for (let i = 0; i < order.length; i++) order.push(...(above.get((order[i] as SnapshotRecord).name) ?? []));
  return order.reverse();
}

/** What `gc()` or `cleanup()` found. */
export interface Collected {
  /** Committed snapshots that are gone, or would be. */
  removed: string[];
  /** Those that nothing needs, but that somebody reads just now. */
  inUse: string[];
  /** What processes that ended had begun: snapshots that were being made, temporary ones. */
  abandoned: string[];
  /** Layers that no snapshot has. */
  dangling: string[];
}

/**
 * Removes what nobody needs.
 *
 * @param state - the store
 * @param roots - names to keep with all below them; undefined keeps every committed snapshot
 * @param options - `dryRun` only tells
 * @returns what is gone, or would be
 */
export async function collect(
  state: State,
  roots: ReadonlySet<string> | undefined,
  options: { dryRun?: boolean; signal?: AbortSignal },
): Promise<Collected> {
  const { dryRun = false, signal } = options;
  const { found, layers } = await state.exclusively((list) => {
    if (!dryRun) {
      state.records.clean();
      rollForward(state, list());
    }
    const all = list();
    const found: Collected = { removed: [], inUse: [], abandoned: [], dangling: [] };
    const layers: { id: string; hold: Hold }[] = [];
    const take = (id: string): boolean => {
      const hold = state.takeAway(id);
      if (hold && dryRun) state.giveBack(id, hold);
      else if (hold) layers.push({ id, hold });
      return hold !== undefined;
    };
    const kept = new Set<string>();
    const keep = (name: string) => {
      for (let at: string | null = name; at !== null && !kept.has(at); at = all.records.get(at)?.parent ?? null)
        kept.add(at);
    };
    for (const record of all.records.values()) {
      if (record.kind === 'committed') continue;
      const own = state.kept.has(record.layer);
      if (!own && (record.preparing || record.temporary) && take(record.layer)) found.abandoned.push(record.name);
      else keep(record.name);
    }
    const leased = leasedNames(state.leases, dryRun);
    if (roots) {
      for (const name of [...roots, ...leased]) keep(name);
      const above = childrenOf(all);
      const loose = [...all.records.values()].filter((it) => it.kind === 'committed' && !kept.has(it.name));
      const blocked = new Set<string>();
      // From the leaves down: one that is in use keeps what is below.
      for (const record of loose.sort((a, b) => b.below.length - a.below.length)) {
        const held = (above.get(record.name) ?? []).some(({ name }) => blocked.has(name)) || !take(record.layer);
        if (held) blocked.add(record.name);
        (held ? found.inUse : found.removed).push(record.name);
      }
    }
    // A record that cannot be read may be that of any layer: check() has to look first.
    if (all.broken.length === 0) {
      const known = new Set([...all.records.values(), ...all.unfinished.values()].map(({ layer }) => layer));
      for (const id of state.holds.list()) if (!known.has(id) && take(id)) found.dangling.push(id);
    }
    if (!dryRun) for (const name of [...found.abandoned, ...found.removed]) state.drop(name);
    return { found, layers };
  }, signal);
  state.discard(layers);
  return found;
}

/** Ends commits that were cut off before their last step. */
function rollForward(state: State, { unfinished }: RecordList): void {
  if (unfinished.size === 0) return;
  for (const [file, record] of unfinished) {
    // The new name was given again since: then this layer is nobody's.
    if (!state.records.rename(file, record.name)) state.records.removeFile(file);
  }
  state.forget();
}
