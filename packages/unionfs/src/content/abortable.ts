/**
 * A source that ends with the signal's reason as soon as it is aborted, also while nothing comes.
 *
 * @param source - any
 * @param signal - none: the source as it is
 * @returns its items
 */
export async function* abortable<T>(
  source: AsyncIterable<T> | Iterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T, void, undefined> {
  if (!signal) return yield* source;
  signal.throwIfAborted();
  const iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  let abort = () => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
  });
  aborted.catch(() => {});
  let over = false;
  try {
    for (;;) {
      const item = await Promise.race([iterator.next(), aborted]);
      over = item.done === true;
      if (item.done) return;
      yield item.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    // One that never answers must not hold up the end.
    if (!over) void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}
