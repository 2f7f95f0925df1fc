import { AF, addressOf, Fd, MSG, O, SCM, SO, SOCK, SOL, syscall } from '@iso/sys';
import { RuntimeError } from '../error.js';

/** Of sockaddr_un. */
const LONGEST = 107;
/** A peer that takes nothing is not waited for any longer. */
const PATIENCE_S = 10;

/**
 * Connects to a Unix socket.
 *
 * @param path - of the socket
 * @param what - it is, for the error
 * @returns the connection, the caller's to close
 * @throws {@link RuntimeError} where nobody listens there
 */
export function connectTo(path: string, what: string): Fd {
  const bytes = Buffer.from(path);
  if (bytes.length > LONGEST) throw new RuntimeError(`the path of the ${what} is longer than ${LONGEST} bytes`);
  const socket = Fd.own(syscall('socket', AF.UNIX, SOCK.STREAM | O.CLOEXEC, 0));
  const address = Buffer.alloc(2 + bytes.length + 1);
  address.writeUInt16LE(AF.UNIX);
  bytes.copy(address, 2);
  const patience = Buffer.alloc(16);
  patience.writeBigInt64LE(BigInt(PATIENCE_S));
  try {
    syscall('setsockopt', socket, SOL.SOCKET, SO.SNDTIMEO, patience, patience.length);
    syscall('connect', socket, address, address.length);
  } catch (error) {
    socket.close();
    throw new RuntimeError(`${what} ${path}: ${(error as Error).message}`, { cause: error });
  }
  return socket;
}

/**
 * Sends text, with a descriptor beside its beginning: SCM_RIGHTS of unix(7).
 *
 * @param socket - connected
 * @param text - to send
 * @param fd - that the other side gets a copy of
 * @throws KernelError where it does not take them
 */
export function sendBeside(socket: Fd, text: string, fd: Fd): void {
  // In memory that stays where it is: struct msghdr, one vector, what comes beside, and the text.
  const [vector, control, begin] = [56, 72, 96];
  const bytes = Buffer.from(text);
  const own = Buffer.from(new ArrayBuffer(begin + bytes.length));
  bytes.copy(own, begin);
  const address = addressOf(own);
  const at = (offset: number) => address + BigInt(offset);
  own.writeBigUInt64LE(at(vector), 16);
  own.writeBigUInt64LE(1n, 24);
  own.writeBigUInt64LE(at(control), 32);
  own.writeBigUInt64LE(24n, 40);
  own.writeBigUInt64LE(at(begin), vector);
  own.writeBigUInt64LE(BigInt(bytes.length), vector + 8);
  own.writeBigUInt64LE(20n, control);
  own.writeInt32LE(SOL.SOCKET, control + 8);
  own.writeInt32LE(SCM.RIGHTS, control + 12);
  own.writeInt32LE(fd.number, control + 16);
  let sent = syscall('sendmsg', socket, own, MSG.NOSIGNAL);
  while (sent < bytes.length)
    sent += syscall('sendto', socket, bytes.subarray(sent), bytes.length - sent, MSG.NOSIGNAL, null, 0);
}
