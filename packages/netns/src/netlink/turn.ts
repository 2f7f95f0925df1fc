/** Of the threads of Node's pool, which are four, files and names need some too. */
const AT_ONCE = 2;
let running = 0;
const waiting: (() => void)[] = [];

/**
 * Does something that holds a thread of Node's pool, when its turn has come. What changes links waits for one lock of the kernel anyway, so
 * that more threads would only wait together.
 *
 * @param work - to be done
 * @returns what `work` returns
 */
export async function turn<T>(work: () => Promise<T>): Promise<T> {
  if (running >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  else running += 1;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    // The next one has this one's place.
    if (next) next();
    else running -= 1;
  }
}
