import { setTimeout } from 'node:timers/promises';
import { ImageError } from '../content/error.js';
import { parseJson } from '../image/document.js';
import { parseChallenges } from './challenge.js';
import type { Credentials } from './credentials.js';

/** What is asked of a registry. */
export interface Ask {
  method: 'GET' | 'HEAD' | 'POST' | 'PATCH' | 'PUT';
  /** Path below the registry's address, or a whole address that it gave. */
  url: string;
  headers?: Record<string, string>;
  /** Made anew for each try. */
  body?: (() => ReadableStream<Uint8Array> | Uint8Array) | undefined;
  /** What a token must allow, for example `repository:library/debian:pull`. */
  scope: string;
  signal?: AbortSignal | undefined;
}

/** How an {@link Endpoint} is reached. */
export interface EndpointOptions {
  credentials: () => Promise<Credentials | undefined>;
  /** Whether bytes may go over plain http; to this machine itself they always may. */
  plainHttp: boolean;
  /** Milliseconds in which something must come, and all of a small answer. */
  timeout: number;
  fetch: typeof globalThis.fetch;
}

const REDIRECTS = 8;
/** Times that an answer may be "not now", and how long it is believed to last, in milliseconds. */
const BUSY = { tries: 3, most: 10_000, usual: 500 } as const;
const TOKEN_MAX = 1 << 20;
const NOT_NOW = new Set([429, 502, 503, 504]);

/** One address that speaks OCI's distribution protocol: the registry, or a mirror of it. */
export class Endpoint {
  readonly address: URL;
  readonly #options: EndpointOptions;
  /** What to say in Authorization, by scope. */
  readonly #authorization = new Map<string, string>();

  /**
   * @param address - `https://host:port`, maybe with a path
   * @param options - see {@link EndpointOptions}
   * @throws {@link ImageError} `denied` for plain http where that was not asked for
   */
  constructor(address: URL, options: EndpointOptions) {
    this.address = address;
    this.#options = options;
    this.#checkScheme(address);
  }

  /**
   * Asks, follows where it is sent, and says who it is when it is asked.
   *
   * @param ask - what
   * @returns the answer, whatever it says; its body is the caller's
   * @throws {@link ImageError} `network`, `unauthorized`, `denied`, `protocol`; the signal's reason
   */
  async ask(ask: Ask): Promise<Response> {
    let fresh = false;
    for (let busy = 0; ; ) {
      const { response, origin } = await this.#follow(ask);
      if (response.status === 401 && origin === this.address.origin) {
        await discard(response);
        if (fresh) {
          throw new ImageError('unauthorized', `${this.address.host} does not take the credentials`, { status: 401 });
        }
        await this.#authorize(ask, response.headers.get('www-authenticate') ?? '');
        fresh = true;
        continue;
      }
      if (!NOT_NOW.has(response.status) || ++busy >= BUSY.tries) return response;
      await discard(response);
      const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
      const pause = Number.isFinite(seconds) && seconds >= 0 ? Math.min(seconds * 1000, BUSY.most) : BUSY.usual * busy;
      await wait(pause, ask.signal);
    }
  }

  /** The pieces of an answer's body; a pause that is too long ends it, and the time `until` which it must be whole. */
  async *body(
    response: Response,
    signal: AbortSignal | undefined,
    until = Number.POSITIVE_INFINITY,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    if (!response.body) return;
    const reader = response.body.getReader();
    let over = false;
    try {
      for (;;) {
        const item = await this.#inTime(reader.read(), signal, until);
        over = item.done;
        if (item.done) return;
        yield item.value;
      }
    } catch (error) {
      if (ImageError.is(error) || signal?.aborted) throw signal?.aborted ? signal.reason : error;
      throw new ImageError('network', `the answer of ${this.address.host} broke off`, { cause: error });
    } finally {
      if (!over) void reader.cancel().catch(() => {});
    }
  }

  /**
   * A small body, which must be whole in the time in which anything must come.
   *
   * @param response - its answer
   * @param limit - most bytes
   * @param signal - gives up
   * @returns all of it
   * @throws {@link ImageError} `tooLarge`, `network`
   */
  async read(response: Response, limit: number, signal?: AbortSignal): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    let size = 0;
    const until = performance.now() + this.#options.timeout;
    for await (const bytes of this.body(response, signal, until)) {
      size += bytes.length;
      if (size > limit) {
        throw new ImageError('tooLarge', `${this.address.host} answers with more than ${limit} bytes`);
      }
      parts.push(bytes);
    }
    return Buffer.concat(parts);
  }

  async #follow(ask: Ask): Promise<{ response: Response; origin: string }> {
    let url = this.#resolve(ask.url, this.address);
    for (let hops = 0; ; hops++) {
      const home = url.origin === this.address.origin;
      // Who it is, is told the registry alone, and not where that sends us.
      const authorization = home ? this.#authorization.get(ask.scope) : undefined;
      const response = await this.#fetch(url, ask, authorization);
      const location = response.headers.get('location');
      if (![301, 302, 303, 307, 308].includes(response.status) || location === null) {
        return { response, origin: url.origin };
      }
      await discard(response);
      if (ask.method !== 'GET' && ask.method !== 'HEAD') {
        throw new ImageError('protocol', `${url.host} sends an upload elsewhere`, { status: response.status });
      }
      if (hops === REDIRECTS) throw new ImageError('protocol', `${this.address.host} sends on and on`);
      url = this.#resolve(location, url);
    }
  }

  async #fetch(url: URL, ask: Ask, authorization: string | undefined): Promise<Response> {
    const { method, body, signal } = ask;
    const made = body?.();
    const headers: Record<string, string> = {
      'user-agent': 'iso-unionfs',
      ...ask.headers,
      ...(authorization ? { authorization } : {}),
    };
    const timeout = new AbortController();
    const init: RequestInit & { duplex?: 'half' } = {
      method,
      headers,
      redirect: 'manual',
      signal: signal ? AbortSignal.any([signal, timeout.signal]) : timeout.signal,
      ...(made ? { body: made as RequestInit['body'] & object, duplex: 'half' } : {}),
    };
    try {
      const answer = this.#options.fetch(url, init);
      // An upload takes its time; that it goes on is the server's to watch.
      return made instanceof ReadableStream ? await answer : await this.#inTime(answer, signal);
    } catch (error) {
      timeout.abort();
      if (signal?.aborted) throw signal.reason;
      if (ImageError.is(error)) throw error;
      const { cause } = error as { cause?: { code?: string; message?: string } };
      // What the source of an upload throws is no fault of the line.
      if (ImageError.is(cause)) throw cause;
      const why = cause?.code ?? cause?.message ?? (error as Error).message;
      throw new ImageError('network', `${method} ${url.host}: ${why}`, { subject: url.host, cause: error });
    }
  }

  /** Gets what the challenge asks for. */
  async #authorize(ask: Ask, header: string): Promise<void> {
    const challenges = parseChallenges(header);
    const credentials = await this.#options.credentials();
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    if (bearer) {
      if (credentials && 'registryToken' in credentials) {
        this.#authorization.set(ask.scope, `Bearer ${credentials.registryToken}`);
        return;
      }
      this.#authorization.set(ask.scope, `Bearer ${await this.#token(bearer.parameters, ask, credentials)}`);
      return;
    }
    if (challenges.some(({ scheme }) => scheme === 'basic')) {
      if (credentials && 'username' in credentials) {
        this.#authorization.set(ask.scope, basic(credentials));
        return;
      }
      throw new ImageError('unauthorized', `${this.address.host} wants a name and a password`, { status: 401 });
    }
    throw new ImageError('protocol', `${this.address.host} says 401, and not how to change that`, { status: 401 });
  }

  async #token(parameters: Map<string, string>, ask: Ask, credentials: Credentials | undefined): Promise<string> {
    const realm = parameters.get('realm');
    if (!realm) throw new ImageError('protocol', `${this.address.host} does not say where tokens are`, { status: 401 });
    const url = this.#resolve(realm, this.address);
    const service = parameters.get('service');
    const scopes = [...new Set([ask.scope, ...(parameters.get('scope')?.split(' ') ?? [])])].filter(Boolean);
    let request: Ask;
    if (credentials && 'identityToken' in credentials) {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: 'iso-unionfs',
        refresh_token: credentials.identityToken,
        scope: scopes.join(' '),
        ...(service ? { service } : {}),
      });
      const headers = { 'content-type': 'application/x-www-form-urlencoded' };
      request = { ...ask, method: 'POST', url: url.href, headers, body: () => Buffer.from(form.toString()) };
    } else {
      if (service) url.searchParams.set('service', service);
      for (const scope of scopes) url.searchParams.append('scope', scope);
      const { body: _, ...rest } = ask;
      request = { ...rest, method: 'GET', url: url.href, headers: {} };
    }
    const authorization = credentials && 'username' in credentials ? basic(credentials) : undefined;
    const response = await this.#fetch(url, request, authorization);
    const bytes = await this.read(response, TOKEN_MAX, ask.signal);
    if (response.status === 401 || response.status === 403) {
      throw new ImageError('unauthorized', `${url.host} gives no token`, { status: response.status });
    }
    if (response.status !== 200) {
      throw new ImageError('protocol', `${url.host} gives no token: ${response.status}`, { status: response.status });
    }
    const value = parseJson(bytes, `the token of ${url.host}`);
    const { token, access_token: access } = (value ?? {}) as Record<string, unknown>;
    const found = [token, access].find((text) => typeof text === 'string' && text !== '') as string | undefined;
    // It becomes a header.
    if (!found || !/^[\x21-\x7e]+$/.test(found)) throw new ImageError('protocol', `${url.host} gives no token`);
    return found;
  }

  #resolve(text: string, from: URL): URL {
    let url: URL;
    try {
      url = new URL(text, from);
    } catch (error) {
      throw new ImageError('protocol', `not an address: ${JSON.stringify(text.slice(0, 200))}`, { cause: error });
    }
    this.#checkScheme(url);
    // Names and passwords in addresses are nobody's business.
    url.username = '';
    url.password = '';
    return url;
  }

  #checkScheme(url: URL): void {
    if (url.protocol === 'https:') return;
    if (url.protocol !== 'http:') throw new ImageError('protocol', `neither http nor https: ${url.protocol}`);
    if (this.#options.plainHttp) return;
    if (isLoopback(url.hostname) && (this.address.protocol === 'http:' || url.origin === this.address.origin)) return;
    throw new ImageError('denied', `${url.host} would be reached by plain http`, {
      subject: url.host,
      hint: 'allow it with plainHttp, where nobody can listen or change what comes',
    });
  }

  async #inTime<T>(work: Promise<T>, signal: AbortSignal | undefined, until = Number.POSITIVE_INFINITY): Promise<T> {
    const { timeout } = this.#options;
    const left = until - performance.now();
    // Whoever wins: what comes later is nobody's surprise.
    work.catch(() => {});
    signal?.throwIfAborted();
    const stop = new AbortController();
    let abort = () => {};
    const aborted = new Promise<never>((_, reject) => {
      abort = () => reject(signal?.reason);
      signal?.addEventListener('abort', abort, { once: true });
    });
    const late = setTimeout(Math.max(Math.min(timeout, left), 0), undefined, { signal: stop.signal }).then(
      () => {
        const what = left < timeout ? 'does not come to an end in' : 'says nothing for';
        throw new ImageError('network', `${this.address.host} ${what} ${timeout} ms`);
      },
      () => new Promise<never>(() => {}),
    );
    try {
      return await Promise.race([work, late, aborted]);
    } finally {
      stop.abort();
      signal?.removeEventListener('abort', abort);
    }
  }
}

/** Lets go of an answer that nobody reads. */
export async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => {});
}

/** Waits, or throws the signal's reason. */
export async function wait(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await setTimeout(milliseconds, undefined, signal ? { signal } : {}).catch(() => {});
  signal?.throwIfAborted();
}

/**
 * Whether a host is this machine.
 *
 * @param host - name or address, without a port
 * @returns whether it is
 */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '[::1]' || host === '::1' || /^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(host);
}

function basic({ username, password }: { username: string; password: string }): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
