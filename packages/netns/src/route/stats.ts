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

const SIZE = 80;

/**
 * Reads IFLA_STATS64.
 *
 * @param attributes - at that attribute
 * @returns the counters
 */
export function readStats(attributes: Attributes): LinkStats {
  const bytes = attributes.fixed(SIZE);
  return {
    rxPackets: counter(bytes, 0),
    txPackets: counter(bytes, 8),
    rxBytes: counter(bytes, 16),
    txBytes: counter(bytes, 24),
    rxErrors: counter(bytes, 32),
    txErrors: counter(bytes, 40),
    rxDropped: counter(bytes, 48),
    txDropped: counter(bytes, 56),
    multicast: counter(bytes, 64),
    collisions: counter(bytes, 72),
  };
}

/** Most of them are small, and of two numbers a bigint is put together slowly. */
function counter(bytes: Buffer, at: number): bigint {
  return bytes.readUInt32LE(at + 4) === 0 ? BigInt(bytes.readUInt32LE(at)) : bytes.readBigUInt64LE(at);
}
