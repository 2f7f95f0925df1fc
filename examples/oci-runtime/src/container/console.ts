import { addressOf, Fd, O, syscall } from '@iso/sys';
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

/** A terminal whose master comes to this process. */
export interface OwnConsole extends ConsoleOptions {
  console: Fd;
  /** Takes the master, once the process has started. */
  master(): Fd;
}

/**
 * Connects to the socket that is to get a process's terminal.
 *
 * @param process_ - as it was described
 * @param path - of the socket, undefined where none was given
 * @returns options of `spawn`; the socket is the caller's to close
 * @throws {@link RuntimeError} where a terminal and its socket do not go together
 */
export function connectConsole(process_: ProcessConfig, path: string | undefined): ConsoleOptions {
  if (!process_.terminal) {
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
  return { console: socket, ...sizeOf(process_) };
}

/**
 * A terminal for a process that is waited for here, and for which nobody gave a socket.
 *
 * @param process_ - as it was described
 * @returns options of `spawn`
 */
export function ownConsole(process_: ProcessConfig): OwnConsole {
  const pair = Buffer.alloc(8);
  syscall('socketpair', AF_UNIX, SOCK_STREAM | O.CLOEXEC, 0, pair);
  const [ours, theirs] = [Fd.own(pair.readInt32LE(0)), Fd.own(pair.readInt32LE(4))];
  return {
    console: theirs,
    ...sizeOf(process_),
    master: () => {
      try {
        return receive(ours);
      } finally {
        ours.close();
      }
    },
  };
}

function sizeOf({ consoleSize }: ProcessConfig): Pick<ConsoleOptions, 'terminal'> {
  return consoleSize ? { terminal: { columns: consoleSize.width, rows: consoleSize.height } } : {};
}

/** A descriptor of a message that has been sent: see unix(7), struct msghdr and struct cmsghdr. */
function receive(socket: Fd): Fd {
  const block = (size: number) => Buffer.from(new ArrayBuffer(size));
  const [text, vector, control, message] = [block(64), block(16), block(24), block(56)];
  vector.writeBigUInt64LE(addressOf(text), 0);
  vector.writeBigUInt64LE(BigInt(text.length), 8);
  message.writeBigUInt64LE(addressOf(vector), 16);
  message.writeBigUInt64LE(1n, 24);
  message.writeBigUInt64LE(addressOf(control), 32);
  message.writeBigUInt64LE(BigInt(control.length), 40);
  syscall('recvmsg', socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (message.readBigUInt64LE(40) < 20n) throw new RuntimeError('the terminal of the process has not come');
  return Fd.own(control.readInt32LE(16));
}

const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
