import type { Family } from '../../ip/ip.js';
import {
  type ChainRef,
  match,
  type SetElement,
  type SetSpec,
  type Statement,
  type TableRef,
  type Transaction,
} from '../../nft/index.js';

/** The endpoint whose ways out are kept to a list. */
export interface Restricted {
  /** Its link on the host. */
  link: string;
  mac: string;
  ip: string | undefined;
  ip6: string | undefined;
}

/** Where the rules of a network are: a table that sees what is routed, and one that sees what is bridged. */
export interface EgressTables {
  routed: TableRef;
  bridged: TableRef;
  bridge: string;
}

/** Elements of a set at the most: a box that asks for very many names is not to take all memory. */
export const GRANTS = 65536;

/** Maps from an endpoint to its chains: of each table one lookup leads to them, however many there are. */
export function egressMaps({
  routed,
  bridged,
}: EgressTables): Record<'out4' | 'out6' | 'in4' | 'in6' | 'from', SetSpec> {
  const map = (table: TableRef, name: string, key: 'ipv4_addr' | 'ipv6_addr' | 'ifname'): SetSpec => ({
    table,
    name,
    key,
    data: 'verdict',
  });
  return {
    out4: map(routed, 'egress4', 'ipv4_addr'),
    out6: map(routed, 'egress6', 'ipv6_addr'),
    in4: map(routed, 'egresshost4', 'ipv4_addr'),
    in6: map(routed, 'egresshost6', 'ipv6_addr'),
    from: map(bridged, 'from', 'ifname'),
  };
}

/** What lifts the rules of an endpoint. */
export function removalOf(tables: EgressTables, of: Restricted): (tx: Transaction) => void {
  return (tx) => {
    for (const [map, elements] of lookupsOf(tables, of)) tx.removeElements(map, elements);
    for (const chain of Object.values(chainsOf(tables, of))) {
      tx.flushChain(chain);
      tx.removeChain(chain);
    }
    for (const { ports, any } of Object.values(setsOf(tables, of))) {
      tx.removeSet(ports);
      tx.removeSet(any);
    }
  };
}

/** The chains of an endpoint. */
export type Chains = Record<'out' | 'host' | 'from', ChainRef>;

export function chainsOf({ routed, bridged }: EgressTables, { link }: Restricted): Chains {
  return {
    out: { table: routed, name: `out-${link}` },
    host: { table: routed, name: `host-${link}` },
    from: { table: bridged, name: `from-${link}` },
  };
}

/** What names led to, for a while. */
export type Sets = Record<Family, { ports: SetSpec; any: SetSpec }>;

export function setsOf({ routed }: EgressTables, { link }: Restricted): Sets {
  const sets = (family: Family) => {
    const address = family === 4 ? ('ipv4_addr' as const) : ('ipv6_addr' as const);
    const spec = { table: routed, flags: ['timeout'], size: GRANTS } as const;
    return {
      ports: { ...spec, name: `ports${family}-${link}`, key: [address, 'inet_proto', 'inet_service'] },
      any: { ...spec, name: `any${family}-${link}`, key: address },
    } satisfies Record<string, SetSpec>;
  };
  return { 4: sets(4), 6: sets(6) };
}

/** The elements of those maps that lead to them. */
export function lookupsOf(tables: EgressTables, of: Restricted): [SetSpec, SetElement[]][] {
  const maps = egressMaps(tables);
  const { out, host, from } = chainsOf(tables, of);
  const to = (map: SetSpec, key: string | undefined, { name }: ChainRef): [SetSpec, SetElement[]][] =>
    key === undefined ? [] : [[map, [{ key, data: { jump: name } }]]];
  return [
    ...to(maps.out4, of.ip, out),
    ...to(maps.out6, of.ip6, out),
    ...to(maps.in4, of.ip, host),
    ...to(maps.in6, of.ip6, host),
    ...to(maps.from, of.link, from),
  ];
}

/** The rules by which a table finds them. */
export function egressDispatch(tables: EgressTables, what: 'forward' | 'input' | 'bridged'): Statement[][] {
  const { out4, out6, in4, in6, from } = egressMaps(tables);
  if (what === 'bridged') return [[{ kind: 'vmap', key: ['meta iifname'], map: from.name }]];
  const own = match('meta iifname', tables.bridge);
  const [four, six] = what === 'forward' ? [out4, out6] : [in4, in6];
  return [
    [own, { kind: 'vmap', key: ['ip saddr'], map: four.name }],
    [own, { kind: 'vmap', key: ['ip6 saddr'], map: six.name }],
  ];
}
