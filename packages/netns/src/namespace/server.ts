import { createServer as createNetServer, type Server, type ServerOpts, type Socket } from 'node:net';
import { type Fd, syscall } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import { AF, SOCK, SOL } from '../netlink/raw.js';
import { socketAddress } from './address.js';
import { IPPROTO_IPV6, IPV6_V6ONLY, SO } from './raw.js';

/** Where a socket is made. */
export interface Place {
  socket(domain: number, type: number, protocol?: number): Fd;
}

/** Where a server listens inside. */
export interface ListenOptions extends ServerOpts {
  /** 0, the default, takes a free one. */
  port?: number;
  /** An IP address, default `::`, which takes IPv4 too. A name would be looked up outside. */
  host?: string;
  /** Connections that may wait, default 511. */
  backlog?: number;
  /** With an IPv6 address: no IPv4. */
  ipv6Only?: boolean;
}

const one = Buffer.from([1, 0, 0, 0]);
const zero = Buffer.alloc(4);

/** An owned socket in the place, bound. */
export function bound(place: Place, type: number, options: { host: string; port: number; ipv6Only?: boolean }): Fd {
  const six = familyOf(options.host) === 6;
  const address = socketAddress(options.host, options.port);
  const fd = place.socket(six ? AF.INET6 : AF.INET, type | SOCK.NONBLOCK);
  try {
    if (type === SOCK.STREAM) syscall('setsockopt', fd, SOL.SOCKET, SO.REUSEADDR, one, 4);
    if (six) syscall('setsockopt', fd, IPPROTO_IPV6, IPV6_V6ONLY, options.ipv6Only ? one : zero, 4);
    syscall('bind', fd, address, address.length);
  } catch (error) {
    fd.close();
    throw error;
  }
  return fd;
}

/**
 * A `net.Server` that listens inside: the socket is made and bound there, then handed to Node.
 *
 * @param place - the namespace
 * @param options - port, address, and what `net.createServer` takes
 * @param onConnection - told of each connection
 * @returns the server; `listening` follows as with any other
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export function listen(place: Place, options: ListenOptions, onConnection?: (socket: Socket) => void): Server {
  const { port = 0, host = '::', backlog, ipv6Only, ...rest } = options;
  const fd = bound(place, SOCK.STREAM, { host, port, ...(ipv6Only !== undefined && { ipv6Only }) });
  const server = createNetServer(rest, onConnection);
  // From here on libuv owns the number.
  server.listen({ fd: fd.release(), ...(backlog !== undefined && { backlog }) });
  return server;
}
