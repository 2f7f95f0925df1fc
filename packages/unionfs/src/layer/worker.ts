// Entry of the worker thread that unpacks one layer, see unpack.ts.
import { readSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { packError } from './transport.js';
import { type UnpackSettings, unpack } from './unpacker.js';

/** What the worker is given. */
export interface Job {
  directory: number;
  settings: UnpackSettings;
  /** A descriptor to read from, or nothing: then chunks come by messages. */
  source: number | undefined;
}

/** What the worker is sent while it runs. */
export type Order = { chunk: Uint8Array } | { end: true } | { abort: true };

const port = parentPort;
if (!port) throw new Error('this is the entry of a worker thread');
const { directory, settings, source } = workerData as Job;
const chunks: Uint8Array[] = [];
let ended = false;
let aborted = false;
let wake = () => {};

function take(order: Order): void {
  if ('chunk' in order) chunks.push(order.chunk);
  else if ('end' in order) ended = true;
  else aborted = true;
  wake();
}
port.on('message', take);

async function* received(): AsyncGenerator<Uint8Array, void, undefined> {
  for (;;) {
    const chunk = chunks.shift();
    if (chunk) {
      yield chunk;
      port?.postMessage({ taken: true });
    } else if (ended || aborted) return;
    else await new Promise<void>((resolve) => (wake = resolve));
  }
}

/** A thread of its own may wait for the disk. */
async function* read(fd: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (;;) {
    const chunk = Buffer.allocUnsafeSlow(CHUNK);
    const length = readSync(fd, chunk, 0, chunk.length, null);
    if (length === 0) return;
    yield chunk.subarray(0, length);
  }
}

const CHUNK = 256 * 1024;
let told = 0;
try {
  const result = await unpack(source === undefined ? received() : read(source), directory, settings, {
    progress: (at) => {
      const now = performance.now();
      if (now - told < 50) return;
      told = now;
      port.postMessage({ progress: { ...at } });
    },
    warning: (warning) => port.postMessage({ warning }),
    check: () => {
      // Where nothing is waited for, no message arrives by itself.
      for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) take(next.message as Order);
      if (aborted) throw new Error('aborted');
    },
  });
  port.postMessage({ result });
} catch (error) {
  port.postMessage({ error: packError(error) });
}
port.close();
