import { KernelError } from '@iso/sys';
import type { Flow, FlowFilter } from '../../conntrack/index.js';
import type { Family } from '../../ip/ip.js';
import {
  type ChainRef,
  counter,
  drop,
  type FieldName,
  inSet,
  match,
  type Nft,
  reject,
  returns,
  type SetElement,
  type SetSpec,
  type Statement,
  type TableRef,
  type Transaction,
} from '../../nft/index.js';
import type { Allowed, Ports } from './allow.js';
import {
  type Chains,
  chainsOf,
  type EgressTables,
  GRANTS,
  lookupsOf,
  type Restricted,
  removalOf,
  type Sets,
  setsOf,
} from './tables.js';

/** An address that may be reached for a while. */
export interface Grant {
  address: string;
  family: Family;
  /** Undefined for all ports and protocols. */
  ports: Ports | undefined;
  /** Milliseconds. */
  timeout: number;
}

/** What did not pass. */
export interface Refusals {
  packets: bigint;
  bytes: bigint;
}

/** How neighbours of IPv6 find one another before they have addresses. */
const NEIGHBOURS = [
  'mld-listener-report',
  'mld-listener-done',
  'nd-router-solicit',
  'nd-neighbor-solicit',
  'nd-neighbor-advert',
  'mld2-listener-report',
] as const;
const NEVER: Refusals = { packets: 0n, bytes: 0n };

/**
 * The rules of one endpoint with a list: in the table of what is bridged, that it speaks with its own addresses only, so that it is known
 * by them; in the one of what is routed, whom it may reach beyond the network, and on the host.
 */
export class EgressRules {
  readonly #nft: Nft;
  readonly #tables: EgressTables;
  readonly #of: Restricted;
  readonly #chains: Chains;
  readonly #sets: Sets;
  /** When what was granted ends. */
  readonly #until = new Map<string, number>();
  readonly #forget: (flows: FlowFilter, judge: (flow: Flow) => boolean) => Promise<void>;

  /**
   * @param nft - the connection that owns the tables
   * @param tables - where
   * @param of - the endpoint
   * @param forget - makes the kernel forget connections
   */
  constructor(
    nft: Nft,
    tables: EgressTables,
    of: Restricted,
    forget: (flows: FlowFilter, judge: (flow: Flow) => boolean) => Promise<void>,
  ) {
    this.#nft = nft;
    this.#tables = tables;
    this.#of = of;
    this.#chains = chainsOf(tables, of);
    this.#sets = setsOf(tables, of);
    this.#forget = forget;
  }

  /** Puts them in force. */
  async create(allow: readonly Allowed[]): Promise<void> {
    await this.#nft.transactionLater((tx) => {
      for (const chain of Object.values(this.#chains)) tx.createChain(chain);
      for (const { ports, any } of Object.values(this.#sets)) {
        tx.createSet(ports);
        tx.createSet(any);
      }
      this.#fill(tx, allow);
      this.#source(tx);
      for (const [map, elements] of lookupsOf(this.#tables, this.#of)) tx.createElements(map, elements);
    });
  }

  /** Changes what they allow, at once; granted addresses are forgotten but for those that are given here. */
  async replace(allow: readonly Allowed[], grants: readonly Grant[]): Promise<void> {
    await this.#nft.transactionLater((tx) => {
      tx.flushChain(this.#chains.out);
      tx.flushChain(this.#chains.host);
      for (const { ports, any } of Object.values(this.#sets)) {
        tx.flushSet(ports);
        tx.flushSet(any);
      }
      this.#fill(tx, allow);
      for (const [set, elements] of this.#elements(grants)) tx.createElements(set, elements);
    });
    this.#until.clear();
    const now = performance.now();
    for (const [set, elements] of this.#elements(grants))
      for (const { key, timeout = 0 } of elements)
        this.#until.set(`${set.name} ${(key as readonly string[]).join(' ')}`, now + timeout);
  }

  /**
   * Lets addresses through for a while; those that were already are for as long as is said now, unless it was longer.
   *
   * @throws KernelError `ENFILE` where too many are let through already
   */
  async grant(grants: readonly Grant[]): Promise<void> {
    for (const [set, elements] of this.#elements(grants))
      for (const element of elements) await this.#renew(set, element);
  }

  /** The kernel takes elements away by itself, so whether one is there is known when it has answered. */
  async #renew(set: SetSpec, element: SetElement): Promise<void> {
    const key = `${set.name} ${(element.key as readonly string[]).join(' ')}`;
    const now = performance.now();
    const until = now + (element.timeout ?? 0);
    const before = this.#until.get(key) ?? 0;
    if (before >= until) return;
    let there = before > now;
    for (let attempts = 0; ; attempts++) {
      try {
        await this.#nft.transactionLater((tx) => {
          if (there) tx.removeElements(set, [element]);
          tx.createElements(set, [element]);
        });
        break;
      } catch (error) {
        if (attempts > 2 || !KernelError.is(error, 'ENOENT', 'EEXIST')) throw error;
        there = KernelError.is(error, 'EEXIST');
      }
    }
    if (this.#until.size >= GRANTS) for (const [old, end] of this.#until) if (end < now) this.#until.delete(old);
    this.#until.set(key, until);
  }

  /** What did not pass, since the rules were made or replaced. */
  refusals(): { sent: Refusals; forged: Refusals } {
    const { routed, bridged } = this.#tables;
    const { out, host, from } = this.#chains;
    const sum = (table: TableRef, chains: readonly ChainRef[]) =>
      chains
        .flatMap(({ name }) => this.#nft.rules(table, name))
        .reduce(
          (all, { counter }) => ({
            packets: all.packets + (counter?.packets ?? 0n),
            bytes: all.bytes + (counter?.bytes ?? 0n),
          }),
          NEVER,
        );
    return { sent: sum(routed, [out, host]), forged: sum(bridged, [from]) };
  }

  /**
   * Makes the kernel forget connections of the endpoint: what it remembers as begun goes on unasked.
   *
   * @param which - of them
   */
  async forget(which: (flow: Flow) => boolean): Promise<void> {
    const { ip, ip6 } = this.#of;
    if (ip !== undefined) await this.#forget({ family: 4, source: ip }, which);
    if (ip6 !== undefined) await this.#forget({ family: 6, source: ip6 }, which);
  }

  /** Lifts them; somebody may have done so already, where they belong to nobody. */
  async remove(): Promise<void> {
    await this.#nft.transactionLater(removalOf(this.#tables, this.#of)).catch((error) => {
      if (!KernelError.is(error, 'ENOENT')) throw error;
    });
  }

  /** Who claims to be somebody else could have somebody else's ways out. */
  #source(tx: Transaction): void {
    const { ip, ip6, mac } = this.#of;
    const chain = this.#chains.from;
    const rule = (...statements: Statement[]) => tx.createRule({ chain, statements });
    rule(match('ether saddr', mac, '!='), counter(), drop());
    if (ip !== undefined) {
      rule(match('ip saddr', ip), returns());
      rule(match('arp saddr ip', ip), match('arp saddr ether', mac), returns());
    }
    if (ip6 !== undefined) {
      rule(match('ip6 saddr', ip6), returns());
      for (const source of ['fe80::/10', '::'])
        for (const type of NEIGHBOURS) rule(match('ip6 saddr', source), match('icmpv6 type', type), returns());
    }
    rule(counter(), drop());
  }

  #fill(tx: Transaction, allow: readonly Allowed[]): void {
    const { out, host } = this.#chains;
    const refuse = [counter(), reject('icmpx admin-prohibited')];
    // Its neighbours are no way out, whether or not this firewall sees what is bridged.
    tx.createRule({ chain: out, statements: [match('meta oifname', this.#tables.bridge), returns()] });
    for (const chain of [out, host]) {
      const rule = (...statements: Statement[]) => tx.createRule({ chain, statements });
      rule(match('ct state', ['established', 'related']), returns());
      if (chain === host)
        for (const type of ['nd-neighbor-solicit', 'nd-neighbor-advert', 'nd-router-solicit'])
          rule(match('icmpv6 type', type), returns());
      for (const entry of allow)
        if (entry.kind === 'addresses')
          for (const ports of conditions(entry.ports))
            rule(match(entry.family === 4 ? 'ip daddr' : 'ip6 daddr', entry.prefix), ...ports, returns());
      // What a name leads to is never the host itself: whoever answers for the name would choose among its services.
      if (chain === out)
        for (const family of [4, 6] as const) {
          const destination: FieldName = family === 4 ? 'ip daddr' : 'ip6 daddr';
          const { ports, any } = this.#sets[family];
          rule(inSet([destination, 'meta l4proto', 'th dport'], ports.name), returns());
          rule(inSet(destination, any.name), returns());
        }
      rule(...refuse);
    }
  }

  #elements(grants: readonly Grant[]): [SetSpec, SetElement[]][] {
    const bySet = new Map<SetSpec, Map<string, SetElement>>();
    for (const { address, family, ports, timeout } of grants) {
      const sets = this.#sets[family];
      const set = ports ? sets.ports : sets.any;
      const keys = ports ? ports.protocols.map((protocol) => [address, protocol, ports.from]) : [[address]];
      const elements = bySet.get(set) ?? new Map<string, SetElement>();
      bySet.set(set, elements);
      for (const key of keys) {
        const before = elements.get(key.join(' '))?.timeout ?? 0;
        elements.set(key.join(' '), { key, timeout: Math.max(before, timeout) });
      }
    }
    return [...bySet].map(([set, elements]) => [set, [...elements.values()]]);
  }
}

function conditions(ports: Ports | undefined): Statement[][] {
  if (!ports) return [[]];
  const { from, to } = ports;
  return ports.protocols.map((protocol) => [
    match('meta l4proto', protocol),
    match('th dport', from === to ? from : { from, to }),
  ]);
}
