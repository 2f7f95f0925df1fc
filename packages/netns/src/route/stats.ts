import type { Attributes } from '../netlink/attribute.js';

/** Counters of a link since it was made, `struct rtnl_link_stats64`. */
export interface LinkStats {
  rxPackets: bigint;
  txPackets: bigint;
  rxBytes: bigint;
  txBytes: bigint;
  rxErrors: bigint;
  txErrors: bigint;
  rxDropped: bigint;
  txDropped: bigint;
  multicast: bigint;
  collisions: bigint;
}

const names = [
  'rxPackets',
  'txPackets',
  'rxBytes',
  'txBytes',
  'rxErrors',
  'txErrors',
  'rxDropped',
  'txDropped',
  'multicast',
  'collisions',
] as const;

/**
 * Reads IFLA_STATS64.
 *
 * @param attributes - at that attribute
 * @returns the counters
 */
export function readStats(attributes: Attributes): LinkStats {
  const bytes = attributes.fixed(8 * names.length);
  return Object.fromEntries(names.map((name, i) => [name, bytes.readBigUInt64LE(8 * i)])) as unknown as LinkStats;
}
