import type { NetNS } from '../namespace/netns.js';
import type { EgressRules } from './egress/rules.js';
import type { Restricted } from './egress/tables.js';
import type { Lease } from './lease.js';
import type { Pool, PoolOptions } from './pool.js';
import type { Translation } from './publication.js';

/** What a network is made of: plain data, which another process opens it by. */
export interface NetworkConfig {
  name: string;
  /** Name of its driver. */
  driver: string;
  /** One of each family at the most, complete. */
  subnets: readonly PoolOptions[];
  /** No way out, nor in. */
  internal: boolean;
  mtu?: number;
  /** What only the driver knows. */
  options: Readonly<Record<string, unknown>>;
}

/** Where a driver works. */
export interface DriverContext {
  /** The namespace that plays the host. */
  host: NetNS;
  pools: readonly Pool[];
  /** Whether the network is to outlive this process. */
  kept: boolean;
}

/** A link that a driver is to give to a namespace. */
export interface JoinOptions {
  /** 14 hexadecimal digits that no other endpoint has: names of links on the host are made of them. */
  id: string;
  /** Name of the link inside. */
  link: string;
  mac: string;
}

/** What a driver does for one network. */
export interface DriverNetwork {
  /** Makes the link inside, without addresses; returns its MAC. Where it throws, it left nothing. */
  join(netns: NetNS, options: JoinOptions): string | Promise<string>;
  /**
   * Removes the link, and what belongs to it on the host, whichever process made it. What is gone already is no error. It may be called
   * within `rtnl.later()` of either namespace; `netns` is undefined where nobody knows whether that still exists.
   */
  leave(lease: Lease, netns: NetNS | undefined): void;
  /** Whether what a namespace sends by its link, which is up, arrives; by default it does at once. */
  passes?(id: string): Promise<boolean>;
  /** Link on the host of an endpoint, where it has one: there its bandwidth is limited. */
  hostLink?(id: string): string;
  /** Whether an endpoint is still there; by default that is told from its namespace and from the process that made it. */
  lives?(leases: readonly Lease[]): ReadonlySet<string>;
  /** Routes lead to the link itself, not to the gateway. */
  readonly onLink?: boolean;
  /** Lets the kernel translate ports. Without this, ports are published by proxy only. */
  readonly translation?: Translation;
  /** The rules by which an endpoint's ways out are kept to a list, not in force yet. */
  egress?(of: Restricted): Promise<EgressRules>;
  /** Removes those of an endpoint that left, where they outlive the process that made them. What is gone already is no error. */
  lift?(lease: Lease): void;
  /** The same while the event loop goes on. */
  liftLater?(lease: Lease): Promise<void>;
  /** Chains of others that drop its traffic. */
  obstacles?(): string[];
  /** Lets go of what this process holds; the network stays. */
  close(): void;
  /** Removes it from the host, and closes it. */
  remove(): void;
  /** As {@link DriverNetwork.close}, or where the network is not to stay as {@link DriverNetwork.remove}, while the event loop goes on. */
  endLater?(stays: boolean): Promise<void>;
}

/**
 * How networks of one kind are made. `bridge`, `macvlan` and `ipvlan` are here; yours is an object of this shape.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { Network, type NetworkDriver } from '@iso/netns/network';
 * // A pair of namespaces on one cable, without a bridge.
 * const cable: NetworkDriver = {
 *   name: 'cable',
 *   open: ({ options }, { host }) => ({
 *     join(netns, { link, mac }) {
 *       host.rtnl.links.create({ kind: 'veth', name: String(options.end), up: true, peer: { name: link, netns, mac } });
 *       return mac;
 *     },
 *     leave: () => host.rtnl.links.remove(String(options.end)),
 *     close() {},
 *     remove() {},
 *   }),
 * };
 * using host = NetNS.create();
 * using box = NetNS.create();
 * using network = Network.create({ name: 'lab', driver: cable, host, subnets: ['10.9.0.0/30'], options: { end: 'cable0' } });
 * await network.attach(box);
 * if (!host.rtnl.links.get('cable0').carrier) throw new Error('not plugged in');
 * ```
 */
export interface NetworkDriver {
  /** By which records name it. */
  readonly name: string;
  /** The link of the host that a network is on, whose routes are no obstacle to its subnets. */
  link?(config: NetworkConfig): string;
  /**
   * Makes what a network needs on the host, or finds it there. Options that it does not know it refuses, before it does anything.
   */
  open(config: NetworkConfig, context: DriverContext): DriverNetwork;
}
