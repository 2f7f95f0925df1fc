import { open } from 'node:fs/promises';
import { Fd } from '@iso/sys';
import { checkArgument } from '../file/argument.js';
import { kernel } from '../file/node.js';
import type { ExtractWarning } from './extract.js';
import { openFifo } from './fifo.js';
import { LayerThread } from './thread.js';
import { type PackedError, unpackError } from './transport.js';
import type { Unpacked, UnpackProgress, UnpackSettings } from './unpacker.js';
import type { Order } from './worker.js';

/** How {@link unpackLayer} works. */
export interface UnpackOptions extends UnpackSettings {
  /** Gives up: what was unpacked so far stays in the directory. */
  signal?: AbortSignal;
  /** Thread that does it, where several layers are unpacked one after the other; default one of its own. */
  thread?: LayerThread;
  /** Told now and then how far it is. */
  onProgress?: (at: UnpackProgress) => void;
  /** Told what was not made as the archive says. */
  onWarning?: (warning: ExtractWarning) => void;
  /** Told at the end, also where it fails: {@link Unpacked.implied}, for who goes on in the same directory. */
  onImplied?: (directories: Buffer[]) => void;
}

type Report =
  | { progress: UnpackProgress }
  | { warning: ExtractWarning }
  | { taken: true }
  | { result: Unpacked }
  | { error: PackedError; implied: Uint8Array[] };

/** Chunks that are on their way to the worker before it has taken one. */
const AHEAD = 8;

/**
 * Unpacks a layer, or any tar archive, compressed or not, below a directory. It runs in a thread of its own: decompression, hashes
 * and files at once, and this thread stays free. Nothing outside of the directory is reached, whatever the archive holds. Where this
 * fails, the directory holds a part of the layer: unpack into a fresh one and rename it when it is complete.
 *
 * Owners other than the caller and devices need root, or a user namespace.
 *
 * @param source - path of a file, or bytes as they come
 * @param directory - where it goes; it exists
 * @param options - see {@link UnpackOptions}
 * @returns digests and sizes of what was unpacked
 * @throws ArchiveError for damaged or hostile archives, and where a digest is not the expected one; KernelError `ENOSPC` … with the path;
 * the signal's reason
 *
 * @example
 * ```ts
 * import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
 * import { tarEnd, tarHeader, unpackLayer } from '@iso/unionfs';
 * const directory = mkdtempSync('/tmp/iso-layer-');
 * const hello = { path: Buffer.from('hello'), type: 'file', mode: 0o644, uid: 0, gid: 0, size: 2, mtime: 0n } as const;
 * async function* archive() {
 *   yield tarHeader(hello);
 *   yield Buffer.from('hi'.padEnd(512, '\0'));
 *   yield tarEnd();
 * }
 * const { entries } = await unpackLayer(archive(), directory);
 * const text = readFileSync(`${directory}/hello`, 'utf8');
 * rmSync(directory, { recursive: true });
 * if (entries !== 1 || text !== 'hi') throw new Error('not unpacked');
 * ```
 */
export async function unpackLayer(
  source: string | AsyncIterable<Uint8Array>,
  directory: string | Fd,
  options: UnpackOptions = {},
): Promise<Unpacked> {
  const { signal, thread, onProgress, onWarning, onImplied, ...settings } = options;
  checkArgument('source', source, 'a path or bytes as they come');
  checkArgument('directory', directory, 'a path or an open directory');
  signal?.throwIfAborted();
  using root = typeof directory === 'string' ? Fd.open(directory, { directory: true }) : Fd.borrow(directory);
  using fifo = typeof source === 'string' ? await openFifo(source) : undefined;
  const chunks = typeof source === 'string' ? fifo : source;
  await using file = typeof source === 'string' && !fifo ? await kernel(open(source)) : undefined;
  const own = thread ?? new LayerThread();
  const worker = own.take();
  const order = (message: Order, transfer: ArrayBuffer[] = []) => worker.postMessage(message, transfer);
  const abort = () => order({ abort: true });
  signal?.addEventListener('abort', abort, { once: true });
  let ahead = 0;
  let taken = () => {};
  let over = false;
  let answered = false;
  let gone = () => {};
  const done = new Promise<Unpacked>((resolve, reject) => {
    worker.on('message', (report: Report) => {
      if ('progress' in report) onProgress?.(report.progress);
      else if ('warning' in report) onWarning?.({ ...report.warning, path: Buffer.from(report.warning.path) });
      else if ('taken' in report) {
        ahead--;
        taken();
      } else {
        answered = true;
        taken();
        const told = 'result' in report ? report.result.implied : report.implied;
        const implied = told.map((path) => Buffer.from(path));
        onImplied?.(implied);
        if ('result' in report) resolve({ ...report.result, implied });
        else reject(signal?.aborted ? signal.reason : unpackError(report.error));
      }
    });
    worker.on('error', reject);
    gone = () => {
      over = true;
      taken();
      reject(new Error('the worker thread ended'));
    };
    worker.on('exit', gone);
  });
  done.catch(() => {});
  try {
    order({ job: { directory: root.number, settings, source: file?.fd } });
    if (chunks) await feed(chunks);
    return await done;
  } finally {
    signal?.removeEventListener('abort', abort);
    if (!over && !answered) {
      // It closes what it has open: it must not be left in the middle, nor torn down.
      order({ abort: true });
      await done.catch(() => {});
    }
    worker.off('exit', gone);
    own.give();
    if (!thread) await own.close();
  }

  async function feed(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    const iterator = bytes[Symbol.asyncIterator]();
    // A source that never answers must not hold up the end.
    const ending = done.then(
      () => undefined,
      () => undefined,
    );
    try {
      for (;;) {
        const item = await Promise.race([iterator.next(), ending]);
        if (!item) return;
        if (item.done) break;
        // A copy, which can be given away: small chunks share a pool.
        const copy = Uint8Array.from(item.value);
        ahead++;
        order({ chunk: copy }, [copy.buffer]);
        while (ahead >= AHEAD && !over && !answered) await new Promise<void>((resolve) => (taken = resolve));
      }
      order({ end: true });
    } finally {
      void iterator.return?.();
    }
  }
}
