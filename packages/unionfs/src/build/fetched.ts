import { type FileHandle, open, unlink } from 'node:fs/promises';
import { Hasher, splitDigest } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import { kernel } from '../file/node.js';

/** How {@link fetchFile} works. */
export interface FetchOptions {
  /** Path of a new file for what comes; it is unlinked at once. */
  spool: string;
  /** `sha256:…` that it must have. */
  checksum?: string | undefined;
  /** Most bytes; more are `tooLarge`. */
  limit: number;
  /** Milliseconds in which something must come. */
  timeout: number;
  /** Does it. */
  fetch: typeof globalThis.fetch;
  signal?: AbortSignal | undefined;
}

/** A file that was fetched; dispose it. */
export interface FetchedFile extends AsyncDisposable {
  /** Descriptor of its content. */
  fd: number;
  size: number;
  /** `sha256:…` */
  digest: string;
  /** Nanoseconds since 1970, as the server says; 0 where it does not. */
  mtime: bigint;
}

/** Whether a source of a step is an address that can be fetched. */
export function isAddress(source: string): boolean {
  return /^https?:\/\//i.test(source);
}

/**
 * What a file of an address is called in a directory.
 *
 * @param address - of the file
 * @returns the last component of its path
 * @throws {@link ImageError} `badStep` where that is no name of a file
 */
export function addressName(address: string): string {
  let name = '';
  try {
    name = decodeURIComponent(new URL(address).pathname.replace(/^.*\//, ''));
  } catch {
    // Neither an address nor an encoding of text.
  }
  if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name) || Buffer.byteLength(name) > 255) {
    throw new ImageError('badStep', `${JSON.stringify(address)} does not end in a name: say which file it becomes`);
  }
  return name;
}

/**
 * Fetches a file.
 *
 * @param address - of http or https
 * @param options - see {@link FetchOptions}
 * @returns the file
 * @throws {@link ImageError} `notFound`, `network`, `tooLarge`, `wrongDigest`; KernelError `ENOSPC` …; the signal's reason
 */
export async function fetchFile(address: string, options: FetchOptions): Promise<FetchedFile> {
  const { spool, checksum, signal } = options;
  const hasher = new Hasher(checksum === undefined ? undefined : splitDigest(checksum).algorithm);
  const file = await kernel(open(spool, 'wx+', 0o600));
  try {
    await kernel(unlink(spool));
    const mtime = await receive(file, hasher, address, options);
    const { size } = hasher;
    const digest = hasher.digest();
    if (checksum !== undefined && digest !== checksum) {
      throw new ImageError('wrongDigest', `${address} is ${digest}, it should be ${checksum}`, { digest: checksum });
    }
    return { fd: file.fd, size, digest, mtime, [Symbol.asyncDispose]: () => file.close() };
  } catch (error) {
    await file.close();
    signal?.throwIfAborted();
    throw error;
  }
}

async function receive(
  file: FileHandle,
  hasher: Hasher,
  address: string,
  { fetch, signal, limit, timeout }: FetchOptions,
): Promise<bigint> {
  const idle = new AbortController();
  // Every piece that comes begins the time anew.
  const late = setTimeout(() => idle.abort(new Error(`nothing comes for ${timeout} ms`)), timeout);
  const broken = (error: unknown) => {
    const { cause } = error as Error;
    const known = idle.signal.aborted ? idle.signal.reason : cause instanceof Error ? cause : error;
    const why = (known as Error).message;
    return new ImageError('network', `${address} cannot be fetched: ${why}`, { subject: address, cause: error });
  };
  let body: ReadableStreamDefaultReader<Uint8Array> | undefined;
  try {
    const either = signal ? AbortSignal.any([signal, idle.signal]) : idle.signal;
    const response = await fetch(address, { signal: either }).catch((error: unknown) => {
      throw broken(error);
    });
    body = response.body?.getReader();
    if (!response.ok) {
      const reason = response.status === 404 || response.status === 410 ? 'notFound' : 'network';
      throw new ImageError(reason, `${address} is answered by ${response.status} ${response.statusText}`.trim(), {
        status: response.status,
        subject: address,
      });
    }
    for (;;) {
      const piece = await body?.read().catch((error: unknown) => {
        throw broken(error);
      });
      if (!piece || piece.done) break;
      late.refresh();
      const bytes = piece.value;
      if (hasher.size + bytes.length > limit) {
        throw new ImageError('tooLarge', `${address} has more than ${limit} bytes`, { subject: address });
      }
      for (let at = 0; at < bytes.length; ) {
        at += (await kernel(file.write(bytes, at, bytes.length - at))).bytesWritten;
      }
      hasher.update(bytes);
    }
    const changed = Date.parse(response.headers.get('last-modified') ?? '');
    return Number.isNaN(changed) || changed < 0 ? 0n : BigInt(changed) * 1_000_000n;
  } finally {
    clearTimeout(late);
    void body?.cancel().catch(() => {});
  }
}
