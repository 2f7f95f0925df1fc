import { constants, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { kernel } from '../file/node.js';

/** Bytes of a FIFO; disposing it ends the wait for more. */
export type Fifo = AsyncIterable<Buffer> & Disposable;

/**
 * Opens a path if it is one of a FIFO: whoever reads that in a call of the kernel is not to be reached until its writer goes on.
 *
 * @param path - of anything
 * @returns its bytes, as they come; nothing where it is something else
 * @throws KernelError `ENOENT` …
 */
export async function openFifo(path: string): Promise<Fifo | undefined> {
  if (!(await kernel(stat(path))).isFIFO()) return undefined;
  // Waits for no writer, which the first bytes are waited for anyway.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const socket = new Socket({ fd, readable: true, writable: false });
  return Object.assign(socket as AsyncIterable<Buffer>, { [Symbol.dispose]: () => void socket.destroy() });
}
