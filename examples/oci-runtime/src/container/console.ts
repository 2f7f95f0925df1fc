import type { Fd } from '@iso/sys';
import type { ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';
import { connectTo } from './socket.js';

/** The terminal of a process: what of `spawn`'s options makes it. */
export interface ConsoleOptions {
  console?: Fd | 'pty';
  terminal?: { columns: number; rows: number };
}

/**
 * Where the terminal of a process goes: by a socket, to which this connects, or to this process.
 *
 * @param process_ - as it was described
 * @param path - of the socket, undefined where none was given
 * @param here - whether this process waits for its end, and takes the terminal where there is no socket
 * @returns options of `spawn`; a socket is the caller's to close
 * @throws {@link RuntimeError} where a terminal and its socket do not go together
 */
export function consoleOf(process_: ProcessConfig, path: string | undefined, here: boolean): ConsoleOptions {
  if (!process_.terminal) {
    if (path === undefined) return {};
    throw new RuntimeError('a console socket for a process without a terminal');
  }
  if (path === undefined) {
    if (here) return { console: 'pty', ...sizeOf(process_) };
    throw new RuntimeError('a process with a terminal needs a --console-socket');
  }
  return { console: connectTo(path, 'console socket'), ...sizeOf(process_) };
}

function sizeOf({ consoleSize }: ProcessConfig): Pick<ConsoleOptions, 'terminal'> {
  return consoleSize ? { terminal: { columns: consoleSize.width, rows: consoleSize.height } } : {};
}
