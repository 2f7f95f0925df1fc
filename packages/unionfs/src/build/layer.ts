import { randomBytes } from 'node:crypto';
import type { Fd } from '@iso/sys';
import { type NewLayer, writeLayerBlob } from '../image/compose.js';
import { chainIds, type ImageLayer } from '../image/image.js';
import { layerCompression } from '../image/media-type.js';
import { unpackLayers } from '../image/unpack.js';
import type { Lease } from '../store/lease.js';
import type { SnapshotMount } from '../store/snapshot.js';
import type { BuildOptions } from './options.js';

/** Makes layers: mounts what is there, has it changed, and writes what is different. */
export class LayerMaker {
  readonly #options: BuildOptions;
  #lease: Lease | undefined;

  constructor(options: BuildOptions) {
    this.#options = options;
  }

  /** Gives free what was kept from collection. */
  [Symbol.dispose](): void {
    this.#lease?.close();
  }

  /** A layer on those below. */
  layerOn(layers: readonly ImageLayer[], { descriptor, diffId }: NewLayer): ImageLayer {
    const compression = layerCompression(descriptor.mediaType) ?? 'none';
    const chainId = chainIds([...layers.map((below) => below.diffId), diffId]).at(-1) as string;
    return { descriptor, diffId, compression, chainId };
  }

  /**
   * Makes a layer.
   *
   * @param layers - what it lies on
   * @param work - changes the files, whose root it is given; says whether it did
   * @returns the layer, or nothing where nothing was changed
   */
  async make(layers: readonly ImageLayer[], work: (root: Fd) => Promise<boolean>): Promise<NewLayer | undefined> {
    const { store, layout, signal, epoch, compression } = this.#options;
    const waiting = signal ? { signal } : {};
    const parent = await this.#unpack(layers);
    const key = `build-${randomBytes(8).toString('hex')}`;
    await store.prepare(key, { ...(parent === undefined ? {} : { parent }), temporary: true, ...waiting });
    let committed = false;
    try {
      let changed = false;
      {
        using mount = await store.openMount(key);
        changed = await work(mount.fd);
      }
      if (!changed) return undefined;
      const layer = await writeLayerBlob(layout, store.writeLayer(key, epoch === undefined ? {} : { epoch }), {
        ...waiting,
        ...(compression ? { compression } : {}),
      });
      const { chainId } = this.layerOn(layers, layer);
      // With other times than the layer says it is not what others would unpack.
      if (epoch === undefined) {
        await this.#keep([chainId]);
        using _ = await store.lock(chainId, waiting);
        if (!(await store.has(chainId))) {
          await store.commit(chainId, key);
          committed = true;
        }
      }
      return layer;
    } finally {
      if (!committed) await store.remove(key).catch(() => {});
    }
  }

  /**
   * Mounts layers to read their files.
   *
   * @param layers - the lowest first
   * @returns the mount; undefined where there are no layers
   */
  async open(layers: readonly ImageLayer[]): Promise<SnapshotMount | undefined> {
    const chain = await this.#unpack(layers);
    return chain === undefined ? undefined : await this.#options.store.openMount(chain, { readonly: true });
  }

  async #unpack(layers: readonly ImageLayer[]): Promise<string | undefined> {
    const { store, layout, signal } = this.#options;
    const chain = layers.at(-1)?.chainId;
    if (chain === undefined) return undefined;
    await this.#keep(layers.map(({ chainId }) => chainId));
    await unpackLayers(layout, layers, store, signal ? { signal } : {});
    return chain;
  }

  async #keep(names: readonly string[]): Promise<void> {
    this.#lease ??= await this.#options.store.lease();
    await this.#lease.add(...names);
  }
}
