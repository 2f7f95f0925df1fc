import type { ContentStore } from '../content/content-store.js';
import { algorithmOf, digestOf, splitDigest } from '../content/digest.js';
import { ImageError } from '../content/error.js';
import type { Ingest } from '../content/ingest.js';
import type { BlobSource, CopyBlobOptions } from '../image/admit.js';
import { type Descriptor, DOCUMENT_MAX, parseJson } from '../image/document.js';
import { DOCUMENT_TYPES, documentKind } from '../image/media-type.js';
import type { CredentialSource } from './credentials.js';
import { discard, Endpoint, isLoopback, wait } from './endpoint.js';

/** How a {@link Registry} is reached. */
export interface RegistryOptions {
  /** Who asks, see `dockerCredentials()`; default is nobody in particular. */
  credentials?: CredentialSource;
  /** Addresses that are asked first, in this order: `https://mirror.example:5000`. What they give is checked all the same. */
  mirrors?: readonly string[];
  /**
   * Lets bytes and credentials go over plain http: then the registry is spoken to so. This machine itself always is, unless this is false.
   */
  plainHttp?: boolean;
  /** Milliseconds in which something must come, and all of a small answer (a manifest, an error); default 60 seconds. */
  timeout?: number;
  /** Another fetch: of a proxy, of authorities of your own. */
  fetch?: typeof globalThis.fetch;
}

/** Docker's registry is reached under another name than it is called by. */
const HUB = 'registry-1.docker.io';
/** Times that a transfer may break off without this many bytes in between that had never come before, and may begin anew. */
const RETRIES = { tries: 5, progress: 1 << 20, pause: 100 } as const;
const PAGES_MAX = 1000;

/** A registry of images, spoken to as OCI's distribution specification says. It holds no connection. */
export class Registry {
  /** As names of images have it. */
  readonly host: string;
  readonly #options: RegistryOptions;
  readonly #endpoints = new Map<string, Endpoint[]>();

  /**
   * @param host - for example `docker.io`, `localhost:5000`
   * @param options - see {@link RegistryOptions}
   */
  constructor(host: string, options: RegistryOptions = {}) {
    this.host = host;
    this.#options = options;
  }

  /**
   * Asks what a tag or a digest stands for.
   *
   * @param repository - for example `library/debian`
   * @param name - tag or digest
   * @param options - `signal` gives up
   * @returns the document with its descriptor; of its digest, where that was given
   * @throws {@link ImageError} `notFound`, `unauthorized`, `denied`, `network`, `protocol`, `wrongDigest`, `tooLarge`; `unsupported`,
   * `badName` for a digest that cannot be checked, before anything is asked
   */
  async document(
    repository: string,
    name: string,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<{ descriptor: Descriptor; bytes: Buffer }> {
    const { signal } = options;
    const pinned = name.includes(':') ? splitDigest(name).algorithm : undefined;
    return await this.#first(repository, async (endpoint) => {
      const url = `v2/${repository}/manifests/${name}`;
      const headers = { accept: [...DOCUMENT_TYPES, '*/*;q=0.1'].join(', ') };
      const response = await endpoint.ask({ method: 'GET', url, headers, scope: pulling(repository), signal });
      if (response.status !== 200) throw await refusal(endpoint, response, `${repository}:${name}`);
      const bytes = await endpoint.read(response, DOCUMENT_MAX, signal);
      const told = response.headers.get('docker-content-digest');
      const wanted = pinned ? name : told;
      const algorithm = wanted === null ? undefined : algorithmOf(wanted);
      const found = digestOf(bytes, algorithm);
      if (algorithm && wanted !== found) {
        throw new ImageError('wrongDigest', `${endpoint.address.host} gives ${found} for ${wanted?.slice(0, 200)}`, {
          digest: wanted as string,
        });
      }
      // Who asked by a digest finds it by that one; else it is called as all are.
      const digest = pinned ? found : digestOf(bytes);
      const type = (response.headers.get('content-type') ?? '').split(';')[0]?.trim() ?? '';
      const mediaType = documentKind(type) ? type : ownType(bytes, type);
      return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
    });
  }

  /**
   * The blobs of a repository, for what copies images: gone on with where the line breaks, also in a later process.
   *
   * @param repository - for example `library/debian`
   * @returns where blobs and documents come from
   */
  blobs(repository: string): BlobSource {
    return {
      copy: async (descriptor, content, options) => {
        if (documentKind(descriptor.mediaType) === 'index' || documentKind(descriptor.mediaType) === 'manifest') {
          const { digest, size } = descriptor;
          const { bytes } = await this.document(repository, digest, { signal: options.signal });
          await content.write([bytes], { digest, size, signal: options.signal });
        } else await this.#copyBlob(repository, descriptor, content, options);
      },
    };
  }

  /**
   * Tags of a repository.
   *
   * @param repository - for example `library/debian`
   * @param options - `signal` gives up
   * @returns tags as the registry orders them
   * @throws {@link ImageError} as {@link Registry.document}
   */
  async *tags(repository: string, options: { signal?: AbortSignal } = {}): AsyncGenerator<string, void, undefined> {
    const { signal } = options;
    const endpoint = this.upstream(repository);
    let url = `v2/${repository}/tags/list`;
    for (let page = 0; page < PAGES_MAX; page++) {
      const response = await endpoint.ask({ method: 'GET', url, scope: pulling(repository), signal });
      if (response.status !== 200) throw await refusal(endpoint, response, repository);
      const value = parseJson(await endpoint.read(response, DOCUMENT_MAX, signal), 'a list of tags');
      const { tags } = (value ?? {}) as { tags?: unknown };
      for (const tag of Array.isArray(tags) ? tags : []) if (typeof tag === 'string') yield tag;
      const next = /<([^>]+)>\s*;\s*rel="?next"?/.exec(response.headers.get('link') ?? '')?.[1];
      if (!next) return;
      const address = new URL(next, new URL(url, endpoint.address));
      if (address.origin !== endpoint.address.origin) {
        throw new ImageError('protocol', `${endpoint.address.host} goes on elsewhere`);
      }
      url = address.href;
    }
    throw new ImageError('tooLarge', `${this.host} lists tags without end`);
  }

  /** @internal The registry itself, for what no mirror does. */
  upstream(repository: string): Endpoint {
    return this.#all(repository).at(-1) as Endpoint;
  }

  async #copyBlob(
    repository: string,
    { digest, size }: Descriptor,
    content: ContentStore,
    { signal, onProgress }: CopyBlobOptions,
  ): Promise<void> {
    await using ingest = await content.begin({ digest, size, signal });
    // Who wrote it meanwhile was waited for.
    if ((await content.size(digest)) === size) return;
    // What an earlier process left may be wrong, and then it is nobody's fault here.
    let doubtful = ingest.offset > 0;
    await this.#first(repository, async (endpoint) => {
      ingest.keep();
      try {
        await this.#fetchInto(endpoint, repository, digest, size, ingest, signal, onProgress);
        await ingest.commit();
      } catch (error) {
        if (ImageError.is(error, 'wrongDigest') && doubtful) {
          doubtful = false;
          await ingest.restart();
          await this.#fetchInto(endpoint, repository, digest, size, ingest, signal, onProgress);
          await ingest.commit();
          return;
        }
        if (ImageError.is(error, 'wrongDigest', 'wrongSize')) await ingest.restart();
        throw error;
      }
    });
  }

  async #fetchInto(
    endpoint: Endpoint,
    repository: string,
    digest: string,
    size: number,
    ingest: Ingest,
    signal: AbortSignal | undefined,
    onProgress: ((bytes: number) => void) | undefined,
  ): Promise<void> {
    let furthest = ingest.offset;
    let restarts = 0;
    const restart = async () => {
      await ingest.restart();
      if (++restarts < RETRIES.tries) return;
      throw new ImageError('protocol', `${endpoint.address.host} begins a blob again and again`, { digest });
    };
    for (let failures = 0; ; ) {
      if (size > 0 && ingest.offset === size) return;
      const from = ingest.offset;
      try {
        const url = `v2/${repository}/blobs/${digest}`;
        const headers = from ? { range: `bytes=${from}-` } : {};
        const response = await endpoint.ask({ method: 'GET', url, headers, scope: pulling(repository), signal });
        if (response.status === 206) {
          if (!response.headers.get('content-range')?.startsWith(`bytes ${from}-`)) {
            await discard(response);
            throw new ImageError('protocol', `${endpoint.address.host} goes on at another place`);
          }
        } else if (response.status === 200) {
          if (from) await restart();
        } else if (response.status === 416) {
          await discard(response);
          await restart();
          throw new ImageError('network', `${endpoint.address.host} has no such part`);
        } else throw await refusal(endpoint, response, digest);
        for await (const bytes of endpoint.body(response, signal)) {
          await ingest.write(bytes);
          onProgress?.(ingest.offset);
        }
        if (ingest.offset === size) return;
        throw new ImageError('network', `${endpoint.address.host} ends after ${ingest.offset} of ${size} bytes`);
      } catch (error) {
        signal?.throwIfAborted();
        if (!ImageError.is(error, 'network')) throw error;
        // What came before counts once: else parts that are given again and again would go on for ever.
        const further = ingest.offset - furthest >= RETRIES.progress;
        if (further) furthest = ingest.offset;
        failures = further ? 1 : failures + 1;
        if (failures >= RETRIES.tries) throw error;
        await wait(RETRIES.pause * 2 ** failures, signal);
      }
    }
  }

  /** Asks the mirrors and then the registry itself, until one can. */
  async #first<T>(repository: string, ask: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const endpoints = this.#all(repository);
    for (const endpoint of endpoints.slice(0, -1)) {
      try {
        return await ask(endpoint);
      } catch (error) {
        // A mirror that cannot, or lies, is passed over; what this machine cannot is no mirror's fault.
        if (!ImageError.is(error)) throw error;
      }
    }
    return await ask(endpoints.at(-1) as Endpoint);
  }

  #all(repository: string): Endpoint[] {
    const there = this.#endpoints.get(repository);
    if (there) return there;
    const { mirrors = [], credentials, plainHttp, timeout = 60_000, fetch = globalThis.fetch } = this.#options;
    const make = (address: URL, host: string, plain: boolean) =>
      new Endpoint(address, {
        credentials: async () => credentials?.(host, repository),
        plainHttp: plain,
        timeout,
        fetch,
      });
    const local = isLoopback(new URL(`http://${this.host}`).hostname);
    const http = plainHttp ?? local;
    const own = new URL(`${http ? 'http' : 'https'}://${this.host === 'docker.io' ? HUB : this.host}/`);
    const endpoints = mirrors.map((text) => {
      const address = new URL(text.endsWith('/') ? text : `${text}/`);
      return make(address, address.host, plainHttp ?? false);
    });
    endpoints.push(make(own, this.host, plainHttp ?? false));
    this.#endpoints.set(repository, endpoints);
    return endpoints;
  }
}

/** What a token for reading allows. */
function pulling(repository: string): string {
  return `repository:${repository}:pull`;
}

/** What an answer that is no success means. */
export async function refusal(endpoint: Endpoint, response: Response, subject: string): Promise<ImageError> {
  const { status } = response;
  const said = await endpoint
    .read(response, 64 << 10)
    .then((bytes) => messageOf(bytes))
    .catch(() => '');
  const reason =
    status === 404
      ? 'notFound'
      : status === 401
        ? 'unauthorized'
        : status === 403
          ? 'denied'
          : status >= 500 || status === 429
            ? 'network'
            : 'protocol';
  return new ImageError(reason, `${endpoint.address.host}: ${subject}: ${status}${said && `, ${said}`}`, {
    status,
    subject,
  });
}

/** What a registry says of an error, for people. */
function messageOf(bytes: Uint8Array): string {
  const { errors } = (parseJson(bytes, 'an error') ?? {}) as { errors?: unknown };
  const [first] = Array.isArray(errors) ? (errors as { code?: unknown; message?: unknown }[]) : [];
  return [first?.code, first?.message]
    .filter((text) => typeof text === 'string')
    .map((text) =>
      String(text)
        .replace(/[^\x20-\x7e]/g, '?')
        .slice(0, 200),
    )
    .join(': ');
}

/** The type that a document says itself, where the registry says none that is known. */
function ownType(bytes: Uint8Array, told: string): string {
  const { mediaType } = (parseJson(bytes, 'a manifest') ?? {}) as { mediaType?: unknown };
  if (typeof mediaType === 'string' && documentKind(mediaType)) return mediaType;
  throw new ImageError('unsupported', `no image: ${(told || 'of no type').slice(0, 100)}`);
}
