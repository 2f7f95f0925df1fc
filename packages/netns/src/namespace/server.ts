import { createServer as createNetServer, type Server, type ServerOpts, type Socket } from 'node:net';
import { AF, type Fd, SOCK, SOL, syscall } from '@iso/sys';
import { familyOf } from '../ip/ip.js';
import { socketAddress } from './address.js';
import { IPPROTO_IPV6, IPV6_V6ONLY, SO } from './raw.js';

/** Where a socket is made. */
export interface Place {
  socket(domain: number, type: number, protocol?: number): Fd;
}

/** Where a socket is made while the event loop goes on. */
export interface AsyncPlace {
  socketAsync(domain: number, type: number, protocol?: number): Promise<Fd>;
}

interface Binding {
  host: string;
  port: number;
  ipv6Only?: boolean;
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

const BACKLOG = 511;
const one = Buffer.from([1, 0, 0, 0]);
const zero = Buffer.alloc(4);

/** An owned socket in the place, bound. */
export function bound(place: Place, type: number, options: Binding): Fd {
  return bindTo(place.socket(domainOf(options), type | SOCK.NONBLOCK), type, options);
}

/** The same while the event loop goes on. */
export async function boundAsync(place: AsyncPlace, type: number, options: Binding): Promise<Fd> {
  return bindTo(await place.socketAsync(domainOf(options), type | SOCK.NONBLOCK), type, options);
}

function domainOf({ host, port }: Binding): number {
  // What is no address is refused before a socket is made.
  socketAddress(host, port);
  return familyOf(host) === 6 ? AF.INET6 : AF.INET;
}

function bindTo(fd: Fd, type: number, options: Binding): Fd {
  const six = familyOf(options.host) === 6;
  const address = socketAddress(options.host, options.port);
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
  return listenOn(bound(place, SOCK.STREAM, bindingOf(options)), options, onConnection);
}

/** The same while the event loop goes on. */
export async function listenAsync(
  place: AsyncPlace,
  options: ListenOptions,
  onConnection?: (socket: Socket) => void,
): Promise<Server> {
  return listenOn(await boundAsync(place, SOCK.STREAM, bindingOf(options)), options, onConnection);
}

function bindingOf({ port = 0, host = '::', ipv6Only }: ListenOptions): Binding {
  return { host, port, ...(ipv6Only !== undefined && { ipv6Only }) };
}

function listenOn(fd: Fd, options: ListenOptions, onConnection?: (socket: Socket) => void): Server {
  const { port: _port, host: _host, backlog, ipv6Only: _only, ...rest } = options;
  try {
    // Before this another socket may be bound to the same address, and listen first.
    syscall('listen', fd, backlog ?? BACKLOG);
  } catch (error) {
    fd.close();
    throw error;
  }
  const server = createNetServer(rest, onConnection);
  // From here on libuv owns the number.
  server.listen({ fd: fd.release(), ...(backlog !== undefined && { backlog }) });
  return server;
}
