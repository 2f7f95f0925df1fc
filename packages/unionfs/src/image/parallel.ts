/**
 * Does work on items, some at once. After a failure nothing new is begun, and what runs is waited for.
 *
 * @param items - in this order
 * @param most - at once
 * @param work - on each
 * @throws the first failure
 */
export async function inParallel<T>(
  items: readonly T[],
  most: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = [...items];
  const failures: unknown[] = [];
  const run = async () => {
    for (let item = queue.shift(); item !== undefined && !failures.length; item = queue.shift()) {
      try {
        await work(item);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: most }, run));
  if (failures.length) throw failures[0];
}

/** A promise, and what settles it. */
export interface Deferred {
  promise: Promise<void>;
  resolve(): void;
  reject(error: unknown): void;
}

/** @returns a promise that others settle; nobody has to listen to it */
export function deferred(): Deferred {
  let settle: Pick<Deferred, 'resolve' | 'reject'> | undefined;
  const promise = new Promise<void>((resolve, reject) => {
    settle = { resolve, reject };
  });
  promise.catch(() => {});
  return { promise, ...(settle as unknown as Pick<Deferred, 'resolve' | 'reject'>) };
}
