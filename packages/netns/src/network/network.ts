import type { NetNS } from '../namespace/netns.js';
import type { Publication, PublishOptions } from './publication.js';

/** How a namespace joins a network. */
export interface AttachOptions {
  /** Name of the link inside, default `eth0`. */
  link?: string;
  /** Certain addresses; by default the next free ones. */
  ip?: string;
  ip6?: string;
  /** Default is made of the first address, so that neighbours' tables stay right when that is used again. */
  mac?: string;
  /** Names by which a `NameServer` knows it: its own, and aliases. */
  names?: readonly string[];
  /** Metric of its default route: with several networks the lowest is the way out. Default 0. */
  metric?: number;
}

/** Rates in bits a second; what is not given is not limited. */
export interface Bandwidth {
  /** Towards the endpoint. */
  in?: number;
  /** From the endpoint. */
  out?: number;
}

/** A namespace's place in a network. Disposing detaches it. */
export interface Endpoint extends Disposable {
  readonly netns: NetNS;
  /** Name of the link inside. */
  readonly link: string;
  readonly mac: string;
  readonly names: readonly string[];
  /** Addresses without lengths; undefined where the network has none of that family. */
  readonly ip: string | undefined;
  readonly ip6: string | undefined;
  /** Lets the host, and others through it, reach a port, now: see {@link PublishOptions}. */
  publish(options: PublishOptions): Promise<Publication>;
  /** Limits its bandwidth, on the host's side, where the namespace cannot lift it; `{}` lifts it. */
  limit(bandwidth: Bandwidth): void;
  /** Leaves the network: unpublishes, gives the addresses back. Again does nothing. */
  detach(): void;
}

/** A network that namespaces attach to; a driver implements it. Disposing detaches all of them and removes it. */
export interface Network extends Disposable {
  readonly name: string;
  /** Its subnets. */
  readonly subnets: readonly string[];
  readonly endpoints: ReadonlySet<Endpoint>;
  /** Whether there is no way out. */
  readonly internal: boolean;
  /** Gives a namespace a link in this network. */
  attach(netns: NetNS, options?: AttachOptions): Endpoint;
  /** Detaches everybody and removes it. Again does nothing. */
  close(): void;
}
