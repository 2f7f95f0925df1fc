import { randomBytes } from 'node:crypto';
import { constants, type FileHandle, mkdir, open, readdir, stat, unlink } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { openBeneath } from '../file/beneath.js';
import { lockFile, tryLock } from '../file/lock.js';
import { isMissing, kernel, syncDirectory } from '../file/node.js';
import { abortable } from './abortable.js';
import { Hasher, splitDigest } from './digest.js';
import { ImageError } from './error.js';
import { type Blob, Ingest, type IngestOptions } from './ingest.js';

/** How {@link ContentStore.open} works. */
export interface ContentStoreOptions {
  /** Whether a blob survives a power cut once it is written (default); false for what is thrown away. */
  durable?: boolean;
  /** @internal Reads what somebody else has made: no symbolic link in it is followed. */
  foreign?: boolean;
}

/** How {@link ContentStore.write} works. */
export interface WriteBlobOptions extends IngestOptions {
  /** Told now and then how many bytes are there. */
  onProgress?: ((bytes: number) => void) | undefined;
}

/** Directory of locks and of what is not complete, beside those that the layout of images prescribes. */
const OWN = '.iso';
/** Length of the pieces in which blobs are read. */
const CHUNK = 512 * 1024;

/**
 * Bytes by their digest, in a directory `blobs/sha256/…` as OCI's image layout has it. No daemon: any number of processes may write,
 * read and remove at once. A blob is complete and right when it is there: it is hashed while it is written, and only then named.
 *
 * What nothing refers to yet must not be collected: hold the store while you write blobs and until something refers to them.
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { ContentStore } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-content-');
 * const content = await ContentStore.open(directory);
 * async function* hello() {
 *   yield Buffer.from('hello');
 * }
 * const { digest } = await content.write(hello());
 * const bytes = await content.read(digest);
 * rmSync(directory, { recursive: true });
 * if (bytes.toString() !== 'hello') throw new Error('other bytes');
 * ```
 */
export class ContentStore {
  /** Where it lies. */
  readonly directory: string;
  readonly #durable: boolean;
  readonly #foreign: boolean;
  readonly #made = new Map<string, Promise<void>>();

  private constructor(directory: string, durable: boolean, foreign: boolean) {
    this.directory = directory;
    this.#durable = durable;
    this.#foreign = foreign;
  }

  /**
   * Opens a store. Nothing is made before something is written.
   *
   * @param directory - where it lies, or will
   * @param options - see {@link ContentStoreOptions}
   * @returns the store; it holds nothing open
   */
  static async open(directory: string, options: ContentStoreOptions = {}): Promise<ContentStore> {
    const { durable = true, foreign = false } = options;
    return new ContentStore(directory, durable, foreign);
  }

  /**
   * Where a blob lies, or would.
   *
   * @param digest - of the blob
   * @returns a path
   * @throws {@link ImageError} `badName`, `unsupported` for what is no digest
   */
  path(digest: string): string {
    return join(this.directory, below(digest));
  }

  /**
   * Size of a blob.
   *
   * @param digest - of the blob
   * @returns bytes, or undefined where there is none
   */
  async size(digest: string): Promise<number | undefined> {
    try {
      if (this.#foreign) {
        await using file = await openBeneath(this.directory, below(digest));
        return file && (await kernel(file.stat())).size;
      }
      const found = await kernel(stat(this.path(digest)));
      return found.isFile() ? found.size : undefined;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /**
   * A small blob, hashed again.
   *
   * @param digest - of the blob
   * @param options - `limit` in bytes, default 4 MiB
   * @returns its bytes
   * @throws {@link ImageError} `notFound`, `tooLarge`, `wrongDigest`
   */
  async read(digest: string, options: { limit?: number } = {}): Promise<Buffer> {
    const { limit = 4 << 20 } = options;
    const parts: Uint8Array[] = [];
    for await (const bytes of this.stream(digest, { limit })) parts.push(bytes);
    return Buffer.concat(parts);
  }

  /**
   * The bytes of a blob, hashed while they are read: the last piece comes only if all were right.
   *
   * @param digest - of the blob
   * @param options - `limit` in bytes; `signal` gives up
   * @returns pieces
   * @throws {@link ImageError} `notFound`, `tooLarge`, `wrongDigest`
   */
  async *stream(
    digest: string,
    options: { limit?: number; signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Buffer, void, undefined> {
    const { limit = Number.POSITIVE_INFINITY, signal } = options;
    await using file = await this.#open(digest);
    const found = await kernel(file.stat());
    if (!found.isFile()) throw new ImageError('notFound', `no file: ${this.path(digest)}`, { digest });
    const { size } = found;
    if (size > limit) throw new ImageError('tooLarge', `a blob of ${size} bytes, ${limit} are allowed`, { digest });
    const hasher = new Hasher(splitDigest(digest).algorithm);
    let held: Buffer | undefined;
    for (;;) {
      signal?.throwIfAborted();
      const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(CHUNK, size - hasher.size)));
      const { bytesRead } = await kernel(file.read(buffer, 0, buffer.length, hasher.size));
      if (bytesRead === 0) break;
      if (held) yield held;
      held = buffer.subarray(0, bytesRead);
      hasher.update(held);
      if (hasher.size > size) break;
    }
    const is = hasher.digest();
    if (is !== digest) throw new ImageError('wrongDigest', `a blob is ${is}, its name is ${digest}`, { digest });
    if (held) yield held;
  }

  /**
   * Writes a blob.
   *
   * @param source - its bytes as they come
   * @param options - what it must be; see {@link WriteBlobOptions}
   * @returns its digest and size
   * @throws {@link ImageError} `wrongDigest`, `wrongSize`, `tooLarge`; KernelError `ENOSPC` …; what the source throws; the signal's
   * reason. Nothing of it stays then.
   */
  async write(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, options: WriteBlobOptions = {}): Promise<Blob> {
    await using ingest = await this.begin(options);
    // All bytes come here: those of an earlier try would be in the way.
    if (ingest.offset) await ingest.restart();
    let told = 0;
    for await (const bytes of abortable(source, options.signal)) {
      await ingest.write(bytes);
      if (ingest.offset - told < CHUNK) continue;
      told = ingest.offset;
      options.onProgress?.(told);
    }
    return await ingest.commit();
  }

  /**
   * Begins a blob that comes in several tries.
   *
   * @param options - see {@link IngestOptions}
   * @returns what to write to
   */
  async begin(options: IngestOptions = {}): Promise<Ingest> {
    if (options.digest !== undefined) splitDigest(options.digest);
    const partial = join(this.directory, OWN, 'partial');
    await this.#make(partial);
    const target = async (digest: string) => {
      await this.#make(join(this.directory, 'blobs', splitDigest(digest).algorithm));
      return this.path(digest);
    };
    return Ingest.begin({ partial, target, durable: this.#durable }, options);
  }

  /**
   * Reads a blob to its end and hashes it.
   *
   * @param digest - of the blob
   * @param options - `signal` gives up
   * @returns its size
   * @throws {@link ImageError} `notFound`, `wrongDigest`
   */
  async verify(digest: string, options: { signal?: AbortSignal } = {}): Promise<number> {
    let size = 0;
    for await (const bytes of this.stream(digest, options)) size += bytes.length;
    return size;
  }

  /**
   * All blobs, in no order. What is no blob's name is passed over.
   *
   * @returns digests and sizes
   */
  async *list(): AsyncGenerator<Blob, void, undefined> {
    for (const algorithm of await names(join(this.directory, 'blobs'))) {
      for (const hex of await names(join(this.directory, 'blobs', algorithm))) {
        const digest = `${algorithm}:${hex}`;
        if (!isDigest(digest)) continue;
        const size = await this.size(digest);
        if (size !== undefined) yield { digest, size };
      }
    }
  }

  /**
   * Removes a blob.
   *
   * @param digest - of the blob
   * @returns whether there was one
   */
  async remove(digest: string): Promise<boolean> {
    try {
      await kernel(unlink(this.path(digest)));
      return true;
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
  }

  /**
   * Keeps the store from being collected, beside others who do.
   *
   * @param options - `signal` ends the wait for a collection that runs
   * @returns the hold; dispose it to let go. It ends with this process, too.
   */
  async hold(options: { signal?: AbortSignal | undefined } = {}): Promise<Disposable> {
    return await this.lock('hold', 'shared', options);
  }

  /**
   * Removes what nothing needs, and what is left of writers that died.
   *
   * @param needed - asked while nobody holds the store: digests to keep
   * @param options - `dryRun` removes nothing; `signal` gives up, also the wait for those who hold the store
   * @returns what was removed, or would be
   */
  async collect(
    needed: () => Promise<ReadonlySet<string>>,
    options: { dryRun?: boolean; signal?: AbortSignal | undefined } = {},
  ): Promise<Blob[]> {
    const { dryRun = false, signal } = options;
    using _ = await this.lock('hold', 'exclusive', { signal });
    const keep = await needed();
    const removed: Blob[] = [];
    for await (const blob of this.list()) {
      signal?.throwIfAborted();
      if (keep.has(blob.digest)) continue;
      if (!dryRun) await this.remove(blob.digest);
      removed.push(blob);
    }
    if (!dryRun) await this.#collectPartial();
    return removed;
  }

  /** @internal Path for a file that lives as long as its maker holds the store. */
  async temporary(): Promise<string> {
    const partial = join(this.directory, OWN, 'partial');
    await this.#make(partial);
    return join(partial, `spool-${randomBytes(8).toString('hex')}`);
  }

  /** @internal One of the store's own locks. */
  async lock(
    name: string,
    kind: 'shared' | 'exclusive',
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Disposable> {
    const own = join(this.directory, OWN);
    await this.#make(own);
    return await lockFile(join(own, `${name}.lock`), kind, options);
  }

  /** What somebody writes is locked, whether he holds the store or not. */
  async #collectPartial(): Promise<void> {
    const partial = join(this.directory, OWN, 'partial');
    for (const name of await names(partial)) {
      const path = join(partial, name);
      try {
        await using file = await kernel(open(path));
        if (tryLock(file.fd, 'exclusive')) await kernel(unlink(path));
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    }
  }

  async #open(digest: string): Promise<FileHandle> {
    try {
      if (this.#foreign) {
        const file = await openBeneath(this.directory, below(digest));
        if (file) return file;
        throw new ImageError('notFound', `no file: ${this.path(digest)}`, { digest });
      }
      // Layouts of others may hold what would be waited for.
      return await kernel(open(this.path(digest), constants.O_RDONLY | constants.O_NONBLOCK));
    } catch (error) {
      if (!isMissing(error)) throw error;
      throw new ImageError('notFound', `there is no blob ${digest}`, { digest, cause: error });
    }
  }

  #make(directory: string): Promise<void> {
    let made = this.#made.get(directory);
    if (!made) {
      made = kernel(mkdir(directory, { recursive: true })).then(async (first) => {
        if (!first || !this.#durable) return;
        // Each new name lies in the directory above it.
        for (let at = resolve(directory); at.length >= resolve(first).length; at = dirname(at)) {
          await syncDirectory(dirname(at));
        }
      });
      this.#made.set(directory, made);
      made.catch(() => this.#made.delete(directory));
    }
    return made;
  }
}

async function names(directory: string): Promise<string[]> {
  try {
    return await kernel(readdir(directory));
  } catch (error) {
    if (isMissing(error) || (error as { code?: string }).code === 'ENOTDIR') return [];
    throw error;
  }
}

/** Where a blob lies in the directory. */
function below(digest: string): string {
  const { algorithm, hex } = splitDigest(digest);
  return join('blobs', algorithm, hex);
}

function isDigest(text: string): boolean {
  try {
    splitDigest(text);
    return true;
  } catch {
    return false;
  }
}
