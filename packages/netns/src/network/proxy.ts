import type { Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { familyOf } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import { listenAsync } from '../namespace/server.js';
import { connectAsync, datagramAsync } from '../namespace/socket.js';
import { DatagramPort, type Sender } from './datagram-port.js';

/** What passes traffic on, from a port of one namespace to one of another. */
export interface PortProxy {
  /** Port on which it listens. */
  readonly port: number;
  /** Ends it, and what it passes on. */
  close(): Promise<void>;
}

/** An address and a port of a namespace. */
export interface Place {
  netns: NetNS;
  host: string;
  port: number;
}

const SESSIONS = 1024;
/** Datagrams of one sender that wait for its socket, which is made in less than a millisecond. */
const WAITING = 64;
const IDLE = 60_000;

/** Who sends datagrams: the socket that does so inside, once it is there. */
interface Session {
  inner?: DatagramSocket;
  waiting: Buffer[];
  timer: NodeJS.Timeout;
  opened: Promise<void>;
}

/**
 * Passes TCP connections on. Each way of one ends on its own.
 *
 * @param from - where to listen; port 0 takes a free one
 * @param to - where to connect
 * @returns it, listening
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export async function proxyStreams(from: Place, to: Place): Promise<PortProxy> {
  const connections = new Set<Socket>();
  const starting = new Set<Promise<void>>();
  const pass = async (outer: Socket) => {
    hold(connections, outer);
    // It may hang up before there is anybody to be told.
    outer.on('error', () => outer.destroy());
    let inner: Socket;
    try {
      inner = await connectAsync(to.netns, { host: to.host, port: to.port, allowHalfOpen: true });
    } catch {
      // No descriptor is left, or the namespace was let go: to the client that is a refusal, to this process no end.
      outer.destroy();
      return;
    }
    hold(connections, inner);
    if (outer.destroyed) {
      inner.destroy();
      return;
    }
    // A refusal inside is one outside, and the other way round.
    const done = (error: Error | null | undefined) => {
      if (!error) return;
      outer.destroy();
      inner.destroy();
    };
    pipeline(outer, inner, done);
    pipeline(inner, outer, done);
  };
  const only = familyOf(from.host) === 6 ? { ipv6Only: true } : {};
  const server = await listenAsync(
    from.netns,
    { host: from.host, port: from.port, allowHalfOpen: true, ...only },
    (outer) => {
      const started = pass(outer).finally(() => starting.delete(started));
      starting.add(started);
    },
  );
  if (!server.listening) await once(server, 'listening');
  // A connection that cannot be accepted for want of descriptors waits, or ends.
  server.on('error', () => {});
  const { port } = server.address() as { port: number };
  return {
    port,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const connection of connections) connection.destroy();
      await Promise.all([closed, ...starting]);
    },
  };
}

function hold(connections: Set<Socket>, socket: Socket): void {
  connections.add(socket);
  socket.on('close', () => connections.delete(socket));
}

/**
 * Passes datagrams on: for each that sends, a socket of its own, by which answers find back, until nothing came for a minute.
 *
 * @param from - where to receive; port 0 takes a free one
 * @param to - where to send
 * @returns it, receiving
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export async function proxyDatagrams(from: Place, to: Place): Promise<PortProxy> {
  const sessions = new Map<string, Session>();
  const end = (key: string, session = sessions.get(key)) => {
    if (!session || sessions.get(key) !== session) return;
    sessions.delete(key);
    clearTimeout(session.timer);
    session.inner?.close();
  };
  const open = async (session: Session, { key, reply }: Sender) => {
    // No descriptor is left, or the namespace was let go: the datagrams get lost.
    const made = datagramAsync(to.netns, { host: familyOf(to.host) === 4 ? '0.0.0.0' : '::' });
    const inner = await made.catch(() => undefined);
    if (!inner) return end(key, session);
    // Nobody listens, inside or any more outside: datagrams get lost.
    inner.on('error', () => end(key, session));
    inner.on('message', (bytes, peer) => {
      if (peer.port !== to.port) return;
      session.timer.refresh();
      reply(bytes);
    });
    // It ended before it began.
    if (sessions.get(key) !== session) return void inner.close();
    session.inner = inner;
    for (const bytes of session.waiting.splice(0)) inner.send(bytes, to.port, to.host, () => {});
  };
  const start = (sender: Sender) => {
    const { key } = sender;
    // The oldest makes room: a flood of senders must not take all descriptors.
    if (sessions.size >= SESSIONS) end(sessions.keys().next().value as string);
    const timer = setTimeout(() => end(key), IDLE).unref();
    const session: Session = { waiting: [], timer, opened: Promise.resolve() };
    sessions.set(key, session);
    session.opened = open(session, sender);
    return session;
  };
  const options = { host: from.host, port: from.port, ...(familyOf(from.host) === 6 && { ipv6Only: true }) };
  const outer = await DatagramPort.open(from.netns, options, (bytes, sender) => {
    const session = sessions.get(sender.key) ?? start(sender);
    session.timer.refresh();
    if (session.inner) session.inner.send(bytes, to.port, to.host, () => {});
    else if (session.waiting.length < WAITING) session.waiting.push(bytes);
  });
  return {
    port: outer.port,
    close: async () => {
      const opened = [...sessions.values()].map((session) => session.opened);
      for (const key of [...sessions.keys()]) end(key);
      outer.close();
      await Promise.all(opened);
    },
  };
}
