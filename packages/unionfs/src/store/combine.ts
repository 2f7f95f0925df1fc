import { randomBytes } from 'node:crypto';
import { writeLayer } from '../diff/changes.js';
import { tarEnd } from '../tar/writer.js';
import { StoreError } from './error.js';
import type { Snapshot } from './snapshot.js';
import type { Store } from './store.js';

/** How snapshots are made of others. */
export interface CombineOptions {
  /** Labels of what is made. */
  labels?: Readonly<Record<string, string>>;
  /** Gives up. */
  signal?: AbortSignal;
}

/** Names from a snapshot down to the lowest, or to one that is not told. */
async function chainOf(store: Store, name: string, until?: string): Promise<string[]> {
  const chain: string[] = [];
  for (let at: string | undefined = name; at !== until; ) {
    if (at === undefined) {
      const message = `it does not lie on ${JSON.stringify(until)}`;
      throw new StoreError('notFound', message, { snapshot: name });
    }
    chain.push(at);
    at = (await store.stat(at)).parent;
  }
  return chain;
}

/** Makes a committed snapshot of one archive. */
async function add(
  store: Store,
  name: string,
  parent: string | undefined,
  archive: AsyncIterable<Uint8Array>,
  { labels, signal }: CombineOptions,
): Promise<Snapshot> {
  const key = `new ${name.slice(0, 64)} ${randomBytes(8).toString('hex')}`;
  const more = signal ? { signal } : {};
  await store.prepare(key, { temporary: true, ...(parent === undefined ? {} : { parent }), ...more });
  try {
    await store.applyLayer(key, archive, more);
    return await store.commit(name, key, { ...(labels ? { labels } : {}), ...more });
  } catch (error) {
    await store.remove(key).catch(() => {});
    throw error;
  }
}

/** One layer out of many: what the uppermost shows, compared with what lies below the lowest. */
export async function squash(
  store: Store,
  name: string,
  top: string,
  base: string | undefined,
  options: CombineOptions,
): Promise<Snapshot> {
  await chainOf(store, top, base);
  async function* archive(): AsyncGenerator<Buffer, void, undefined> {
    if (top === base) {
      yield tarEnd();
      return;
    }
    using after = await store.openMount(top, { readonly: true });
    using before = base === undefined ? undefined : await store.openMount(base, { readonly: true });
    yield* writeLayer({ after: after.fd, ...(before ? { before: before.fd } : {}), content: 'read' });
  }
  return await add(store, name, base, archive(), options);
}

/** The layers of one chain again, on another snapshot. The last one gets the name, those below names of their own. */
export async function rebase(
  store: Store,
  name: string,
  top: string,
  { from, onto }: { from: string | undefined; onto: string | undefined },
  options: CombineOptions,
): Promise<Snapshot> {
  const layers = (await chainOf(store, top, from)).reverse();
  if (layers.length === 0) throw new StoreError('notFound', 'there is no layer to move', { snapshot: top });
  using kept = await store.lease(...(onto === undefined ? [] : [onto]));
  let parent = onto;
  let made: Snapshot | undefined;
  for (const [i, layer] of layers.entries()) {
    const last = i === layers.length - 1;
    const next = last ? name : `${name} ${i + 1} of ${layers.length}`;
    await kept.add(next);
    made = await add(store, next, parent, store.writeLayer(layer), last ? options : { ...options, labels: {} });
    parent = next;
  }
  return made as Snapshot;
}
