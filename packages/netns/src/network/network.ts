import { randomBytes } from 'node:crypto';
import { invalid, KernelError } from '@iso/sys';
import { ipBytes, macText, parsePrefix } from '../ip/ip.js';
import { NetNS } from '../namespace/netns.js';
import { type BridgeOptions, bridgeDriver } from './bridge-driver.js';
import { onceFree, untilIt } from './busy.js';
import type { DriverNetwork, NetworkConfig, NetworkDriver } from './driver.js';
import { Endpoint, leaveLater } from './endpoint.js';
import { forgetFlows } from './flows.js';
import { announce, atOnceAsync, isTakenIn, poolsOf } from './host.js';
import { checkName } from './hosts-file.js';
import { isTaken, type Lease, type Leases, type LeaseTable, OwnLeases, takeAddresses } from './lease.js';
import { namespacesOf, ownerLives, ownerMark, ownerText } from './owner.js';
import { type IpvlanOptions, ipvlanDriver, type MacvlanOptions, macvlanDriver } from './parent-drivers.js';
import type { Pool, PoolOptions } from './pool.js';

const ENOENT = 2;
const EBUSY = 16;
const ESHUTDOWN = 108;

/** How a namespace joins a network. */
export interface AttachOptions {
  /** Name of the link inside, default `eth0`. */
  link?: string;
  /** Certain addresses; by default the next free ones. */
  ip?: string;
  ip6?: string;
  /** Default is made of the first address, so that neighbours' tables stay right when that is used again. An ipvlan has its parent's. */
  mac?: string;
  /** Names by which a `NameServer` knows it: its own, and aliases. */
  names?: readonly string[];
  /** Metric of its default route: with several networks the lowest is the way out. Default 0. */
  metric?: number;
  /** Gives up; nothing is left behind. */
  signal?: AbortSignal;
}

/** What every network can be told. */
export interface CommonNetworkOptions {
  /** What people call it. */
  name: string;
  /** Namespace that plays the host; default this process's. */
  host?: NetNS;
  /** One of each family at the most; default a private IPv4 one that is routed nowhere yet. */
  subnets?: readonly (string | PoolOptions)[];
  /** Adds a unique local IPv6 subnet where none is named. */
  ipv6?: boolean;
  mtu?: number;
  /** No way out, nor in. */
  internal?: boolean;
}

/** A network as it is to be: its driver, and what only that knows. */
export type NetworkOptions = CommonNetworkOptions &
  (
    | { driver?: 'bridge'; options?: BridgeOptions }
    | { driver: 'macvlan'; options: MacvlanOptions }
    | { driver: 'ipvlan'; options: IpvlanOptions }
    | { driver: NetworkDriver; options?: Readonly<Record<string, unknown>> }
  );

/** The drivers that are here. */
export const ownDrivers: readonly NetworkDriver[] = [bridgeDriver, macvlanDriver, ipvlanDriver];

/** What makes a network work. @internal */
export interface NetworkParts {
  config: NetworkConfig;
  host: NetNS;
  /** Closed with the network. */
  ownsHost: boolean;
  pools: readonly Pool[];
  driver: DriverNetwork;
  leases: Leases;
  /** Whether it outlives this object. */
  kept: boolean;
}

/** The driver that options name. */
export function driverOf(options: { driver?: string | NetworkDriver }, known: readonly NetworkDriver[]): NetworkDriver {
  const { driver = 'bridge' } = options;
  if (typeof driver === 'object') return driver;
  const found = known.find(({ name }) => name === driver);
  if (!found) throw invalid(`no driver of networks is called ${driver}: ${known.map(({ name }) => name).join(', ')}`);
  return found;
}

/** What options come to. */
export function configOf(
  options: NetworkOptions,
  driver: NetworkDriver,
  subnets: readonly PoolOptions[],
): NetworkConfig {
  const { name, internal = false, mtu } = options;
  if (name === '') throw invalid('a network needs a name');
  return {
    name,
    driver: driver.name,
    subnets,
    internal,
    ...(mtu !== undefined && { mtu }),
    options: { ...options.options },
  };
}

/**
 * A network that namespaces attach to, with addresses of its own. A driver makes the links: on a bridge of the host (what Docker calls a
 * bridge network), on the wire of one of its links (`macvlan`, `ipvlan`), or as yours has it. One that {@link Network.create} made lives as
 * long as this object; one of `Networks` is kept, and open in several processes. Needs CAP_NET_ADMIN on the host, and CAP_SYS_ADMIN.
 *
 * A bridge network switches forwarding on in the host's namespace, unless it is internal. Other networks do not reach it, nor do hosts
 * with a route to it, but by published ports.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { Network } from '@iso/netns/network';
 * using host = NetNS.create();
 * using box = NetNS.create();
 * host.rtnl.links.create({ kind: 'veth', name: 'lan0', up: true, peer: { name: 'lan1' } });
 * using network = Network.create({ name: 'lan', driver: 'macvlan', host, subnets: ['10.50.0.0/24'], options: { parent: 'lan0' } });
 * if ((await network.attach(box)).ip !== '10.50.0.2') throw new Error('not the first address');
 * ```
 */
export class Network implements Disposable, AsyncDisposable {
  readonly #parts: NetworkParts;
  readonly #endpoints = new Map<string, Endpoint>();
  #closed = false;
  #ending: Promise<void> | undefined;

  /** @internal */
  constructor(parts: NetworkParts) {
    this.#parts = parts;
  }

  /**
   * Makes a network.
   *
   * @param options - name, driver, subnets
   * @returns the network
   * @throws KernelError `EADDRINUSE` where a subnet is routed on the host already, `EEXIST` where its bridge exists, `ENODEV` and
   * `ENETDOWN` for its parent; what was made before is undone
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for options that the driver does not know
   */
  static create(options: NetworkOptions): Network {
    return new Network(Network.parts(options));
  }

  /** @internal */
  protected static parts(options: NetworkOptions): NetworkParts {
    const driver = driverOf(options, ownDrivers);
    const ownsHost = options.host === undefined;
    const host = options.host ?? NetNS.self();
    try {
      const link = driver.link?.(configOf(options, driver, []));
      const pools = poolsOf(host, options, driver.name === 'bridge' ? {} : { link });
      const config = configOf(
        options,
        driver,
        pools.map((pool) => pool.options),
      );
      const opened = driver.open(config, { host, pools, kept: false });
      return { config, host, ownsHost, pools, driver: opened, leases: new OwnLeases(pools), kept: false };
    } catch (error) {
      if (ownsHost) host.close();
      throw error;
    }
  }

  get name(): string {
    return this.#parts.config.name;
  }

  /** What it is made of. */
  get config(): NetworkConfig {
    return this.#parts.config;
  }

  /** Its subnets. */
  get subnets(): readonly string[] {
    return this.#parts.pools.map(({ subnet }) => subnet);
  }

  /** Whether there is no way out. */
  get internal(): boolean {
    return this.#parts.config.internal;
  }

  /** The endpoints that this object made or found. */
  get endpoints(): ReadonlySet<Endpoint> {
    return new Set(this.#endpoints.values());
  }

  /** Everybody in it, whichever process attached them. */
  get members(): readonly Lease[] {
    return this.#parts.leases.list().filter(({ joining }) => !joining);
  }

  /** Address by which endpoints leave it: that of the host in a bridge network; IPv4 where it has that. */
  get gateway(): string {
    return (this.#parts.pools[0] as Pool).gateway;
  }

  /**
   * Chains of others that drop what this network lets pass, as `family table chain`: Docker's, or a firewall's. Its traffic does not
   * come through before they let it.
   */
  get obstacles(): string[] {
    return this.#parts.driver.obstacles?.() ?? [];
  }

  /**
   * Gives a namespace a link in this network: up, with its addresses, usable at once, and a default route unless the network is
   * internal.
   *
   * @param netns - to attach; it may be in other networks, by other links
   * @param options - name of the link, certain addresses, metric
   * @returns the endpoint, once its link is up; the event loop goes on meanwhile
   * @throws KernelError `EADDRNOTAVAIL` where no address is left, `EADDRINUSE` where a certain one is taken, `EEXIST` where the
   * namespace has a link of that name; nothing is left behind
   * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for an address outside of the network, or of a family that it does not have
   * @throws the signal's reason
   */
  async attach(netns: NetNS, options: AttachOptions = {}): Promise<Endpoint> {
    const { pools, leases } = this.#parts;
    options.signal?.throwIfAborted();
    for (const [wanted, family] of [
      [options.ip, 4],
      [options.ip6, 6],
    ] as const)
      if (wanted !== undefined && !pools.some((pool) => pool.family === family))
        throw invalid(`network ${this.name} has no IPv${family} subnet`);
    for (const name of options.names ?? []) checkName(name);
    // From here on others find what this process leaves, should it be killed.
    const lease = leases.change((table) => this.#lease(table, netns, options));
    try {
      const joined = await this.#join(lease, netns, options);
      leases.change((table) => table.set(joined));
      const endpoint = this.#endpoint(joined, netns);
      this.#endpoints.set(lease.id, endpoint);
      return endpoint;
    } catch (error) {
      leases.change((table) => table.remove(lease.id));
      throw error;
    }
  }

  #lease(table: LeaseTable, netns: NetNS, options: AttachOptions): Lease {
    const addresses = this.#take(table, options);
    const of = (family: number) => addresses.find(({ pool }) => pool.family === family)?.address;
    const [ip, ip6] = [of(4), of(6)];
    const lease: Lease = {
      id: randomBytes(7).toString('hex'),
      netns: netns.id,
      link: options.link ?? 'eth0',
      mac: options.mac ?? macOf((ip ?? ip6) as string),
      names: options.names ?? [],
      ...(ip !== undefined && { ip }),
      ...(ip6 !== undefined && { ip6 }),
      owner: ownerMark(),
      ports: [],
      joining: true,
    };
    table.set(lease);
    return lease;
  }

  /** An address is leased to a namespace that lives: those of the dead come back when they are needed. */
  #take(table: LeaseTable, wanted: AttachOptions) {
    try {
      return takeAddresses(table.pools, wanted);
    } catch (error) {
      if (!isTaken(error) || this.#reclaim(table).length === 0) throw error;
      return takeAddresses(table.pools, wanted);
    }
  }

  /** Makes the link; the lease as it is then. */
  async #join(lease: Lease, netns: NetNS, options: AttachOptions): Promise<Lease> {
    const { metric = 0, signal } = options;
    const chosen = [options.ip, options.ip6, options.mac].some((given) => given !== undefined);
    const { driver, host } = this.#parts;
    const { joining: _joining, ...rest } = lease;
    // A number that is closed meanwhile may be another namespace's.
    using held = netns.duplicate();
    const opened = netns.rtnlAsync();
    // Where the link cannot be made, nobody waits for it.
    opened.catch(() => {});
    const { id, link } = lease;
    const mac = await driver.join(held, { id, link, mac: lease.mac });
    try {
      await opened;
      signal?.throwIfAborted();
      await this.#configure(netns, lease, metric, signal);
      await untilIt(() => this.#reached(lease, netns), signal);
      // What is given out in turn was not somebody else's just now.
      if (chosen && mac === lease.mac) await announce(netns, link, mac, this.#parts.pools);
      signal?.throwIfAborted();
      if (this.#closed) {
        const call = `endpoint of network ${this.name}`;
        throw new KernelError(ESHUTDOWN, { syscall: 'connect', call, hint: 'the network was closed meanwhile' });
      }
    } catch (error) {
      await leaveLater(driver, host, lease, netns.fd.closed ? undefined : netns);
      throw error;
    }
    return { ...rest, mac };
  }

  /** Who is attached is there for others at once: a first packet that is lost comes again after a second. */
  async #reached({ id, ip6 }: Lease, netns: NetNS): Promise<boolean> {
    const { driver } = this.#parts;
    if (ip6 !== undefined && !isTakenIn(netns, ip6)) return false;
    return driver.passes?.(id) ?? true;
  }

  async #configure(netns: NetNS, lease: Lease, metric: number, signal: AbortSignal | undefined): Promise<void> {
    const { link, mac, ip, ip6 } = lease;
    const { rtnl } = netns;
    const { pools, driver } = this.#parts;
    await atOnceAsync(netns, link, pools);
    const index = rtnl.links.index(link);
    // What follows a link that is not up yet comes to nothing, or is there already the next time.
    const made = () =>
      rtnl.later(() => {
        rtnl.links.set(index, { up: true });
        for (const pool of pools) {
          const address = `${pool.family === 4 ? ip : ip6}/${pool.length}`;
          rtnl.addresses.replace({ link: index, address, ...(pool.family === 6 && { flags: ['nodad'] as const }) });
        }
        if (this.internal) return;
        for (const { gateway, family } of pools) {
          const way = driver.onLink ? { family } : { gateway };
          rtnl.routes.create({ dst: 'default', ...way, link: index, ...(metric > 0 && { metric }) });
        }
      });
    await onceFree(made, `${link} with MAC ${mac}`, signal);
  }

  #endpoint(lease: Lease, netns: NetNS): Endpoint {
    const { host, driver, leases, kept } = this.#parts;
    return new Endpoint({
      host,
      netns,
      lease,
      driver,
      leases,
      kept,
      detached: () => this.#endpoints.delete(lease.id),
    });
  }

  /**
   * The endpoint of a namespace that is attached, by whichever process: to detach it, or to publish more of its ports.
   *
   * @param netns - that is attached; where it is more than once, the first link counts
   * @returns the endpoint
   * @throws KernelError `ENOENT` where it is not attached
   */
  find(netns: NetNS): Endpoint {
    const all = this.members.filter((lease) => lease.netns === netns.id);
    // An inode is used again once its namespace is gone.
    const lives = this.#living(all);
    const lease = all.find(({ id }) => lives.has(id));
    if (!lease)
      throw new KernelError(ENOENT, {
        syscall: 'open',
        call: `endpoint of network ${this.name}`,
        hint: 'the namespace is not attached to it',
      });
    const endpoint = this.#endpoints.get(lease.id) ?? this.#endpoint(lease, netns);
    this.#endpoints.set(lease.id, endpoint);
    return endpoint;
  }

  /**
   * Takes back what dead namespaces have: addresses, links that belong to theirs, what the kernel remembers of their connections. It is
   * done anyway when addresses are needed.
   *
   * @returns the addresses that are free again
   */
  sweep(): string[] {
    return this.#parts.leases.change((table) => this.#reclaim(table));
  }

  #living(leases: readonly Lease[]): ReadonlySet<string> {
    const joined = leases.filter(({ joining }) => !joining);
    const living = this.#parts.driver.lives?.(joined) ?? namespacesOf(joined);
    // Whose link is being made is asked of who makes it.
    const joining = leases.filter((lease) => lease.joining && ownerLives(lease.owner));
    return new Set([...living, ...joining.map(({ id }) => id)]);
  }

  #reclaim(table: LeaseTable): string[] {
    const { driver, host } = this.#parts;
    const living = this.#living(table.leases);
    const dead = table.leases.filter(({ id }) => !living.has(id));
    for (const lease of dead) {
      table.remove(lease.id);
      this.#endpoints.get(lease.id)?.ended();
      driver.leave(lease, undefined);
      driver.lift?.(lease);
    }
    const addresses = dead.flatMap(({ ip, ip6 }) => [ip, ip6]).filter((address) => address !== undefined);
    if (addresses.length) forgetFlows(host, (address) => addresses.includes(address));
    return addresses;
  }

  /**
   * Removes it from the host, unless somebody is in it.
   *
   * @param forget - removes its records, while nobody attaches
   * @internal
   */
  remove(forget: () => void): void {
    this.#parts.leases.change((table, save) => {
      this.#reclaim(table);
      save();
      if (table.leases.length) {
        const who = table.leases.map(
          ({ names, ip, ip6, owner }) => `${names[0] ?? ip ?? ip6} (of ${ownerText(owner)})`,
        );
        const hint = `in it are ${who.join(', ')}`;
        throw new KernelError(EBUSY, { syscall: 'unlink', call: `network ${this.name}`, hint });
      }
      this.#end(() => this.#parts.driver.remove());
      forget();
    });
  }

  /**
   * Ends what this object holds: its endpoints are detached, but those that are kept, their ports unpublished. A network that is not kept is removed.
   * Again does nothing.
   */
  close(): void {
    const { driver, kept } = this.#parts;
    this.#end(() => (kept ? driver.close() : driver.remove()));
  }

  /**
   * The same as {@link Network.close} while the event loop goes on; `await using` does this.
   *
   * @returns done when all of it is gone
   */
  closeAsync(): Promise<void> {
    this.#ending ??= this.#endLater();
    return this.#ending;
  }

  async #endLater(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const { driver, kept, host, ownsHost } = this.#parts;
    const left = await Promise.allSettled([...this.endpoints].map((endpoint) => endpoint.closeLater()));
    try {
      if (driver.endLater) await driver.endLater(kept);
      else if (kept) driver.close();
      else driver.remove();
    } finally {
      if (ownsHost) host.close();
    }
    for (const outcome of left) if (outcome.status === 'rejected') throw outcome.reason;
  }

  #end(last: () => void): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      for (const endpoint of this.endpoints) endpoint.close();
    } finally {
      try {
        last();
      } finally {
        if (this.#parts.ownsHost) this.#parts.host.close();
      }
    }
  }

  /** The same as {@link Network.close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** The same as {@link Network.closeAsync}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.closeAsync();
  }
}

/** A used address has the same MAC again: neighbours that remember it are right. */
function macOf(address: string): string {
  const bytes = ipBytes(parsePrefix(address).address);
  return macText(Buffer.concat([Buffer.from([0x02, 0x42]), bytes.subarray(-4)]));
}
