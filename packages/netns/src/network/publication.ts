import { invalid } from '@iso/sys';
import { Conntrack } from '../conntrack/index.js';
import { type Family, familyOf } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import type { Firewall } from './firewall.js';
import { proxyDatagrams, proxyStreams } from './proxy.js';

/** A port to publish. */
export interface PublishOptions {
  /** Port of the endpoint. */
  port: number;
  /** Default `tcp`. */
  protocol?: 'tcp' | 'udp';
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

/** A published port. Disposing takes it back. */
export interface Publication extends AsyncDisposable {
  readonly protocol: 'tcp' | 'udp';
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
  address: (family: Family) => string | undefined;
  firewall: Firewall;
}

const PROTOCOLS = { tcp: 6, udp: 17 } as const;

/**
 * Publishes a port. In both modes a proxy of this process holds it, so that it is really taken; with `nat`, what the kernel does not
 * translate (from the host's own loopback) goes through that.
 *
 * @param target - the endpoint
 * @param options - which port
 * @returns the publication, in force
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export async function publish(target: Target, options: PublishOptions): Promise<Publication> {
  const { port, protocol = 'tcp', host = '127.0.0.1', mode = 'proxy' } = options;
  const family = familyOf(host);
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid(`a port is 1 to 65535, not ${port}`);
  if (mode === 'nat' && (host.startsWith('127.') || host === '::1'))
    throw invalid('what is sent to the loopback cannot be translated: publish it by proxy');
  const address = target.address(family);
  if (mode === 'nat' && address === undefined) throw invalid(`the endpoint has no IPv${family} address`);

  const from = { netns: target.host, host, port: options.hostPort ?? 0 };
  const to = { netns: target.netns, host: mode === 'nat' ? (address as string) : '127.0.0.1', port };
  const proxy = protocol === 'tcp' ? await proxyStreams(from, to) : proxyDatagrams(from, to);
  const { port: hostPort } = proxy;

  let stop: (() => void) | undefined;
  if (mode === 'nat') {
    const destination = host === '0.0.0.0' || host === '::' ? undefined : host;
    const forwarding = { protocol, host: destination, hostPort, address: address as string, port, family };
    const forget = () => forgetFlows(target.host, family, PROTOCOLS[protocol], hostPort, destination);
    try {
      const undo = target.firewall.forward(forwarding);
      stop = () => {
        undo();
        forget();
      };
      // A client that tried before would go on as before.
      forget();
    } catch (error) {
      stop?.();
      await proxy.close();
      throw error;
    }
  }
  let closed: Promise<void> | undefined;
  const close = () => {
    if (!closed) {
      stop?.();
      closed = proxy.close();
    }
    return closed;
  };
  return { protocol, host, hostPort, port, mode, close, [Symbol.asyncDispose]: close };
}

/** What the kernel remembers would go on as before: to the old place, or to none. */
function forgetFlows(
  host: NetNS,
  family: Family,
  protocol: number,
  destinationPort: number,
  destination: string | undefined,
): void {
  using conntrack = Conntrack.open({ home: host });
  conntrack.removeAll({ family, protocol, destinationPort, ...(destination !== undefined && { destination }) });
}
