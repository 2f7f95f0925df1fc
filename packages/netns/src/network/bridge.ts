import { createHash, randomBytes } from 'node:crypto';
import { invalid, KernelError } from '@iso/sys';
import { ipBytes, macText, parsePrefix } from '../ip/ip.js';
import { NetNS } from '../namespace/netns.js';
import { BridgeEndpoint } from './endpoint.js';
import { Firewall } from './firewall.js';
import { atOnce, forward, poolsOf, settingOf } from './host.js';
import type { AttachOptions, Endpoint, Network } from './network.js';
import { ownerMark } from './owner.js';
import type { Pool } from './pool.js';

/** A bridge network as it is to be. */
export interface BridgeNetworkOptions {
  /** What people call it. */
  name: string;
  /** Namespace that plays the host; default this process's. */
  host?: NetNS;
  /** One of each family at the most; default a private IPv4 one that is routed nowhere yet. */
  subnets?: readonly (string | { subnet: string; range?: string; gateway?: string })[];
  /** Name of the bridge; default is made of the name. */
  bridge?: string;
  mtu?: number;
  /** No way out, nor in. */
  internal?: boolean;
  /** Endpoints do not reach one another. */
  isolated?: boolean;
  /** What leaves has the host's address, default true. */
  masquerade?: boolean;
}

const DEFAULT_MTU = 1500;

/**
 * A network of namespaces on a bridge, with addresses, a way out by the host's address and ports published on it: what Docker calls a
 * bridge network. It lives as long as this object: links and rules go with {@link BridgeNetwork.close}, and the rules with the
 * process, however that ends. Other networks do not reach it, nor do hosts with a route to it, but by published ports.
 * Switches forwarding on in the host's namespace, unless it is internal. Needs CAP_NET_ADMIN there, and CAP_SYS_ADMIN.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { BridgeNetwork } from '@iso/netns/network';
 * using host = NetNS.create();
 * using box = NetNS.create();
 * using network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24'] });
 * const endpoint = network.attach(box);
 * if (endpoint.ip !== '10.50.0.2') throw new Error('not the first address');
 * ```
 */
export class BridgeNetwork implements Network {
  readonly name: string;
  /** Name of the bridge. */
  readonly bridge: string;
  readonly #host: NetNS;
  readonly #ownsHost: boolean;
  readonly #pools: readonly Pool[];
  readonly #options: BridgeNetworkOptions;
  readonly #firewall: Firewall;
  readonly #hairpin: boolean;
  readonly #endpoints = new Set<BridgeEndpoint>();
  #closed = false;

  private constructor(
    options: BridgeNetworkOptions,
    parts: { host: NetNS; bridge: string; pools: Pool[]; firewall: Firewall; hairpin: boolean },
  ) {
    this.name = options.name;
    this.bridge = parts.bridge;
    this.#options = options;
    this.#host = parts.host;
    this.#ownsHost = !options.host;
    this.#pools = parts.pools;
    this.#firewall = parts.firewall;
    this.#hairpin = parts.hairpin;
  }

  /**
   * Makes a network.
   *
   * @param options - name, subnets, what it lets through
   * @returns the network
   * @throws KernelError `EADDRINUSE` where a subnet is routed on the host already, `EEXIST` where the bridge exists; what was made
   * before is undone
   */
  static create(options: BridgeNetworkOptions): BridgeNetwork {
    if (options.name === '') throw invalid('a network needs a name');
    const bridge = options.bridge ?? `br-${createHash('sha256').update(options.name).digest('hex').slice(0, 12)}`;
    const host = options.host ?? NetNS.self();
    const undo: (() => void)[] = options.host ? [] : [() => host.close()];
    try {
      const pools = poolsOf(host, options);
      host.rtnl.links.create({
        kind: 'bridge',
        name: bridge,
        mac: randomMac(),
        mtu: options.mtu ?? DEFAULT_MTU,
        alias: ownerMark(),
      });
      undo.push(() => host.rtnl.links.remove(bridge));
      for (const pool of pools) {
        const address = `${pool.gateway}/${pool.length}`;
        host.rtnl.addresses.create({ link: bridge, address, ...(pool.family === 6 && { flags: ['nodad'] as const }) });
      }
      atOnce(host, bridge, pools);
      const firewall = new Firewall(host, bridge, {
        subnets: pools,
        internal: options.internal ?? false,
        masquerade: options.masquerade ?? true,
      });
      undo.push(() => firewall.close());
      host.rtnl.links.set(bridge, { up: true });
      if (!options.internal) forward(host, pools);
      // Where bridged frames pass the firewall, an endpoint reaches itself by its published port only so.
      const hairpin = settingOf(host, 'net.bridge.bridge-nf-call-iptables') === '1';
      return new BridgeNetwork(options, { host, bridge, pools, firewall, hairpin });
    } catch (error) {
      for (const action of undo.reverse()) action();
      throw error;
    }
  }

  /** {@inheritDoc Network.subnets} */
  get subnets(): readonly string[] {
    return this.#pools.map(({ subnet }) => subnet);
  }

  /** {@inheritDoc Network.internal} */
  get internal(): boolean {
    return this.#options.internal ?? false;
  }

  /** {@inheritDoc Network.endpoints} */
  get endpoints(): ReadonlySet<Endpoint> {
    return this.#endpoints;
  }

  /** Address of the host in the network, by which endpoints leave it; IPv4 where it has that. */
  get gateway(): string {
    return (this.#pools[0] as Pool).gateway;
  }

  /**
   * Chains of others that drop what this network lets pass, as `family table chain`: Docker's, or a firewall's. Its traffic does not
   * come through before they let it.
   */
  get obstacles(): string[] {
    return this.#firewall.obstacles();
  }

  /**
   * Gives a namespace a link in this network: up, with its addresses, usable at once, and a default route unless the network is
   * internal.
   *
   * @param netns - to attach; it may be in other networks, by other links
   * @param options - name of the link, certain addresses, metric
   * @returns the endpoint
   * @throws KernelError `EADDRNOTAVAIL` where no address is left, `EADDRINUSE` where a certain one is taken, `EEXIST` where the
   * namespace has a link of that name; nothing is left behind
   */
  attach(netns: NetNS, options: AttachOptions = {}): BridgeEndpoint {
    const { link = 'eth0', metric = 0 } = options;
    const undo: (() => void)[] = [];
    try {
      const addresses = this.#addresses(options, undo);
      const mac = options.mac ?? macOf((addresses[0] as { address: string }).address);
      const hostLink = `v${randomBytes(7).toString('hex')}`;
      const mtu = this.#options.mtu ?? DEFAULT_MTU;
      this.#host.rtnl.links.create({
        kind: 'veth',
        name: hostLink,
        master: this.bridge,
        mtu,
        up: true,
        alias: ownerMark(),
        peer: { name: link, netns, mac, mtu },
      });
      undo.push(() => this.#host.rtnl.links.remove(hostLink));
      const port = { ...(this.#options.isolated && { isolated: true }), ...(this.#hairpin && { hairpin: true }) };
      if (Object.keys(port).length) this.#host.rtnl.links.set(hostLink, { port });
      this.#configure(netns, link, metric, addresses);
      const of = (family: number) => addresses.find(({ pool }) => pool.family === family)?.address;
      const endpoint: BridgeEndpoint = new BridgeEndpoint({
        host: this.#host,
        netns,
        hostLink,
        link,
        mac,
        names: options.names ?? [],
        ip: of(4),
        ip6: of(6),
        firewall: this.#firewall,
        release: () => {
          this.#endpoints.delete(endpoint);
          for (const { pool, address } of addresses) pool.release(address);
        },
      });
      this.#endpoints.add(endpoint);
      return endpoint;
    } catch (error) {
      for (const action of undo.reverse()) action();
      throw error;
    }
  }

  #addresses(options: AttachOptions, undo: (() => void)[]): { pool: Pool; address: string }[] {
    for (const [wanted, family] of [
      [options.ip, 4],
      [options.ip6, 6],
    ] as const)
      if (wanted !== undefined && !this.#pools.some((pool) => pool.family === family))
        throw invalid(`network ${this.name} has no IPv${family} subnet`);
    return this.#pools.map((pool) => {
      const wanted = pool.family === 4 ? options.ip : options.ip6;
      const address = wanted === undefined ? this.#take(pool) : pool.claim(wanted);
      undo.push(() => pool.release(address));
      return { pool, address };
    });
  }

  /** An address is leased to a namespace that lives: those of the dead come back when they are needed. */
  #take(pool: Pool): string {
    try {
      return pool.take();
    } catch (error) {
      const alive = new Set(this.#host.rtnl.links.list({ master: this.bridge }).map(({ name }) => name));
      const dead = [...this.#endpoints].filter((endpoint) => !alive.has(endpoint.hostLink));
      if (dead.length === 0) throw error;
      for (const endpoint of dead) endpoint.detach();
      return pool.take();
    }
  }

  #configure(netns: NetNS, link: string, metric: number, addresses: readonly { pool: Pool; address: string }[]): void {
    const { rtnl } = netns;
    atOnce(
      netns,
      link,
      addresses.map(({ pool }) => pool),
    );
    const index = rtnl.links.index(link);
    rtnl.batch(() => {
      for (const { pool, address } of addresses) {
        const flags = pool.family === 6 ? (['nodad'] as const) : undefined;
        rtnl.addresses.create({ link: index, address: `${address}/${pool.length}`, ...(flags && { flags }) });
      }
      rtnl.links.set(index, { up: true });
      if (this.#options.internal) return;
      for (const { pool } of addresses)
        rtnl.routes.create({ dst: 'default', gateway: pool.gateway, link: index, ...(metric > 0 && { metric }) });
    });
  }

  /** Detaches everybody and removes links and rules. Again does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const endpoint of [...this.#endpoints]) endpoint.detach();
    try {
      this.#host.rtnl.links.remove(this.bridge);
    } catch (error) {
      if (!KernelError.is(error, 'ENODEV')) throw error;
    } finally {
      this.#firewall.close();
      if (this.#ownsHost) this.#host.close();
    }
  }

  /** The same as {@link BridgeNetwork.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function randomMac(): string {
  const bytes = randomBytes(6);
  // Administered locally, of one station.
  bytes[0] = ((bytes[0] as number) & 0xfc) | 2;
  return macText(bytes);
}

/** A used address has the same MAC again: neighbours that remember it are right. */
function macOf(address: string): string {
  const bytes = ipBytes(parsePrefix(address).address);
  return macText(Buffer.concat([Buffer.from([0x02, 0x42]), bytes.subarray(-4)]));
}
