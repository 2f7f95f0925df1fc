import { Worker } from 'node:worker_threads';
import { invalid } from '@iso/sys';

/**
 * A thread that unpacks layers, for `unpackLayer()`. It is started by the first one; the next ones find it there and its code warm, which
 * saves 0.2 s of processor time each. Dispose it to end it.
 *
 * @example
 * ```ts
 * import { mkdtempSync, rmSync } from 'node:fs';
 * import { LayerThread, tarEnd, unpackLayer } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-thread-');
 * {
 *   await using thread = new LayerThread();
 *   async function* empty() {
 *     yield tarEnd();
 *   }
 *   for (let layer = 0; layer < 3; layer++) await unpackLayer(empty(), directory, { thread });
 * }
 * rmSync(directory, { recursive: true });
 * ```
 */
export class LayerThread implements AsyncDisposable {
  #worker: Worker | undefined;
  #exited: Promise<void> = Promise.resolve();
  #busy = false;

  /**
   * @internal
   * @returns the worker, for one job
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) while it has another one
   */
  take(): Worker {
    if (this.#busy) throw invalid('a thread unpacks one layer at a time: take another one');
    this.#worker ??= this.#start();
    this.#busy = true;
    this.#worker.ref();
    return this.#worker;
  }

  /** @internal The job is over. */
  give(): void {
    this.#busy = false;
    // Not all listeners: Node has its own.
    for (const event of ['message', 'error'] as const) this.#worker?.removeAllListeners(event);
    // It keeps no program from ending.
    this.#worker?.unref();
  }

  /** Ends it; the next layer starts it anew. */
  async close(): Promise<void> {
    this.#worker?.ref();
    this.#worker?.postMessage({ stop: true });
    await this.#exited;
  }

  /** The same as {@link LayerThread.close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #start(): Worker {
    const worker = startWorker();
    this.#exited = new Promise((resolve) => {
      worker.once('exit', () => {
        if (this.#worker === worker) this.#worker = undefined;
        resolve();
      });
    });
    return worker;
  }
}

function startWorker(): Worker {
  if (!import.meta.url.endsWith('.ts')) {
    // A program that was given on Node's command line has an option that files refuse.
    const given = process.execArgv.some((flag) => flag.startsWith('--input-type'));
    return new Worker(new URL('./worker.js', import.meta.url), given ? { execArgv: [] } : {});
  }
  // From the sources, which tests use, the worker needs a loader too.
  const entry = JSON.stringify(new URL('./worker.ts', import.meta.url).href);
  const loader = new URL('../../../../test/loader/register.js', import.meta.url);
  const code = `import('${loader}').then(() => import(${entry}))`;
  return new Worker(code, { eval: true, execArgv: ['--conditions=iso-source'] });
}
