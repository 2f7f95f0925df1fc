import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readFile, rename, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isMissing, kernel } from '../file/node.js';
import type { NewLayer } from '../image/compose.js';
import type { ImageLayout } from '../image/layout.js';

/** What a step has made. */
export interface CachedStep {
  /** None where the step had nothing to do. */
  layer?: NewLayer | undefined;
  /** When. */
  created: string;
}

const VERSION = 1;

/**
 * Steps that were done, by a hash of all that they depend on: a small file each. Where the layer's blob is gone, the step is done again.
 */
export class StepCache {
  readonly #directory: string;
  readonly #layout: ImageLayout;

  /**
   * @param directory - of the files; made where it is not there
   * @param layout - where the layers' blobs are
   */
  constructor(directory: string, layout: ImageLayout) {
    this.#directory = directory;
    this.#layout = layout;
  }

  /** The name of a step: a hash of any plain data. */
  static key(parts: Readonly<Record<string, unknown>>): string {
    return createHash('sha256')
      .update(JSON.stringify({ version: VERSION, ...parts }))
      .digest('hex');
  }

  /** What the step made, where that is still there. */
  async find(key: string): Promise<CachedStep | undefined> {
    const path = join(this.#directory, key);
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if (isMissing(error)) return undefined;
      return await kernel(Promise.reject(error));
    }
    const step = parse(text);
    const layer = step?.layer?.descriptor;
    if (step && (!layer || (await this.#layout.content.size(layer.digest)) === layer.size)) return step;
    // Of no use any more: a power cut, or its blob was collected.
    await unlink(path).catch(() => {});
    return undefined;
  }

  /** Keeps what a step made. */
  async keep(key: string, step: CachedStep): Promise<void> {
    await kernel(mkdir(this.#directory, { recursive: true, mode: 0o700 }));
    const next = join(this.#directory, `.${key}.${randomBytes(4).toString('hex')}`);
    await kernel(writeFile(next, JSON.stringify(step), { mode: 0o600 }));
    await kernel(rename(next, join(this.#directory, key)));
  }
}

function parse(text: string): CachedStep | undefined {
  try {
    const step = JSON.parse(text) as Partial<CachedStep> | null;
    if (typeof step?.created !== 'string' || Number.isNaN(Date.parse(step.created))) return undefined;
    const { layer } = step;
    if (!layer) return { created: step.created };
    const { descriptor, diffId } = layer;
    const hash = /^sha256:[0-9a-f]{64}$/;
    const right = hash.test(descriptor.digest) && hash.test(diffId) && typeof descriptor.mediaType === 'string';
    return right ? { layer: { descriptor, diffId }, created: step.created } : undefined;
  } catch {
    return undefined;
  }
}
