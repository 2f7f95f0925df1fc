// Entry of the worker thread that unpacks layers, one after the other, see unpack.ts and thread.ts.
import { readSync } from 'node:fs';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import { packError } from './transport.js';
import { type LayerSource, type UnpackSettings, unpack } from './unpacker.js';

/** What the worker is given. */
export interface Job {
  directory: number;
  settings: UnpackSettings;
  /** A descriptor to read from, or nothing: then chunks come by messages. */
  source: number | undefined;
}

/** What the worker is sent: a job, and what belongs to it; a job's end is its result or error. */
export type Order = { job: Job } | { chunk: Uint8Array } | { end: true } | { abort: true } | { stop: true };

const port = parentPort;
if (!port) throw new Error('this is the entry of a worker thread');
let chunks: Uint8Array[] = [];
let ended = false;
let aborted = false;
let wake = () => {};

function take(order: Order): void {
  if ('job' in order) return void run(order.job);
  if ('stop' in order) return port?.close();
  if ('chunk' in order) chunks.push(order.chunk);
  else if ('end' in order) ended = true;
  else aborted = true;
  wake();
}

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
function read(fd: number): LayerSource {
  const source: LayerSource = {
    async *[Symbol.asyncIterator]() {
      for (;;) {
        const chunk = Buffer.allocUnsafeSlow(CHUNK);
        const length = fill(fd, chunk);
        if (length > 0) yield chunk.subarray(0, length);
        if (length < CHUNK) return;
        if (source.rest) return yield* source.rest(fd);
      }
    },
  };
  return source;
}

/** A pipe gives less than is asked for. */
function fill(fd: number, chunk: Buffer): number {
  let have = 0;
  while (have < chunk.length) {
    const length = readSync(fd, chunk, have, chunk.length - have, null);
    if (length === 0) break;
    have += length;
  }
  return have;
}

const CHUNK = 256 * 1024;

async function run({ directory, settings, source }: Job): Promise<void> {
  // What was meant for the last job has come before this one.
  chunks = [];
  ended = false;
  aborted = false;
  let told = 0;
  let implied: Buffer[] = [];
  try {
    const result = await unpack(source === undefined ? received() : read(source), directory, settings, {
      progress: (at) => {
        const now = performance.now();
        if (now - told < 50) return;
        told = now;
        port?.postMessage({ progress: { ...at } });
      },
      warning: (warning) => port?.postMessage({ warning }),
      implied: (directories) => void (implied = directories),
      check: () => {
        // Where nothing is waited for, no message arrives by itself.
        for (let next = takeNext(); next; next = takeNext()) take(next.message as Order);
        if (aborted) throw new Error('aborted');
      },
    });
    port?.postMessage({ result });
  } catch (error) {
    port?.postMessage({ error: packError(error), implied });
  }
}

const takeNext = () => port && receiveMessageOnPort(port);
port.on('message', take);
