import { Fd, O, syscall } from '@iso/sys';
import type { ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** Of sockaddr_un. */
const LONGEST = 107;

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
  const bytes = Buffer.from(path);
  if (bytes.length > LONGEST) throw new RuntimeError(`the path of the console socket is longer than ${LONGEST} bytes`);
  const socket = Fd.own(syscall('socket', AF_UNIX, SOCK_STREAM | O.CLOEXEC, 0));
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF_UNIX);
  bytes.copy(address, 2);
  try {
    syscall('connect', socket, address, address.length);
  } catch (error) {
    socket.close();
    throw new RuntimeError(`console socket ${path}: ${(error as Error).message}`, { cause: error });
  }
  return { console: socket, ...sizeOf(process_) };
}

function sizeOf({ consoleSize }: ProcessConfig): Pick<ConsoleOptions, 'terminal'> {
  return consoleSize ? { terminal: { columns: consoleSize.width, rows: consoleSize.height } } : {};
}
