import { attempt, type Fd, KernelError, MSG } from '@iso/sys';

const EAGAIN = -11;
const EINTR = -4;
const ENOBUFS = -105;
const EMSGSIZE = 90;
const ADDRESS_SIZE = 12;
const LARGEST_DATAGRAM = 2 ** 24;
const DRAIN_READS = 100_000;
const DRAIN_FLAGS = MSG.DONTWAIT | MSG.TRUNC;

// The kernel never writes a larger part of a dump. One for all sockets: an exchange runs to its end before another starts.
let buffer = Buffer.alloc(32 * 1024);
const sender = Buffer.alloc(ADDRESS_SIZE);
const senderLength = Buffer.alloc(4);

/**
 * What {@link receive} read last.
 *
 * @returns the buffer that all sockets share; the next datagram overwrites it
 */
export function datagram(): Buffer {
  return buffer;
}

/**
 * Reads one datagram into the buffer that all sockets share.
 *
 * @param fd - the socket
 * @returns its length; 0 where nothing waits, negative where it did not come from the kernel
 * @throws KernelError `ENOBUFS` where datagrams were lost, `EMSGSIZE` where one was cut: the buffer has grown then
 */
export function receive(fd: Fd): number {
  senderLength.writeUInt32LE(ADDRESS_SIZE);
  const length = attempt('recvfrom', fd, buffer, buffer.length, MSG.TRUNC | MSG.DONTWAIT, sender, senderLength);
  if (length === EAGAIN) return 0;
  if (length === EINTR) return -1;
  if (length < 0) {
    throw new KernelError(length, {
      syscall: 'recvfrom',
      ...(length === ENOBUFS && { hint: 'replies were lost: the receive buffer of the socket was full' }),
    });
  }
  if (length > buffer.length) {
    const size = buffer.length;
    if (length <= LARGEST_DATAGRAM) buffer = Buffer.alloc(length);
    throw new KernelError(EMSGSIZE, {
      syscall: 'recvfrom',
      hint: `a reply of ${length} bytes met a buffer of ${size}: ask again`,
    });
  }
  // Any process may send to the address of a netlink socket.
  return sender.readUInt32LE(4) === 0 ? length : -1;
}

/**
 * Reads away what is left of an answer, so that it does not meet the next request.
 *
 * @param fd - the socket
 */
export function drain(fd: Fd): void {
  for (let i = 0; i < DRAIN_READS && attempt('recvfrom', fd, buffer, 0, DRAIN_FLAGS, null, null) >= 0; i++);
}
