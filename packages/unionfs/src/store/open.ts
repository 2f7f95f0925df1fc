import { type Fd, KernelError } from '@iso/sys';
import type { DiffSource } from '../diff/changes.js';
import { explain, StoreError } from './error.js';
import type { Hold } from './hold.js';
import { type OpenImage, openImage } from './image.js';
import type { SnapshotRecord } from './record.js';
import type { OpenLayer, SnapshotMount } from './snapshot.js';
import type { State } from './state.js';

/**
 * Takes a snapshot into use, and makes sure that it is still the one that was read.
 *
 * @param state - the store
 * @param name - of the snapshot
 * @param write - alone, to change it
 * @returns its record, and the hold
 */
export function use(state: State, name: string, write: boolean): { record: SnapshotRecord; hold: Hold } {
  const record = state.read(name);
  if (write && record.kind !== 'active') {
    throw new StoreError('notActive', `it is ${record.kind}: only an active snapshot can be written`, {
      snapshot: name,
    });
  }
  const gone = () => new StoreError('notFound', 'there is no such snapshot', { snapshot: name });
  const hold = state.holds.open(record.layer);
  if (!hold) throw gone();
  try {
    if (!hold.lock('use', 'shared')) throw new StoreError('inUse', 'it is being removed', { snapshot: name });
    if (write && !hold.lock('write', 'exclusive')) {
      const hint = 'a writable layer has one mount: unmount it, or end whoever holds it';
      throw new StoreError('inUse', 'it is being written already', { snapshot: name, hint });
    }
    const now = state.read(name);
    if (now.layer !== record.layer) throw gone();
    if (write && now.kind !== 'active') throw new StoreError('notActive', `it is ${now.kind}`, { snapshot: name });
    if (write && hold.marked && state.isAttached(record.layer)) {
      const hint = 'findmnt -N shows where; unmount it there';
      throw new StoreError('inUse', 'who had it mounted has ended, the mount has not', { snapshot: name, hint });
    }
    return { record: now, hold };
  } catch (error) {
    hold.close();
    throw error;
  }
}

/** The layers that a snapshot shows, as the driver counts them. */
function layersOf(record: SnapshotRecord): { id: string; below: readonly string[] } {
  const [parent, ...rest] = record.below;
  return record.kind === 'view' && parent !== undefined
    ? { id: parent, below: rest }
    : { id: record.layer, below: record.below };
}

/** Mounts a snapshot, attached nowhere. */
export async function openMount(state: State, name: string, readonly: boolean): Promise<SnapshotMount> {
  const { record, hold } = use(state, name, !readonly);
  const { id, below } = layersOf(record);
  // A view's mount is one of its parent's layer.
  const marked = id === record.layer ? hold : state.holds.open(id);
  let fd: Fd;
  try {
    if (marked !== hold) marked?.lock('use', 'shared');
    marked?.mark(true);
    if (record.quota) {
      using image = await openImage(state, record);
      fd = image.mount(readonly);
    } else fd = state.driver.open(id, below, { readonly });
  } catch (error) {
    marked?.close();
    hold.close();
    throw missing(name, error);
  }
  const close = () => {
    if (hold.fd.closed) return;
    fd.close();
    marked?.settle();
    marked?.close();
    hold.close();
  };
  return { fd, hold: hold.fd, readonly, close, [Symbol.dispose]: close };
}

/** A snapshot's layer, while the snapshot is held. */
interface HeldLayer extends Disposable {
  record: SnapshotRecord;
  directory: string;
  format: OpenLayer['format'];
  /** Nothing lies below, nor will. */
  base: boolean;
  /** What it changes of what lies below; undefined for a view of something, which changes nothing. */
  diff: DiffSource | undefined;
  close(): void;
}

/**
 * Opens the layer of a snapshot, wherever it lies.
 *
 * @param state - the store
 * @param name - of the snapshot
 * @param write - alone, to change it
 * @returns the layer; close it
 */
export async function holdLayer(state: State, name: string, write: boolean): Promise<HeldLayer> {
  const { record, hold } = use(state, name, write);
  const { layer, below } = record;
  const { driver } = state;
  let image: OpenImage | undefined;
  const close = () => {
    if (hold.fd.closed) return;
    image?.[Symbol.dispose]();
    if (!image && !state.closed) for (const id of [layer, ...below.slice(0, 1)]) driver.release?.(id);
    hold.close();
  };
  try {
    if (record.quota) image = await openImage(state, record);
    const nothing = record.kind === 'view' && below.length > 0;
    return {
      record,
      directory: image?.directory ?? driver.directory(layer),
      format: image ? 'overlay' : driver.format,
      base: below.length === 0 && !record.late,
      diff: nothing ? undefined : (image?.diff ?? driver.diff(layer, below)),
      close,
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw missing(name, error);
  }
}

/** Opens the layer of an active snapshot, to unpack an archive in it. */
export async function openLayer(state: State, name: string): Promise<OpenLayer> {
  const { directory, format, base, close } = await holdLayer(state, name, true);
  return { directory, format, base, close, [Symbol.dispose]: close };
}

function missing(name: string, error: unknown): unknown {
  if (!KernelError.is(error, 'ENOENT')) return explain(error, name);
  const message = 'a layer of it is missing on the disk';
  return new StoreError('corrupt', message, { snapshot: name, cause: error, hint: 'check() tells which' });
}
