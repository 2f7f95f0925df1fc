import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { invalid } from '@iso/sys';
import { Conntrack } from '../conntrack/index.js';
import { familyOf } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import type { Firewall } from './firewall.js';

/** A port to publish. */
export interface PublishOptions {
  /** Port of the endpoint. */
  port: number;
  /** Port of the host; default a free one. */
  hostPort?: number;
  /** Address of the host; default `127.0.0.1`, which only the host itself reaches. `0.0.0.0` and `::` are all of a family. */
  host?: string;
  /**
   * `proxy` passes bytes on in this process, and reaches services on the endpoint's own loopback; it is the default, and all there is
   * for addresses of the loopback. `nat` lets the kernel translate, which is faster, and keeps the client's address.
   */
  mode?: 'nat' | 'proxy';
}

/** A published TCP port. Disposing takes it back. */
export interface Publication extends AsyncDisposable {
  readonly host: string;
  readonly hostPort: number;
  readonly port: number;
  readonly mode: 'nat' | 'proxy';
  /** Takes it back: connections that go through the proxy end, and flows that the kernel translates are forgotten. */
  close(): Promise<void>;
}

/** What an endpoint is to a publication. */
interface Target {
  host: NetNS;
  netns: NetNS;
  address: (family: 4 | 6) => string | undefined;
  firewall: Firewall;
}

const TCP = 6;

/**
 * Publishes a TCP port. In both modes a server of this process listens on it, so that the port is really taken; with `nat`, what
 * the kernel does not translate (the host's own loopback) goes through that.
 *
 * @param target - the endpoint
 * @param options - which port
 * @returns the publication, listening
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export async function publish(target: Target, options: PublishOptions): Promise<Publication> {
  const { port, host = '127.0.0.1' } = options;
  const family = familyOf(host);
  const loopback = host.startsWith('127.') || host === '::1';
  const mode = options.mode ?? 'proxy';
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid(`a port is 1 to 65535, not ${port}`);
  if (mode === 'nat' && loopback)
    throw invalid('what is sent to the loopback cannot be translated: publish it by proxy');
  const address = target.address(family);
  if (mode === 'nat' && address === undefined) throw invalid(`the endpoint has no IPv${family} address`);

  const connections = new Set<Socket>();
  const to = mode === 'nat' ? (address as string) : '127.0.0.1';
  const listen = { host, port: options.hostPort ?? 0, allowHalfOpen: true, ...(family === 6 && { ipv6Only: true }) };
  const server = target.host.listen(listen, (socket) => pass(socket, target.netns, to, port, connections));
  await once(server, 'listening');
  const { port: hostPort } = server.address() as { port: number };

  let stop: (() => void) | undefined;
  if (mode === 'nat') {
    const all = host === '0.0.0.0' || host === '::';
    try {
      stop = target.firewall.forward({
        protocol: 'tcp',
        host: all ? undefined : host,
        hostPort,
        address: address as string,
        port,
        family,
      });
      forget(target.host, family, hostPort, all ? undefined : host);
    } catch (error) {
      server.close();
      throw error;
    }
  }
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= (async () => {
      stop?.();
      if (stop) forget(target.host, family, hostPort, host === '0.0.0.0' || host === '::' ? undefined : host);
      await end(server, connections);
    })();
    return closed;
  };
  return { host, hostPort, port, mode, close, [Symbol.asyncDispose]: close };
}

/** Passes a connection on, both ways; each way ends on its own. */
function pass(socket: Socket, netns: NetNS, host: string, port: number, connections: Set<Socket>): void {
  const inner = netns.connect({ host, port, allowHalfOpen: true });
  for (const each of [socket, inner]) {
    connections.add(each);
    each.on('close', () => connections.delete(each));
  }
  // The end of one is the end of the other; a refusal inside is one outside.
  const done = (error: Error | null | undefined) => {
    if (!error) return;
    socket.destroy();
    inner.destroy();
  };
  pipeline(socket, inner, done);
  pipeline(inner, socket, done);
}

async function end(server: Server, connections: ReadonlySet<Socket>): Promise<void> {
  const closed = once(server, 'close');
  server.close();
  for (const connection of connections) connection.destroy();
  await closed;
}

/** What the kernel remembers would go on as before: to the old place, or to none. */
function forget(host: NetNS, family: 4 | 6, port: number, destination: string | undefined): void {
  using conntrack = Conntrack.open({ home: host });
  const filter = { family, protocol: TCP, destinationPort: port, ...(destination !== undefined && { destination }) };
  conntrack.removeAll(filter);
}
