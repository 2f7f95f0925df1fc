import { invalid } from '@iso/sys';

/** The kernel's clock of packets ticks every 64 nanoseconds. */
const TICKS_IN_A_MICROSECOND = 1000 / 64;
const TABLE_MTU = 2047;
const MAX_U32 = 0xffffffff;
const LINKLAYER_ETHERNET = 1;

/**
 * Bytes a second.
 *
 * @param bits - a second
 * @returns a whole number
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for none, and below one byte
 */
export function byteRate(bits: number): number {
  const bytes = Math.floor(bits / 8);
  if (!Number.isSafeInteger(bytes) || bytes < 1) throw invalid(`not a rate in bits a second: ${bits}`);
  return bytes;
}

/**
 * A time in ticks.
 *
 * @param milliseconds - the time
 * @returns as the kernel wants it
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for what does not fit 32 bits: above 274 seconds
 */
export function ticks(milliseconds: number): number {
  const value = Math.floor(Math.round(milliseconds * 1000) * TICKS_IN_A_MICROSECOND);
  if (!(value >= 0 && value <= MAX_U32)) throw invalid(`not a time of 0 to 274,000 milliseconds: ${milliseconds}`);
  return value;
}

/**
 * How long bytes take on the wire.
 *
 * @param rate - bytes a second
 * @param size - bytes
 * @returns ticks, at most 32 bits
 */
export function transmitTicks(rate: number, size: number): number {
  // In the order in which tc calculates: some sizes are rounded down by it.
  const microseconds = Math.floor(1_000_000 * (size / rate));
  return Math.min(MAX_U32, Math.floor(microseconds * TICKS_IN_A_MICROSECOND));
}

/** How far sizes are shifted to find their cell in a table of 256. */
function cellLog(mtu: number): number {
  let log = 0;
  while (mtu >> log > 255) log += 1;
  return log;
}

/**
 * `struct tc_ratespec`.
 *
 * @param rate - bytes a second
 * @param mtu - largest packet of its table
 * @returns 12 bytes
 */
export function rateSpec(rate: number, mtu: number = TABLE_MTU): Buffer {
  const bytes = Buffer.alloc(12);
  bytes[0] = cellLog(mtu);
  bytes[1] = LINKLAYER_ETHERNET;
  bytes.writeInt16LE(-1, 4);
  bytes.writeUInt32LE(narrow(rate), 8);
  return bytes;
}

/**
 * The table of how long packets of each size take, which the kernel does not read any more but asks for.
 *
 * @param rate - bytes a second
 * @param mtu - largest packet
 * @returns 256 numbers of 32 bits
 */
export function rateTable(rate: number, mtu: number = TABLE_MTU): Buffer {
  const log = cellLog(mtu);
  const bytes = Buffer.alloc(1024);
  for (let i = 0; i < 256; i++) bytes.writeUInt32LE(transmitTicks(narrow(rate), (i + 1) * 2 ** log), 4 * i);
  return bytes;
}

/**
 * What of a rate fits 32 bits; more is said by an attribute of 64.
 *
 * @param rate - bytes a second
 * @returns it, or the largest number
 */
export function narrow(rate: number): number {
  return Math.min(rate, MAX_U32);
}

/** Whether a rate needs an attribute of 64 bits. */
export function isWide(rate: number): boolean {
  return rate > MAX_U32;
}

/**
 * A share as the kernel counts it.
 *
 * @param percent - 0 to 100
 * @returns 32 bits
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function share(percent: number): number {
  if (!(percent >= 0 && percent <= 100)) throw invalid(`not a percentage: ${percent}`);
  return Math.round((percent / 100) * MAX_U32);
}
