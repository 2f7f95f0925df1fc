import type { Socket as DatagramSocket } from 'node:dgram';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { familyOf } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import { listenAsync } from '../namespace/server.js';
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
const IDLE = 60_000;

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
  const pass = (outer: Socket) => {
    let inner: Socket;
    try {
      inner = to.netns.connect({ host: to.host, port: to.port, allowHalfOpen: true });
    } catch {
      // No descriptor is left, or the namespace was let go: to the client that is a refusal, to this process no end.
      outer.destroy();
      return;
    }
    for (const each of [outer, inner]) {
      connections.add(each);
      each.on('close', () => connections.delete(each));
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
    pass,
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
      await closed;
    },
  };
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
  const sessions = new Map<string, { inner: DatagramSocket; timer: NodeJS.Timeout }>();
  const end = (key: string) => {
    const session = sessions.get(key);
    if (!session) return;
    sessions.delete(key);
    clearTimeout(session.timer);
    session.inner.close();
  };
  const start = ({ key, reply }: Sender) => {
    // The oldest makes room: a flood of senders must not take all descriptors.
    if (sessions.size >= SESSIONS) end(sessions.keys().next().value as string);
    let inner: DatagramSocket;
    try {
      inner = to.netns.datagram({ host: familyOf(to.host) === 4 ? '0.0.0.0' : '::' });
    } catch {
      // As above: the datagram gets lost.
      return undefined;
    }
    const session = { inner, timer: setTimeout(() => end(key), IDLE).unref() };
    // Nobody listens, inside or any more outside: datagrams get lost.
    inner.on('error', () => end(key));
    inner.on('message', (bytes, peer) => {
      if (peer.port !== to.port) return;
      session.timer.refresh();
      reply(bytes);
    });
    sessions.set(key, session);
    return session;
  };
  const options = { host: from.host, port: from.port, ...(familyOf(from.host) === 6 && { ipv6Only: true }) };
  const outer = await DatagramPort.open(from.netns, options, (bytes, sender) => {
    const session = sessions.get(sender.key) ?? start(sender);
    session?.timer.refresh();
    session?.inner.send(bytes, to.port, to.host, () => {});
  });
  return {
    port: outer.port,
    close: async () => {
      for (const key of [...sessions.keys()]) end(key);
      outer.close();
    },
  };
}
