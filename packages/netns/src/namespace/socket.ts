import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { Socket } from 'node:net';
import { AF, type Fd, invalid, SOCK, syscall } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import { socketAddress } from './address.js';
import { type AsyncPlace, bound, boundAsync, type Place } from './server.js';

/** Whom to connect to, from inside. */
export interface ConnectOptions {
  /** An IP address, default `127.0.0.1`. A name would be looked up outside. */
  host?: string;
  port: number;
  /** Address and port to connect from. */
  localAddress?: string;
  localPort?: number;
  /** As in `net.Socket`. */
  allowHalfOpen?: boolean;
  /** Destroys the socket. */
  signal?: AbortSignal;
}

const LOOPBACK = '127.0.0.1';

/**
 * A `net.Socket` that connects from inside: `connect` or `error` follow as with any other.
 *
 * @param place - the namespace
 * @param options - whom to connect to
 * @returns the socket, connecting
 * @throws KernelError where the socket cannot be made or bound; `TypeError` for a host that is no address
 */
export function connect(place: Place, options: ConnectOptions): Socket {
  return connectBy(place.socket(domainOf(options), SOCK.STREAM | SOCK.NONBLOCK), options);
}

/** The same while the event loop goes on. */
export async function connectAsync(place: AsyncPlace, options: ConnectOptions): Promise<Socket> {
  return connectBy(await place.socketAsync(domainOf(options), SOCK.STREAM | SOCK.NONBLOCK), options);
}

/** What is no address or port is refused before a socket is made. */
function domainOf({ host = LOOPBACK, port }: ConnectOptions): number {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid(`a port is 1 to 65535, not ${port}`);
  return familyOf(host) === 4 ? AF.INET : AF.INET6;
}

function connectBy(fd: Fd, options: ConnectOptions): Socket {
  const { host = LOOPBACK, port, localAddress, localPort = 0, allowHalfOpen, signal } = options;
  try {
    if (localAddress !== undefined || localPort !== 0) {
      const address = socketAddress(localAddress ?? (familyOf(host) === 4 ? '0.0.0.0' : '::'), localPort);
      syscall('bind', fd, address, address.length);
    }
  } catch (error) {
    fd.close();
    throw error;
  }
  const socket = new Socket({
    fd: fd.release(),
    ...(allowHalfOpen !== undefined && { allowHalfOpen }),
    ...(signal && { signal }),
  });
  // With several addresses Node would make sockets of its own, outside.
  return socket.connect({ host, port, autoSelectFamily: false } as Parameters<Socket['connect']>[0] & object);
}

/** Where a datagram socket is bound inside. */
export interface DatagramOptions {
  /** An IP address, default `0.0.0.0`. */
  host?: string;
  /** 0, the default, takes a free one. */
  port?: number;
  /** With an IPv6 address: no IPv4. */
  ipv6Only?: boolean;
  /** Ends it. */
  signal?: AbortSignal;
}

/**
 * A `dgram.Socket` that is bound inside. It is bound already: no `listening` is to be waited for. Send to IP addresses: names would
 * be looked up outside.
 *
 * @param place - the namespace
 * @param options - address and port
 * @returns the socket
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export function datagram(place: Place, options: DatagramOptions = {}): DatagramSocket {
  return datagramBy(bound(place, SOCK.DGRAM, bindingOf(options)), options);
}

/** The same while the event loop goes on. */
export async function datagramAsync(place: AsyncPlace, options: DatagramOptions = {}): Promise<DatagramSocket> {
  return datagramBy(await boundAsync(place, SOCK.DGRAM, bindingOf(options)), options);
}

function bindingOf({ host = '0.0.0.0', port = 0, ipv6Only }: DatagramOptions) {
  return { host, port, ...(ipv6Only !== undefined && { ipv6Only }) };
}

function datagramBy(fd: Fd, { host = '0.0.0.0', signal }: DatagramOptions): DatagramSocket {
  const socket = createSocket({
    type: familyOf(host) === 4 ? 'udp4' : 'udp6',
    lookup: refuseNames,
    ...(signal && { signal }),
  });
  socket.bind({ fd: fd.release() });
  return socket;
}

function refuseNames(
  host: string,
  _options: object,
  callback: (error: NodeJS.ErrnoException | null, address: string, family: number) => void,
): void {
  try {
    callback(null, host, familyOf(host));
  } catch (error) {
    callback(error as NodeJS.ErrnoException, '', 0);
  }
}
