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
  type TableSpec,
} from '../nft/index.js';

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

/**
 * The rules of one bridge network, in a table that belongs to this process: nobody else can change it, `nft flush ruleset` leaves
 * it, and the kernel removes it when this process is gone, however that came.
 */
export class Firewall implements Disposable {
  readonly #nft: Nft;
  readonly #table: TableSpec;
  readonly #maps: Record<Family, { host: SetSpec; any: SetSpec }>;

  /**
   * @param host - namespace of the bridge
   * @param bridge - its name
   * @param options - subnets; whether nothing leaves; whether what leaves has the host's address
   */
  constructor(
    host: NetNS,
    bridge: string,
    options: { subnets: readonly { subnet: string; family: Family }[]; internal: boolean; masquerade: boolean },
  ) {
    this.#nft = Nft.open({ home: host });
    this.#table = { family: 'inet', name: `iso-${bridge}`, flags: ['owner'] };
    this.#maps = { 4: this.#mapsOf(4), 6: this.#mapsOf(6) };
    try {
      this.#create(bridge, options);
    } catch (error) {
      this.#nft.close();
      throw error;
    }
  }

  #mapsOf(family: Family): { host: SetSpec; any: SetSpec } {
    const address = family === 4 ? ('ipv4_addr' as const) : ('ipv6_addr' as const);
    const data = [address, 'inet_service'] as const;
    const table = this.#table;
    return {
      host: { table, name: `host${family}`, key: [address, 'inet_proto', 'inet_service'], data },
      any: { table, name: `any${family}`, key: ['inet_proto', 'inet_service'], data },
    };
  }

  #create(
    bridge: string,
    options: { subnets: readonly { subnet: string; family: Family }[]; internal: boolean; masquerade: boolean },
  ): void {
    const chain = (name: string): ChainRef => ({ table: this.#table, name });
    const from = match('meta iifname', bridge);
    const to = match('meta oifname', bridge);
    const away = match('meta oifname', bridge, '!=');
    this.#nft.transaction((tx) => {
      const rule = (name: string, ...statements: Statement[]) => tx.createRule({ chain: chain(name), statements });
      tx.createTable(this.#table);
      for (const family of [4, 6] as const) {
        tx.createSet(this.#maps[family].host);
        tx.createSet(this.#maps[family].any);
      }
      tx.createChain({ ...chain('forward'), hook: { type: 'filter', hook: 'forward', priority: 0, policy: 'accept' } });
      if (options.internal) rule('forward', from, away, drop());
      rule('forward', from, to, accept());
      rule('forward', to, match('ct state', ['established', 'related']), accept());
      // What was published came by a translation; whoever has a route to an endpoint does not reach the rest of it.
      rule('forward', to, match('ct status', 'dnat'), accept());
      rule('forward', to, drop());
      for (const [name, hook] of [
        ['prerouting', 'prerouting'],
        ['output', 'output'],
      ] as const) {
        tx.createChain({ ...chain(name), hook: { type: 'nat', hook, priority: -100, policy: 'accept' } });
        for (const family of [4, 6] as const) this.#translate(family, (...statements) => rule(name, ...statements));
      }
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

  /** Never an address of the loopback: a neighbour of the host could send to it from outside. */
  #translate(family: Family, rule: (...statements: Statement[]) => void): void {
    const destination: FieldName = family === 4 ? 'ip daddr' : 'ip6 daddr';
    const ip = family === 4 ? 'ip' : 'ip6';
    const { host, any } = this.#maps[family];
    const reaches = [match(destination, family === 4 ? '127.0.0.0/8' : '::1', '!='), match('fib daddr type', 'local')];
    for (const protocol of ['tcp', 'udp'] as const) {
      const transport = match('meta l4proto', protocol);
      const port: FieldName = protocol === 'tcp' ? 'tcp dport' : 'udp dport';
      const way = (map: string, key: readonly FieldName[]) => dnat({ family: ip, key, map, withPort: true });
      rule(...reaches, transport, way(host.name, [destination, 'meta l4proto', port]));
      rule(...reaches, transport, way(any.name, ['meta l4proto', port]));
    }
  }

  /**
   * Leads a port of the host to one of an endpoint.
   *
   * @param forwarding - from where to where
   * @returns undoes it
   * @throws KernelError `EEXIST` where this network leads it elsewhere already
   */
  forward(forwarding: Forwarding): () => void {
    const { host, protocol, hostPort, address, port, family } = forwarding;
    const set = this.#maps[family][host === undefined ? 'any' : 'host'];
    const key = host === undefined ? [protocol, hostPort] : [host, protocol, hostPort];
    const elements: SetElement[] = [{ key, data: [address, port] }];
    this.#nft.transaction((tx) => tx.createElements(set, elements));
    return () => this.#nft.transaction((tx) => tx.removeElements(set, elements));
  }

  /**
   * Rules of others that drop what this network lets pass: an accept here is not the last word.
   *
   * @returns chains of the forward hook with policy drop, as `family table chain`
   */
  obstacles(): string[] {
    return this.#nft
      .chains()
      .filter(({ hook, table }) => hook?.hook === 'forward' && hook.policy === 'drop' && table !== this.#table.name)
      .map(({ family, table, name }) => `${family} ${table} ${name}`);
  }

  /** Removes the rules. */
  close(): void {
    this.#nft.close();
  }

  /** The same as {@link Firewall.close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
