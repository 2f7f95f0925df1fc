import { randomBytes } from 'node:crypto';
import { KernelError, UnsupportedError } from '@iso/sys';
import { Conntrack, type Flow, type FlowFilter } from '../conntrack/index.js';
import type { Family } from '../ip/ip.js';
import type { NetNS } from '../namespace/netns.js';
import {
  accept,
  type ChainRef,
  dnat,
  drop,
  type FieldName,
  masquerade,
  match,
  Nft,
  type SetElement,
  type SetSpec,
  type Statement,
  type TableRef,
  type TableSpec,
  type Transaction,
} from '../nft/index.js';
import { EgressRules } from './egress/rules.js';
import { type EgressTables, egressDispatch, egressMaps, type Restricted, removalOf } from './egress/tables.js';
import { obstacles } from './obstacles.js';
import type { Translation } from './publication.js';

/** A port of the host that leads to one of an endpoint. */
export interface Forwarding {
  protocol: 'tcp' | 'udp';
  /** Address of the host, or undefined for all of them. */
  host: string | undefined;
  hostPort: number;
  address: string;
  port: number;
  family: Family;
}

/** What a network lets through. */
export interface FirewallOptions {
  subnets: readonly { subnet: string; family: Family }[];
  /** Nothing leaves, nor comes in. */
  internal: boolean;
  /** What leaves has the host's address. */
  masquerade: boolean;
  /** The rules outlive this process. */
  kept: boolean;
}

/** Maps from ports of the host to those of endpoints: of one address, and of any. */
type Ports = Record<Family, { host: SetSpec; any: SetSpec }>;

/**
 * The rules of one bridge network. A table that belongs to this process nobody else can change, `nft flush ruleset` leaves it, and the
 * kernel removes it when this process is gone, however that came: such a one holds the published ports of this process, and for a
 * network that is not kept all the rest.
 */
export class Firewall implements Translation, Disposable {
  readonly #host: NetNS;
  readonly #nft: Nft;
  readonly #bridge: string;
  readonly #table: TableSpec;
  readonly #egress: EgressTables;
  #bridged: Promise<void> | undefined;
  #ports: Promise<Ports> | undefined;
  #flows: Promise<Conntrack> | undefined;
  #forgetting = 0;
  #closed = false;

  /**
   * @param host - namespace of the bridge
   * @param bridge - its name
   * @param options - what it lets through; rules of a kept network that are there already stay
   */
  constructor(host: NetNS, bridge: string, options: FirewallOptions) {
    this.#host = host;
    this.#nft = Nft.open({ home: host });
    this.#bridge = bridge;
    this.#table = { family: 'inet', name: `iso-${bridge}`, ...(!options.kept && { flags: ['owner'] as const }) };
    this.#egress = { routed: this.#table, bridged: { ...this.#table, family: 'bridge' }, bridge };
    try {
      if (!options.kept || !this.#nft.tables().some(isTable(this.#table))) this.#create(options);
    } catch (error) {
      this.#nft.close();
      throw error;
    }
  }

  #create(options: FirewallOptions): void {
    const bridge = this.#bridge;
    const chain = (name: string): ChainRef => ({ table: this.#table, name });
    const from = match('meta iifname', bridge);
    const to = match('meta oifname', bridge);
    const away = match('meta oifname', bridge, '!=');
    this.#nft.transaction((tx) => {
      const rule = (name: string, ...statements: Statement[]) => tx.createRule({ chain: chain(name), statements });
      tx.createTable(this.#table);
      tx.createChain({ ...chain('forward'), hook: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' } });
      const { out4, out6, in4, in6 } = egressMaps(this.#egress);
      for (const map of [out4, out6, in4, in6]) tx.createSet(map);
      // Before the chains of other networks, which would drop without a word.
      tx.createChain({
        ...chain('egress'),
        hook: { type: 'filter', hook: 'forward', priority: -10, policy: 'accept' },
      });
      for (const statements of egressDispatch(this.#egress, 'forward')) rule('egress', ...statements);
      tx.createChain({ ...chain('input'), hook: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' } });
      for (const statements of egressDispatch(this.#egress, 'input')) rule('input', ...statements);
      if (options.internal) rule('forward', from, away, drop());
      rule('forward', from, to, accept());
      rule('forward', to, match('ct state', ['established', 'related']), accept());
      // What was published came by a translation; whoever has a route to an endpoint does not reach the rest of it.
      rule('forward', to, match('ct status', 'dnat'), accept());
      rule('forward', to, drop());
      // Where somebody lets packets for the loopback in (route_localnet), a neighbour of the host reaches what is published there alone.
      tx.createChain({
        ...chain('raw'),
        hook: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' },
      });
      rule('raw', match('meta iifname', 'lo', '!='), match('ip daddr', '127.0.0.0/8'), drop());
      tx.createChain({
        ...chain('postrouting'),
        hook: { type: 'nat', hook: 'postrouting', priority: 100, policy: 'accept' },
      });
      for (const { subnet, family } of options.subnets) {
        const source = match(family === 4 ? 'ip saddr' : 'ip6 saddr', subnet);
        if (options.masquerade && !options.internal) rule('postrouting', source, away, masquerade());
        // A neighbour, or the endpoint itself, by the published port: the answer has to come back through here.
        rule('postrouting', source, to, match('ct status', 'dnat'), masquerade());
      }
    });
  }

  /** The table of this process's ports, made with the first of them. */
  #portTable(): Promise<Ports> {
    this.#ports ??= this.#createPorts().catch((error) => {
      this.#ports = undefined;
      throw error;
    });
    return this.#ports;
  }

  async #createPorts(): Promise<Ports> {
    const name = `iso-${this.#bridge}-${randomBytes(4).toString('hex')}`;
    const table: TableSpec = { family: 'inet', name, flags: ['owner'] };
    const ports: Ports = { 4: mapsOf(table, 4), 6: mapsOf(table, 6) };
    await this.#nft.transactionLater((tx) => {
      tx.createTable(table);
      for (const family of [4, 6] as const) {
        tx.createSet(ports[family].host);
        tx.createSet(ports[family].any);
      }
      for (const hook of ['prerouting', 'output'] as const) {
        const chain = { table, name: hook };
        tx.createChain({ ...chain, hook: { type: 'nat', hook, priority: -100, policy: 'accept' } });
        for (const family of [4, 6] as const)
          for (const statements of translations(family, ports[family])) tx.createRule({ chain, statements });
      }
    });
    return ports;
  }

  /**
   * Leads a port of the host to one of an endpoint.
   *
   * @param forwarding - from where to where
   * @returns undoes it
   * @throws KernelError `EEXIST` where this network leads it elsewhere already
   */
  async forward(forwarding: Forwarding): Promise<() => Promise<void>> {
    const { host, protocol, hostPort, address, port, family } = forwarding;
    const set = (await this.#portTable())[family][host === undefined ? 'any' : 'host'];
    const key = host === undefined ? [protocol, hostPort] : [host, protocol, hostPort];
    const elements: SetElement[] = [{ key, data: [address, port] }];
    await this.#nft.transactionLater((tx) => tx.createElements(set, elements));
    return () => this.#nft.transactionLater((tx) => tx.removeElements(set, elements));
  }

  /**
   * Makes the kernel forget connections.
   *
   * @param flows - which
   * @param judge - of those, which; default all
   */
  async forget(flows: FlowFilter, judge?: (flow: Flow) => boolean): Promise<void> {
    // One socket for all: closing one waits for every transaction of this namespace, for milliseconds.
    this.#flows ??= Conntrack.openAsync({ home: this.#host });
    this.#forgetting += 1;
    try {
      await (await this.#flows).removeAllLater(flows, judge);
    } finally {
      this.#forgetting -= 1;
      this.#release();
    }
  }

  #release(): void {
    if (this.#closed && this.#forgetting === 0)
      this.#flows?.then((conntrack) => conntrack.closeLater()).catch(() => {});
  }

  /**
   * The rules that keep an endpoint's ways out to a list; they are not in force yet.
   *
   * @param of - the endpoint
   * @returns its rules
   * @throws UnsupportedError where the kernel cannot look at what is bridged
   */
  async egress(of: Restricted): Promise<EgressRules> {
    this.#bridged ??= this.#createBridged().catch((error) => {
      this.#bridged = undefined;
      throw error;
    });
    await this.#bridged;
    return new EgressRules(this.#nft, this.#egress, of, (flows, judge) => this.forget(flows, judge));
  }

  async #createBridged(): Promise<void> {
    const { bridged } = this.#egress;
    if (this.#nft.tables().some(isTable(bridged))) return;
    const chain: ChainRef = { table: bridged, name: 'prerouting' };
    const { from } = egressMaps(this.#egress);
    try {
      await this.#nft.transactionLater((tx) => {
        tx.createTable(bridged);
        tx.createSet(from);
        tx.createChain({ ...chain, hook: { type: 'filter', hook: 'prerouting', priority: -300, policy: 'accept' } });
        for (const statements of egressDispatch(this.#egress, 'bridged')) tx.createRule({ chain, statements });
      });
    } catch (error) {
      // Another process that has the network open was quicker.
      if (KernelError.is(error, 'EEXIST')) return;
      if (!KernelError.is(error, 'EOPNOTSUPP', 'EAFNOSUPPORT')) throw error;
      const said = `the kernel answered ${error.code} to a table of family bridge`;
      throw new UnsupportedError('nf_tables of bridges', said, { cause: error });
    }
  }

  /**
   * Removes the rules of an endpoint whose process is gone; where there are none, nothing.
   *
   * @param of - the endpoint
   */
  lift(of: Restricted): void {
    try {
      this.#nft.transaction(removalOf(this.#egress, of));
    } catch (error) {
      unlessGone(error);
    }
  }

  /**
   * The same as {@link Firewall.lift} while the event loop goes on.
   *
   * @param of - the endpoint
   */
  async liftLater(of: Restricted): Promise<void> {
    await this.#nft.transactionLater(removalOf(this.#egress, of)).catch(unlessGone);
  }

  /**
   * Rules of others that drop what this network lets pass: an accept here is not the last word.
   *
   * @returns chains of the forward hook with policy drop, as `family table chain`, also of iptables-legacy(8)
   */
  obstacles(): string[] {
    return obstacles(this.#host, this.#nft, (table) => table === this.#table.name);
  }

  /** Removes the rules of a kept network too. */
  remove(): void {
    try {
      this.#nft.transaction(this.#removal());
    } finally {
      this.close();
    }
  }

  /** The same as {@link Firewall.remove} while the event loop goes on. */
  async removeLater(): Promise<void> {
    try {
      await this.#nft.transactionLater(this.#removal());
    } finally {
      await this.closeLater();
    }
  }

  #removal(): (tx: Transaction) => void {
    const { routed, bridged } = this.#egress;
    const there = this.#nft.tables();
    const gone = [routed, bridged].filter((table) => there.some(isTable(table)));
    return (tx) => gone.map((table) => tx.removeTable(table));
  }

  /** Removes the rules that belong to this process. Connections that are being forgotten are so all the same. */
  close(): void {
    this.#nft.close();
    this.#closed = true;
    this.#release();
  }

  /** The same as {@link Firewall.close} while the event loop goes on. */
  async closeLater(): Promise<void> {
    this.#closed = true;
    this.#release();
    await this.#nft.closeLater();
  }

  /** The same as {@link Firewall.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function mapsOf(table: TableSpec, family: Family): { host: SetSpec; any: SetSpec } {
  const address = family === 4 ? ('ipv4_addr' as const) : ('ipv6_addr' as const);
  const data = [address, 'inet_service'] as const;
  return {
    host: { table, name: `host${family}`, key: [address, 'inet_proto', 'inet_service'], data },
    any: { table, name: `any${family}`, key: ['inet_proto', 'inet_service'], data },
  };
}

/** Never an address of the loopback: a neighbour of the host could send to it from outside. */
function translations(family: Family, { host, any }: { host: SetSpec; any: SetSpec }): Statement[][] {
  const destination: FieldName = family === 4 ? 'ip daddr' : 'ip6 daddr';
  const ip = family === 4 ? 'ip' : 'ip6';
  const reaches = [match(destination, family === 4 ? '127.0.0.0/8' : '::1', '!='), match('fib daddr type', 'local')];
  return (['tcp', 'udp'] as const).flatMap((protocol) => {
    const transport = match('meta l4proto', protocol);
    const port: FieldName = protocol === 'tcp' ? 'tcp dport' : 'udp dport';
    const way = (map: string, key: readonly FieldName[]) => dnat({ family: ip, key, map, withPort: true });
    return [
      [...reaches, transport, way(host.name, [destination, 'meta l4proto', port])],
      [...reaches, transport, way(any.name, ['meta l4proto', port])],
    ];
  });
}

function unlessGone(error: unknown): void {
  if (!KernelError.is(error, 'ENOENT')) throw error;
}

function isTable({ family, name }: TableRef): (table: TableRef) => boolean {
  return (table) => table.family === family && table.name === name;
}
