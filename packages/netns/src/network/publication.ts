import { invalid, KernelError } from '@iso/sys';
import type { FlowFilter } from '../conntrack/index.js';
import { type Family, familyOf } from '../ip/ip.js';
import { NetNS } from '../namespace/netns.js';
import type { Forwarding } from './firewall.js';
import { holderOf } from './holder.js';
import { type PortProxy, proxyDatagrams, proxyStreams } from './proxy.js';

/** A port to publish. */
export interface PublishOptions {
  /** Port of the endpoint. */
  port: number;
  /** Default `tcp`. */
  protocol?: 'tcp' | 'udp';
  /** Port of the host, or a range of which a free one is taken; default any free one. */
  hostPort?: number | { from: number; to: number };
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

/** A publication as its endpoint has it. */
export interface Published extends Publication {
  /** The same as `close` where the rules of its network end at this moment: they are not taken out one by one. */
  end(): Promise<void>;
}

const EADDRINUSE = 98;
const PROTOCOLS = { tcp: 6, udp: 17 } as const;

/** What an endpoint is to a publication. */
interface Target {
  host: NetNS;
  netns: NetNS;
  address: (family: Family) => string | undefined;
  /** Lets the kernel translate; undefined where it cannot. */
  translation: Translation | undefined;
}

/** What leads a port of the host to one of an endpoint. */
export interface Translation {
  /** Puts it in force; returns what undoes that. */
  forward(forwarding: Forwarding): Promise<() => Promise<void>>;
  /** Makes the kernel forget the connections that came by a port: they would go on as before, to the old place or to none. */
  forget(flows: FlowFilter): Promise<void>;
}

/**
 * Publishes a port. In both modes a proxy of this process holds it, so that it is really taken; with `nat`, what the kernel does not
 * translate (from the host's own loopback) goes through that.
 *
 * @param target - the endpoint
 * @param options - which port
 * @returns the publication, in force
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`
 */
export async function publish(target: Target, options: PublishOptions): Promise<Published> {
  const { port, protocol = 'tcp', host = '127.0.0.1', mode = 'proxy' } = options;
  const family = familyOf(host);
  portNumber(port);
  const { translation } = target;
  if (mode === 'nat' && !translation) throw invalid('the host does not reach this endpoint: publish it by proxy');
  if (mode === 'nat' && (host.startsWith('127.') || host === '::1'))
    throw invalid('what is sent to the loopback cannot be translated: publish it by proxy');
  const address = target.address(family);
  if (mode === 'nat' && address === undefined) throw invalid(`the endpoint has no IPv${family} address`);

  const to = { netns: target.netns, host: mode === 'nat' ? (address as string) : '127.0.0.1', port };
  const proxy = await firstFree(target.host, { protocol, host }, options.hostPort, (hostPort) => {
    const from = { netns: target.host, host, port: hostPort };
    return protocol === 'tcp' ? proxyStreams(from, to) : proxyDatagrams(from, to);
  });
  const { port: hostPort } = proxy;

  let undo: (() => Promise<void>) | undefined;
  let forget = async () => {};
  if (mode === 'nat' && translation) {
    const destination = host === '0.0.0.0' || host === '::' ? undefined : host;
    const flows = { family, protocol: PROTOCOLS[protocol], destinationPort: hostPort };
    forget = () => translation.forget({ ...flows, ...(destination !== undefined && { destination }) });
    try {
      const from = { protocol, host: destination, hostPort, family };
      undo = await translation.forward({ ...from, address: address as string, port });
      // Who sent datagrams before would go on to the proxy. A connection is made anew, and one from before the port was ours goes on.
      if (protocol === 'udp') await forget();
    } catch (error) {
      await undo?.();
      await proxy.close();
      throw error;
    }
  }
  let closed: Promise<void> | undefined;
  const close = () => {
    closed ??= (async () => {
      try {
        await undo?.();
        await forget();
      } finally {
        await proxy.close();
      }
    })();
    return closed;
  };
  const end = () => {
    closed ??= Promise.all([forget(), proxy.close()]).then(() => {});
    return closed;
  };
  return { protocol, host, hostPort, port, mode, close, end, [Symbol.asyncDispose]: close };
}

/**
 * Publishes a port of a namespace that is in no network, or of one whose network belongs to somebody without privilege: by proxy, so that all
 * it takes is the right to the port. It reaches what listens on the loopback inside too, and sees its clients as coming from there.
 *
 * @param netns - whose port it is
 * @param options - which port, and where; `from` is the namespace where it is taken, default this process's
 * @returns the publication, in force
 * @throws KernelError `EADDRINUSE`, whose hint says who has the port; `EADDRNOTAVAIL`, `EACCES`
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { publishPort } from '@iso/netns/network';
 * using host = NetNS.create();
 * using box = NetNS.create();
 * await using port = await publishPort(box, { port: 80, from: host });
 * if (port.mode !== 'proxy' || port.host !== '127.0.0.1') throw new Error('published elsewhere');
 * ```
 */
export async function publishPort(
  netns: NetNS,
  { from, ...options }: Omit<PublishOptions, 'mode'> & { from?: NetNS },
): Promise<Publication> {
  using self = from ? undefined : NetNS.self();
  const host = from ?? (self as NetNS);
  const { end: _end, ...made } = await publish(
    { host, netns, address: () => undefined, translation: undefined },
    { ...options, mode: 'proxy' },
  );
  return made;
}

/** Takes the first port that is free; says who has it where none is. */
async function firstFree(
  netns: NetNS,
  place: { protocol: 'tcp' | 'udp'; host: string },
  wanted: PublishOptions['hostPort'],
  take: (port: number) => PortProxy | Promise<PortProxy>,
): Promise<PortProxy> {
  const { from, to } = typeof wanted === 'object' ? wanted : { from: wanted ?? 0, to: wanted ?? 0 };
  if (wanted !== undefined && wanted !== 0) for (const end of [from, to]) portNumber(end);
  if (from > to) throw invalid(`a range of ports from ${from} to ${to} is empty`);
  for (let port = from; ; port++) {
    try {
      return await take(port);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error;
      if (port < to) continue;
      const call = `${place.protocol} port ${from === to ? port : `${from}-${to}`} of ${place.host}`;
      const hint = from === to ? holderOf(netns, { ...place, port }) : 'every one of them is in use';
      throw new KernelError(EADDRINUSE, { syscall: 'bind', call, ...(hint !== undefined && { hint }) });
    }
  }
}

function portNumber(port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw invalid(`a port is 1 to 65535, not ${port}`);
}
