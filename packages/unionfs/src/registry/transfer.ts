import { algorithmOf, digestOf } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import { checkArgument } from '../file/argument.js';
import { type AdmitOptions, admit } from '../image/admit.js';
import type { Descriptor } from '../image/document.js';
import type { ImageLayout, NamedImage } from '../image/layout.js';
import { documentKind } from '../image/media-type.js';
import { inParallel } from '../image/parallel.js';
import { checkPlatform, hostPlatform } from '../image/platform.js';
import { formatReference, parseReference } from '../image/reference.js';
import { discard, type Endpoint, wait } from './endpoint.js';
import { Registry, type RegistryOptions, refusal } from './registry.js';

/** How {@link pullImage} works. */
export interface PullOptions extends RegistryOptions, Omit<AdmitOptions, 'platform'> {
  /** Of an index only the image for this platform (default: this machine's), or `all`. */
  platform?: AdmitOptions['platform'] | 'all';
  /** Its name in the layout; default its whole name. */
  name?: string;
}

/**
 * Fetches an image from a registry. What is there already does not come again; what broke off is gone on with.
 *
 * @param layout - where it goes
 * @param reference - its name: `debian:12`, `localhost:5000/a@sha256:…`
 * @param options - see {@link PullOptions}
 * @returns what has the name now
 * @throws {@link ImageError} `notFound`, `unauthorized`, `denied`, `network`, `protocol`, and what `importImages()` throws of an image;
 * KernelError `ENOSPC` …; the signal's reason. Nothing has a new name then.
 */
export async function pullImage(
  layout: ImageLayout,
  reference: string,
  options: PullOptions = {},
): Promise<NamedImage> {
  checkArgument('layout', layout, 'an image layout, as ImageLayout.open() gives');
  const { platform = hostPlatform(), name, unpack, limits, signal, onProgress, ...reached } = options;
  if (platform !== 'all') checkPlatform(platform);
  const parsed = parseReference(reference);
  const registry = new Registry(parsed.registry, reached);
  using _ = await layout.content.hold({ signal });
  const wanted = parsed.digest ?? (parsed.tag as string);
  const { descriptor, bytes } = await registry.document(parsed.repository, wanted, { signal });
  await layout.content.write([bytes], { digest: descriptor.digest, size: descriptor.size, signal });
  const admitted = await admit(layout, registry.blobs(parsed.repository), descriptor, {
    platform: platform === 'all' ? undefined : platform,
    unpack,
    limits,
    signal,
    onProgress,
  });
  const named = name ?? formatReference(parsed);
  await layout.tag(named, admitted);
  return { name: named, descriptor: admitted };
}

/** How {@link pushImage} works. */
export interface PushOptions extends RegistryOptions {
  /** Its name or digest in the layout; default the name that it is pushed by. */
  from?: string;
  /** Repositories of the same registry that may have its blobs: those are not sent again. */
  mountFrom?: readonly string[];
  /** Sends blobs in pieces of so many bytes, a positive integer; default in one. */
  chunkSize?: number;
  signal?: AbortSignal;
  /** Told of blobs; those that the registry has are told whole. */
  onProgress?: (at: { digest: string; bytes: number; size: number }) => void;
}

const AT_ONCE = 3;
const TRIES = 3;
const SMALLEST_CHUNK = 64 << 10;

/**
 * Sends an image, or an index with all of its images, to a registry. What that has already is not sent.
 *
 * @param layout - where it is
 * @param reference - its name there; its tag is set when everything has arrived
 * @param options - see {@link PushOptions}
 * @returns the descriptor that the registry has now
 * @throws {@link ImageError} `notFound` where the layout lacks a part of it, `unauthorized`, `denied`, `network`, `protocol`; the signal's
 * reason; `TypeError` for a `chunkSize` that is no positive integer
 */
export async function pushImage(
  layout: ImageLayout,
  reference: string,
  options: PushOptions = {},
): Promise<Descriptor> {
  checkArgument('layout', layout, 'an image layout, as ImageLayout.open() gives');
  const { from, mountFrom = [], chunkSize, signal, onProgress, ...reached } = options;
  if (chunkSize !== undefined) checkArgument('chunkSize', chunkSize, 'a positive integer');
  const parsed = parseReference(reference);
  const registry = new Registry(parsed.registry, { ...reached, mirrors: [] });
  using _ = await layout.content.hold({ signal });
  const descriptor = await layout.find(from ?? formatReference(parsed));
  if (parsed.digest !== undefined && parsed.digest !== descriptor.digest) {
    throw new ImageError('wrongDigest', `the image is ${descriptor.digest}, not ${parsed.digest}`);
  }
  const push = new Push(layout, registry.upstream(parsed.repository), parsed.repository, options);
  await push.image(descriptor, parsed.tag ?? descriptor.digest);
  return descriptor;
}

/** One image on its way to one repository. */
class Push {
  readonly #layout: ImageLayout;
  readonly #endpoint: Endpoint;
  readonly #repository: string;
  readonly #options: PushOptions;
  readonly #scope: string;
  readonly #sent = new Set<string>();

  constructor(layout: ImageLayout, endpoint: Endpoint, repository: string, options: PushOptions) {
    this.#layout = layout;
    this.#endpoint = endpoint;
    this.#repository = repository;
    this.#options = options;
    const others = (options.mountFrom ?? []).map((other) => `repository:${other}:pull`);
    this.#scope = [`repository:${repository}:pull,push`, ...others].join(' ');
  }

  /** All that a descriptor leads to, the document itself at last. */
  async image(descriptor: Descriptor, name: string): Promise<void> {
    if (documentKind(descriptor.mediaType) === 'index') {
      for (const inner of (await this.#layout.index(descriptor)).manifests) await this.image(inner, inner.digest);
    } else {
      const { config, layers } = await this.#layout.manifest(descriptor);
      const blobs = [...new Map([config, ...layers].map((blob) => [blob.digest, blob])).values()];
      await inParallel(blobs, AT_ONCE, (blob) => this.#blob(blob));
    }
    const bytes = await this.#layout.document(descriptor);
    const response = await this.#endpoint.ask({
      method: 'PUT',
      url: `v2/${this.#repository}/manifests/${name}`,
      headers: { 'content-type': descriptor.mediaType },
      body: () => bytes,
      scope: this.#scope,
      signal: this.#options.signal,
    });
    if (response.status !== 201) throw await refusal(this.#endpoint, response, `${this.#repository}:${name}`);
    await discard(response);
    const told = response.headers.get('docker-content-digest');
    if (told !== null && told !== digestOf(bytes, algorithmOf(told))) {
      throw new ImageError('wrongDigest', `the registry has ${told}, it was sent ${descriptor.digest}`);
    }
  }

  async #blob(blob: Descriptor): Promise<void> {
    const { digest, size } = blob;
    const { signal, onProgress } = this.#options;
    if (this.#sent.has(digest)) return;
    for (let tries = 1; ; tries++) {
      try {
        const location = await this.#begin(digest);
        if (location !== undefined) await this.#upload(blob, location);
        break;
      } catch (error) {
        signal?.throwIfAborted();
        if (!ImageError.is(error, 'network') || tries === TRIES) throw error;
        await wait(100 * 2 ** tries, signal);
      }
    }
    this.#sent.add(digest);
    onProgress?.({ digest, bytes: size, size });
  }

  /** Where to send a blob; nowhere, if the registry has it, or takes it from another repository. */
  async #begin(digest: string): Promise<string | undefined> {
    const { mountFrom = [], signal } = this.#options;
    const ask = { scope: this.#scope, signal };
    const there = await this.#endpoint.ask({ ...ask, method: 'HEAD', url: `v2/${this.#repository}/blobs/${digest}` });
    await discard(there);
    if (there.status === 200) return undefined;
    const uploads = `v2/${this.#repository}/blobs/uploads/`;
    for (const other of [...mountFrom, undefined]) {
      const query = other === undefined ? '' : `?${new URLSearchParams({ mount: digest, from: other })}`;
      const response = await this.#endpoint.ask({ ...ask, method: 'POST', url: uploads + query, headers: EMPTY });
      if (other !== undefined && response.status === 201) {
        await discard(response);
        return undefined;
      }
      const location = response.headers.get('location');
      if (response.status !== 202) throw await refusal(this.#endpoint, response, this.#repository);
      await discard(response);
      if (location === null)
        throw new ImageError('protocol', `${this.#endpoint.address.host} does not say where to send`);
      // An upload that was begun instead of a mount can be used; but another repository may still have it.
      if (other === undefined || other === mountFrom.at(-1)) return this.#inside(location);
    }
    return undefined;
  }

  async #upload(blob: Descriptor, location: string): Promise<void> {
    const { chunkSize } = this.#options;
    const { digest, size } = blob;
    let url = location;
    if (chunkSize !== undefined && size > 0) url = await this.#chunks(blob, url, Math.max(chunkSize, SMALLEST_CHUNK));
    const whole = chunkSize === undefined || size === 0;
    const target = new URL(url, this.#endpoint.address);
    target.searchParams.set('digest', digest);
    const headers = { 'content-type': 'application/octet-stream', 'content-length': String(whole ? size : 0) };
    const body = whole && size > 0 ? { body: () => this.#stream(blob) } : {};
    const response = await this.#endpoint.ask({
      ...body,
      method: 'PUT',
      url: target.href,
      headers,
      scope: this.#scope,
      signal: this.#options.signal,
    });
    if (response.status !== 201) throw await refusal(this.#endpoint, response, digest);
    await discard(response);
  }

  /** Pieces in order; each answer says where the next one goes. */
  async #chunks({ digest, size }: Descriptor, location: string, length: number): Promise<string> {
    let url = location;
    let at = 0;
    let parts: Buffer[] = [];
    let have = 0;
    const send = async () => {
      const bytes = Buffer.concat(parts);
      const response = await this.#endpoint.ask({
        method: 'PATCH',
        url,
        headers: {
          'content-type': 'application/octet-stream',
          'content-length': String(bytes.length),
          'content-range': `${at}-${at + bytes.length - 1}`,
        },
        body: () => bytes,
        scope: this.#scope,
        signal: this.#options.signal,
      });
      if (response.status !== 202 && response.status !== 201) throw await refusal(this.#endpoint, response, digest);
      await discard(response);
      const next = response.headers.get('location');
      if (next !== null) url = this.#inside(next, url);
      at += bytes.length;
      parts = [];
      have = 0;
      this.#options.onProgress?.({ digest, bytes: at, size });
    };
    for await (const bytes of this.#layout.content.stream(digest, { signal: this.#options.signal })) {
      for (let from = 0; from < bytes.length; ) {
        const part = bytes.subarray(from, from + length - have);
        parts.push(part);
        have += part.length;
        from += part.length;
        if (have === length) await send();
      }
    }
    if (have) await send();
    return url;
  }

  #stream({ digest, size }: Descriptor): ReadableStream<Uint8Array> {
    const { signal, onProgress } = this.#options;
    const source = this.#layout.content.stream(digest, { signal });
    let done = 0;
    return new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          const { done: over, value } = await source.next();
          if (over) return controller.close();
          done += value.length;
          onProgress?.({ digest, bytes: done, size });
          controller.enqueue(value);
        },
        async cancel() {
          await source.return?.();
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** An upload goes to the registry itself: bytes and credentials are for nobody else. */
  #inside(location: string, from?: string): string {
    const base = from === undefined ? this.#endpoint.address : new URL(from, this.#endpoint.address);
    const url = new URL(location, base);
    if (url.origin !== this.#endpoint.address.origin) {
      throw new ImageError('protocol', `${this.#endpoint.address.host} sends an upload elsewhere`, {
        subject: url.host,
      });
    }
    return url.href;
  }
}

const EMPTY = { 'content-length': '0' };
