/**
 * Events on their way to a `for await`: what is not taken yet is merged with what comes after it, so that nothing is missed and
 * little is kept.
 */
export class Feed<T> implements AsyncIterableIterator<T> {
  readonly #pending = new Map<string, T>();
  readonly #merge: (before: T, after: T) => T;
  readonly #waiting: { resolve: (result: IteratorResult<T>) => void; reject: (error: unknown) => void }[] = [];
  readonly #close: () => void;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.fail(this.#signal?.reason);
  #ended = false;
  #error: { error: unknown } | undefined;

  /**
   * @param merge - makes one of two events of the same key
   * @param close - runs once when it ends, whoever ends it
   * @param signal - ends it with its reason
   */
  constructor(merge: (before: T, after: T) => T, close: () => void, signal?: AbortSignal) {
    this.#merge = merge;
    this.#close = close;
    this.#signal = signal;
    signal?.addEventListener('abort', this.#abort, { once: true });
    if (signal?.aborted) this.#abort();
  }

  /** Whether it takes more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Adds an event. */
  push(key: string, event: T): void {
    if (this.#ended) return;
    const next = this.#waiting.shift();
    if (next) return next.resolve({ value: event, done: false });
    const before = this.#pending.get(key);
    this.#pending.set(key, before === undefined ? event : this.#merge(before, event));
  }

  /** No more events come; those that wait are still given out. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#signal?.removeEventListener('abort', this.#abort);
    this.#close();
    for (const { resolve } of this.#waiting.splice(0)) resolve({ value: undefined, done: true });
  }

  /** Ends it with an error. */
  fail(error: unknown): void {
    if (this.#ended) return;
    const waiting = this.#waiting.splice(0);
    if (waiting.length === 0) this.#error = { error };
    this.#pending.clear();
    this.end();
    for (const { reject } of waiting) reject(error);
  }

  /** {@inheritDoc AsyncIterableIterator.next} */
  next(): Promise<IteratorResult<T>> {
    for (const [key, value] of this.#pending) {
      this.#pending.delete(key);
      return Promise.resolve({ value, done: false });
    }
    if (this.#error) {
      const { error } = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Leaving the loop closes it. */
  return(): Promise<IteratorResult<T>> {
    this.#pending.clear();
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** Itself. */
  [Symbol.asyncIterator](): this {
    return this;
  }
}
