import { Fd, O, syscall } from '@iso/sys';
import type { ProcessConfig } from '../config/spec.js';
import { RuntimeError } from '../error.js';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
/** Of sockaddr_un. */
const LONGEST = 107;

/** The terminal of a process: what of `spawn`'s options makes it. */
export interface ConsoleOptions {
  console?: Fd;
  terminal?: { columns: number; rows: number };
}

/**
 * Connects to the socket that is to get a process's terminal.
 *
 * @param process_ - as it was described
 * @param path - of the socket, undefined where none was given
 * @returns options of `spawn`; the socket is the caller's to close
 * @throws {@link RuntimeError} where a terminal and its socket do not go together
 */
export function connectConsole({ terminal, consoleSize }: ProcessConfig, path: string | undefined): ConsoleOptions {
  if (!terminal) {
    if (path === undefined) return {};
    throw new RuntimeError('a console socket for a process without a terminal');
  }
  if (path === undefined) throw new RuntimeError('a process with a terminal needs a --console-socket');
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
  return {
    console: socket,
    ...(consoleSize ? { terminal: { columns: consoleSize.width, rows: consoleSize.height } } : {}),
  };
}
