import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { tryLock } from '../file/lock.js';
import { isMissing, kernel, syncDirectory } from '../file/node.js';
import { Hasher, splitDigest } from './digest.js';
import { ImageError } from './error.js';

/** A blob: what it is called by its bytes, and how many they are. */
export interface Blob {
  /** `sha256:…` */
  digest: string;
  /** Bytes. */
  size: number;
}

/** What a blob must turn out to be, and how many bytes may come. */
export interface IngestOptions {
  /** Its digest. Who else writes the same one is waited for, and what an earlier process left of it is gone on with. */
  digest?: string | undefined;
  /** Its size in bytes. */
  size?: number | undefined;
  /** Most bytes that are taken; default 1 TiB. */
  limit?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Where blobs are written and where they go. */
export interface IngestPlace {
  /** Directory of what is not complete. */
  partial: string;
  /** Path of a blob; its directory is made. */
  target(digest: string): Promise<string>;
  /** Whether blobs survive a power cut. */
  durable: boolean;
}

const TERA = 2 ** 40;

/**
 * A blob that is being written: nobody sees it before {@link Ingest.commit}, which checks that it is what was announced.
 * Dispose it; what was not committed is removed then, unless it was told to {@link Ingest.keep}.
 */
export class Ingest implements AsyncDisposable {
  readonly #place: IngestPlace;
  readonly #options: IngestOptions;
  readonly #path: string;
  readonly #file: FileHandle;
  #hasher: Hasher;
  #keep = false;
  #done = false;

  private constructor(place: IngestPlace, options: IngestOptions, path: string, file: FileHandle) {
    this.#place = place;
    this.#options = options;
    this.#path = path;
    this.#file = file;
    this.#hasher = this.#newHasher();
  }

  /**
   * Begins, or goes on with what was kept.
   *
   * @param place - where
   * @param options - see {@link IngestOptions}
   * @returns the blob to write, locked: the lock dies with this process
   */
  static async begin(place: IngestPlace, options: IngestOptions): Promise<Ingest> {
    const { digest, signal } = options;
    const named = digest === undefined ? undefined : splitDigest(digest);
    const name = named ? `${named.algorithm}-${named.hex}` : randomBytes(12).toString('hex');
    const path = join(place.partial, name);
    for (let pause = 2; ; pause = Math.min(pause * 2, 50)) {
      signal?.throwIfAborted();
      const file = await kernel(open(path, named ? 'a+' : 'ax+', 0o600));
      try {
        if (tryLock(file.fd, 'exclusive') && (await isNamed(path, file))) {
          const ingest = new Ingest(place, options, path, file);
          await ingest.#rehash();
          return ingest;
        }
      } catch (error) {
        await file.close();
        throw error;
      }
      await file.close();
      await setTimeout(pause, undefined, signal ? { signal } : {}).catch(() => {});
    }
  }

  /** Bytes that are there: where to go on. */
  get offset(): number {
    return this.#hasher.size;
  }

  /**
   * Takes the next bytes.
   *
   * @param bytes - any number
   * @throws {@link ImageError} `wrongSize` beyond the announced size, `tooLarge` beyond the limit; KernelError `ENOSPC` …
   */
  async write(bytes: Uint8Array): Promise<void> {
    const { size, limit = TERA, signal, digest } = this.#options;
    signal?.throwIfAborted();
    const end = this.#hasher.size + bytes.length;
    if (size !== undefined && end > size) {
      throw new ImageError('wrongSize', `a blob of more than the ${size} bytes that it should have`, about(digest));
    }
    if (end > limit) throw new ImageError('tooLarge', `a blob of more than ${limit} bytes`, about(digest));
    // Hashed while it is written; after an error of that nothing is gone on with but by who reads the file again.
    const written = this.#append(bytes);
    this.#hasher.update(bytes);
    await written;
  }

  async #append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      at += (await kernel(this.#file.write(bytes, at, bytes.length - at))).bytesWritten;
    }
  }

  /** Forgets the bytes that are there. */
  async restart(): Promise<void> {
    await kernel(this.#file.truncate(0));
    this.#hasher = this.#newHasher();
  }

  /** Lets what is there stay when this is disposed of, for who goes on with it. Only for blobs of a known digest. */
  keep(): void {
    this.#keep = this.#options.digest !== undefined;
  }

  /**
   * Makes the blob visible, if it is the one that was announced.
   *
   * @returns its digest and size
   * @throws {@link ImageError} `wrongSize`, `wrongDigest`: nothing of it stays then
   */
  async commit(): Promise<Blob> {
    const { digest: expected, size: expectedSize } = this.#options;
    const { size } = this.#hasher;
    this.#keep = false;
    if (expectedSize !== undefined && size !== expectedSize) {
      throw new ImageError('wrongSize', `a blob of ${size} bytes that should have ${expectedSize}`, about(expected));
    }
    const digest = this.#hasher.digest();
    if (expected !== undefined && digest !== expected) {
      throw new ImageError('wrongDigest', `a blob is ${digest}, it should be ${expected}`, about(expected));
    }
    const target = await this.#place.target(digest);
    await kernel(this.#file.chmod(0o444));
    if (this.#place.durable) await kernel(this.#file.sync());
    await kernel(rename(this.#path, target));
    this.#done = true;
    if (this.#place.durable) await syncDirectory(dirname(target));
    return { digest, size };
  }

  /** Gives it up where it was not committed. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#done && !this.#keep) {
      await kernel(unlink(this.#path)).catch((error: unknown) => {
        if (!isMissing(error)) throw error;
      });
    }
    await this.#file.close();
  }

  #newHasher(): Hasher {
    const { digest } = this.#options;
    return new Hasher(digest === undefined ? undefined : splitDigest(digest).algorithm);
  }

  /** What an earlier writer left counts, as far as the announced size. */
  async #rehash(): Promise<void> {
    const { size } = await kernel(this.#file.stat());
    if (size === 0) return;
    if (size > (this.#options.size ?? size)) return this.restart();
    const buffer = Buffer.allocUnsafe(CHUNK);
    for (let at = 0; at < size; ) {
      this.#options.signal?.throwIfAborted();
      const { bytesRead } = await kernel(this.#file.read(buffer, 0, CHUNK, at));
      if (bytesRead === 0) break;
      this.#hasher.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
  }
}

const CHUNK = 1 << 20;

function about(digest: string | undefined): { digest?: string } {
  return digest === undefined ? {} : { digest };
}

/** Whether a path still names an open file: its last writer may have made a blob of it. */
async function isNamed(path: string, file: FileHandle): Promise<boolean> {
  const mine = await kernel(file.stat({ bigint: true }));
  try {
    const named = await kernel(stat(path, { bigint: true }));
    return named.ino === mine.ino && named.dev === mine.dev;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
