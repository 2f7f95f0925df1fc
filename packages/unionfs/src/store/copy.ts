import { randomBytes } from 'node:crypto';
import { StoreError } from './error.js';
import type { Snapshot } from './snapshot.js';
import type { Store } from './store.js';

/**
 * Copies a snapshot and all below it, layer by layer, as archives: so that any driver's layers become any other's.
 *
 * @param source - the store
 * @param target - the other one
 * @param name - of the snapshot
 * @param signal - gives up
 * @returns names that were copied
 */
export async function copySnapshot(
  source: Store,
  target: Store,
  name: string,
  signal: AbortSignal | undefined,
): Promise<string[]> {
  const chain: Snapshot[] = [];
  for (let at: string | undefined = name; at !== undefined; ) {
    const snapshot: Snapshot = await source.stat(at);
    chain.unshift(snapshot);
    at = snapshot.parent;
  }
  using _kept = await target.lease(...chain.map((it) => it.name));
  const copied: string[] = [];
  for (const { name, kind, parent, labels } of chain) {
    const below = { labels, ...(parent === undefined ? {} : { parent }), ...(signal ? { signal } : {}) };
    // Two who copy the same: the second one finds it there.
    using _lock = await target.lock(`copy ${name}`, signal ? { signal } : {});
    if (await target.has(name)) continue;
    if (kind === 'view') await target.view(name, below);
    else {
      const key = `copy ${name.slice(0, 64)} ${randomBytes(8).toString('hex')}`;
      await target.prepare(key, { ...below, temporary: true });
      try {
        await target.applyLayer(key, source.writeLayer(name), signal ? { signal } : {});
        if (kind === 'committed') await target.commit(name, key, signal ? { signal } : {});
        else await target.rename(key, name);
      } catch (error) {
        await target.remove(key).catch((other) => {
          if (!StoreError.is(other, 'notFound')) throw other;
        });
        throw error;
      }
    }
    copied.push(name);
  }
  return copied;
}
