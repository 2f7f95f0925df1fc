import { invalid } from '@iso/sys';
import { TC_H } from './raw.js';

/** Where something stands: `root`, `ingress` and `egress` of a clsact, or a handle such as `1:10`, its parts hexadecimal. */
export type TcHandle = string;

/**
 * The number of a handle.
 *
 * @param handle - as tc(8) writes it
 * @returns 32 bits
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function handleNumber(handle: TcHandle): number {
  if (handle === 'root') return TC_H.ROOT;
  if (handle === 'ingress') return TC_H.CLSACT_INGRESS;
  if (handle === 'egress') return TC_H.CLSACT_EGRESS;
  const parts = /^([0-9a-f]{1,4})?:([0-9a-f]{1,4})?$/i.exec(handle);
  if (!parts) throw invalid(`not a handle such as 1:10: ${JSON.stringify(handle)}`);
  return Number.parseInt(parts[1] ?? '0', 16) * 0x10000 + Number.parseInt(parts[2] ?? '0', 16);
}

/**
 * A handle as tc writes it.
 *
 * @param value - 32 bits
 * @returns `root`, or its parts; undefined for none
 */
export function handleText(value: number): TcHandle | undefined {
  if (value === TC_H.ROOT) return 'root';
  if (value === 0) return undefined;
  const minor = value & 0xffff;
  return `${(value >>> 16).toString(16)}:${minor ? minor.toString(16) : ''}`;
}
