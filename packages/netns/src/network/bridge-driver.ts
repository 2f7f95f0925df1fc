import { createHash, randomBytes } from 'node:crypto';
import { invalid, KernelError } from '@iso/sys';
import { macText } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import type { DriverContext, DriverNetwork, JoinOptions, NetworkConfig, NetworkDriver } from './driver.js';
import type { EgressRules } from './egress/rules.js';
import type { Restricted } from './egress/tables.js';
import { Firewall } from './firewall.js';
import { atOnce, forward, isTakenIn, settingOf } from './host.js';
import type { Lease } from './lease.js';
import { ownerMark } from './owner.js';
import type { Pool } from './pool.js';
import type { Translation } from './publication.js';

/** What a bridge network can be told. */
export interface BridgeOptions {
  /** Name of the bridge; default is made of the network's name. */
  bridge?: string;
  /** Endpoints do not reach one another. */
  isolated?: boolean;
  /** What leaves has the host's address, default true. */
  masquerade?: boolean;
}

const DEFAULT_MTU = 1500;
/** BR_STATE_FORWARDING of linux/if_bridge.h. */
const FORWARDING = 3;
/** An alias of a link has 255 bytes. */
const LONGEST_NAME = 200;

/** Networks on a bridge of the host, behind its address: what Docker calls a bridge network. */
export const bridgeDriver: NetworkDriver = {
  name: 'bridge',
  link: (config) => bridgeOf(config),
  open: (config, context) => new BridgeOnHost(config, context),
};

/** Name of the bridge of a network. */
export function bridgeOf({ name, options }: NetworkConfig): string {
  const { bridge = `br-${createHash('sha256').update(name).digest('hex').slice(0, 12)}` } = options;
  if (typeof bridge !== 'string') throw invalid(`not the name of a bridge: ${JSON.stringify(bridge)}`);
  return bridge;
}

class BridgeOnHost implements DriverNetwork {
  readonly #host: NetNS;
  readonly #bridge: string;
  readonly #mtu: number;
  readonly #port: { isolated?: true; hairpin?: true };
  readonly #firewall: Firewall;
  readonly #mark: string | undefined;
  /** The address of the bridge by IPv6, where it has one. */
  readonly #gateway6: string | undefined;
  /** Endpoints of this process whose packets pass. */
  readonly #passing = new Set<string>();

  constructor(config: NetworkConfig, { host, pools, kept }: DriverContext) {
    const { isolated, masquerade } = checked(config.options);
    if (Buffer.byteLength(config.name) > LONGEST_NAME)
      throw invalid(`a network's name has ${LONGEST_NAME} bytes at the most`);
    this.#host = host;
    this.#bridge = bridgeOf(config);
    this.#mtu = config.mtu ?? DEFAULT_MTU;
    this.#gateway6 = pools.find(({ family }) => family === 6)?.gateway;
    // Links of a network that is kept are nobody's: they go when it is removed, or with the namespaces that they lead to.
    this.#mark = kept ? undefined : ownerMark();
    const mark = this.#mark ?? `iso network ${config.name}`;
    const made = !(kept && isThere(host, this.#bridge, mark));
    if (made) this.#create(mark, pools);
    let firewall: Firewall | undefined;
    try {
      firewall = new Firewall(host, this.#bridge, {
        subnets: pools,
        internal: config.internal,
        masquerade: masquerade ?? true,
        kept,
      });
      host.rtnl.links.set(this.#bridge, { up: true });
      if (!config.internal) forward(host, pools);
    } catch (error) {
      if (firewall && made) firewall.remove();
      else firewall?.close();
      if (made) this.#removeBridge();
      throw error;
    }
    this.#firewall = firewall;
    // Where bridged frames pass the firewall, an endpoint reaches itself by its published port only so.
    const hairpin = ['iptables', 'ip6tables'].some((of) => settingOf(host, `net.bridge.bridge-nf-call-${of}`) === '1');
    this.#port = { ...(isolated && { isolated: true as const }), ...(hairpin && { hairpin: true as const }) };
  }

  #create(mark: string, pools: readonly Pool[]): void {
    const { links, addresses } = this.#host.rtnl;
    links.create({ kind: 'bridge', name: this.#bridge, mac: randomMac(), mtu: this.#mtu, alias: mark });
    try {
      for (const pool of pools) {
        const address = `${pool.gateway}/${pool.length}`;
        addresses.create({ link: this.#bridge, address, ...(pool.family === 6 && { flags: ['nodad'] as const }) });
      }
      atOnce(this.#host, this.#bridge, pools);
    } catch (error) {
      this.#removeBridge();
      throw error;
    }
  }

  async join(netns: NetNS, { id, link, mac }: JoinOptions): Promise<string> {
    const { rtnl } = this.#host;
    await rtnl.later(() =>
      rtnl.links.create({
        kind: 'veth',
        name: this.hostLink(id),
        master: this.#bridge,
        mtu: this.#mtu,
        up: true,
        ...(this.#mark !== undefined && { alias: this.#mark }),
        ...(Object.keys(this.#port).length > 0 && { port: this.#port }),
        peer: { name: link, netns, mac, mtu: this.#mtu },
      }),
    );
    return mac;
  }

  leave({ id }: Lease): void {
    this.#passing.delete(id);
    const { links } = this.#host.rtnl;
    // By index: a name is looked up at once, so that what is not there is not asked for later.
    for (const link of [this.hostLink(id), shaperOf(id)]) gone(() => links.remove(links.index(link)));
  }

  hostLink(id: string): string {
    return `v${id}`;
  }

  /** The port and the bridge get to know of their carriers in the kernel's own time, up to a second; what comes before is lost. */
  async passes(id: string): Promise<boolean> {
    const { links } = this.#host.rtnl;
    if ((await links.getLater(this.hostLink(id))).port?.state !== FORWARDING) return false;
    // What is so with one port that passes is so with another.
    if (this.#passing.size === 0) {
      if ((await links.getLater(this.#bridge)).operstate !== 'UP') return false;
      if (this.#gateway6 !== undefined && !isTakenIn(this.#host, this.#gateway6)) return false;
    }
    this.#passing.add(id);
    return true;
  }

  /** A veth goes with the namespace that its peer is in. */
  lives(leases: readonly Lease[]): ReadonlySet<string> {
    const links = new Set(this.#ports());
    return new Set(leases.map(({ id }) => id).filter((id) => links.has(this.hostLink(id))));
  }

  #ports(): string[] {
    try {
      return this.#host.rtnl.links.list({ master: this.#bridge }).map(({ name }) => name);
    } catch (error) {
      // Somebody removed the bridge, or it went with a restart.
      if (KernelError.is(error, 'ENODEV')) return [];
      throw error;
    }
  }

  get translation(): Translation {
    return this.#firewall;
  }

  egress(of: Restricted): Promise<EgressRules> {
    return this.#firewall.egress(of);
  }

  /** In the table of a process they go with that. */
  lift(lease: Lease): void {
    if (this.#mark === undefined) this.#firewall.lift(restricted(lease, this.hostLink(lease.id)));
  }

  async liftLater(lease: Lease): Promise<void> {
    if (this.#mark === undefined) await this.#firewall.liftLater(restricted(lease, this.hostLink(lease.id)));
  }

  obstacles(): string[] {
    return this.#firewall.obstacles();
  }

  close(): void {
    this.#firewall.close();
  }

  remove(): void {
    try {
      this.#removeBridge();
    } finally {
      this.#firewall.remove();
    }
  }

  async endLater(stays: boolean): Promise<void> {
    if (stays) return this.#firewall.closeLater();
    try {
      await this.#host.rtnl.later(() => this.#removeBridge()).catch(unlessGone);
    } finally {
      await this.#firewall.removeLater();
    }
  }

  #removeBridge(): void {
    const { links } = this.#host.rtnl;
    gone(() => links.remove(links.index(this.#bridge)));
  }
}

/** What rules know an endpoint by. */
export function restricted({ mac, ip, ip6 }: Lease, link: string): Restricted {
  return { link, mac, ip, ip6 };
}

/** Name of the link by which what comes from an endpoint is limited. */
export function shaperOf(id: string): string {
  return `i${id}`;
}

function checked(options: Readonly<Record<string, unknown>>): BridgeOptions {
  for (const [name, value] of Object.entries(options)) {
    const known = name === 'bridge' ? 'string' : name === 'isolated' || name === 'masquerade' ? 'boolean' : undefined;
    if (known === undefined || (value !== undefined && typeof value !== known))
      throw invalid(`no such option of a bridge network: ${name} = ${JSON.stringify(value)}`);
  }
  return options;
}

function isThere(host: NetNS, bridge: string, mark: string): boolean {
  try {
    return host.rtnl.links.get(bridge).alias === mark;
  } catch (error) {
    if (KernelError.is(error, 'ENODEV')) return false;
    throw error;
  }
}

function gone(work: () => void): void {
  try {
    work();
  } catch (error) {
    unlessGone(error);
  }
}

function unlessGone(error: unknown): void {
  if (!KernelError.is(error, 'ENODEV')) throw error;
}

function randomMac(): string {
  const bytes = randomBytes(6);
  // Administered locally, of one station.
  bytes[0] = ((bytes[0] as number) & 0xfc) | 2;
  return macText(bytes);
}
