import { invalid } from '@iso/sys';
import { familyOf, ipBytes, parsePrefix } from '../ip/ip.js';
import type { Message } from '../netlink/message.js';
import { numberOf } from '../route/name.js';
import { handleNumber, type TcHandle } from './handle.js';
import { byteRate, isWide, rateSpec, rateTable, transmitTicks } from './rate.js';
import {
  MIRRED,
  TC_ACT,
  TC_U32_TERMINAL,
  TCA,
  TCA_ACT,
  TCA_MATCHALL,
  TCA_MIRRED_PARMS,
  TCA_POLICE,
  TCA_U32,
} from './raw.js';

/** What is done with a packet that a filter takes. */
export type FilterAction =
  | { kind: 'mirred'; how: keyof typeof MIRRED; link: string | number }
  | { kind: 'police'; rate: number; burst: number };

/** A word of a packet to compare, from the start of its IP header. */
export interface U32Key {
  offset: number;
  value: number;
  mask: number;
}

/** A filter, by kind; `class` is where its packets go. */
export type FilterSettings =
  | { kind: 'matchall'; action?: FilterAction; class?: TcHandle }
  | { kind: 'u32'; match?: readonly U32Key[]; action?: FilterAction; class?: TcHandle };

/**
 * Words of an IPv4 packet to compare, for a filter of kind u32. Ports are where they are without IP options.
 *
 * @param what - prefixes, protocol number, ports
 * @returns the keys
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) for addresses of IPv6
 */
export function ipv4Keys(what: {
  source?: string;
  destination?: string;
  protocol?: number;
  sourcePort?: number;
  destinationPort?: number;
}): U32Key[] {
  const keys: U32Key[] = [];
  const prefix = (text: string, offset: number) => {
    const { address, length } = parsePrefix(text);
    if (familyOf(address) !== 4) throw invalid(`not an IPv4 prefix: ${text}`);
    const mask = length === 0 ? 0 : (0xffffffff << (32 - length)) >>> 0;
    keys.push({ offset, mask, value: (ipBytes(address).readUInt32BE() & mask) >>> 0 });
  };
  if (what.source !== undefined) prefix(what.source, 12);
  if (what.destination !== undefined) prefix(what.destination, 16);
  if (what.protocol !== undefined) keys.push({ offset: 8, mask: 0x00ff0000, value: (what.protocol & 0xff) << 16 });
  if (what.sourcePort !== undefined) keys.push({ offset: 20, mask: 0xffff0000, value: (what.sourcePort << 16) >>> 0 });
  if (what.destinationPort !== undefined) keys.push({ offset: 20, mask: 0x0000ffff, value: what.destinationPort });
  return keys;
}

/**
 * Adds TCA_OPTIONS of a filter.
 *
 * @param message - where to
 * @param settings - the filter
 * @param indexOf - finds links
 */
export function writeFilter(
  message: Message,
  settings: FilterSettings,
  indexOf: (link: string | number) => number,
): void {
  const { action } = settings;
  const parent = settings.class === undefined ? undefined : handleNumber(settings.class);
  const u32 = settings.kind === 'u32';
  message.nest(
    TCA.OPTIONS,
    () => {
      if (parent !== undefined) message.u32(u32 ? TCA_U32.CLASSID : TCA_MATCHALL.CLASSID, parent);
      if (action) {
        // Actions are numbered from 1.
        message.nest(
          u32 ? TCA_U32.ACT : TCA_MATCHALL.ACT,
          () => message.nest(1, () => writeAction(message, action, indexOf), TCA_ACT, false),
          undefined,
          false,
        );
      }
      if (settings.kind === 'u32') message.raw(TCA_U32.SEL, selector(settings.match ?? []));
    },
    u32 ? TCA_U32 : TCA_MATCHALL,
    false,
  );
}

function writeAction(message: Message, action: FilterAction, indexOf: (link: string | number) => number): void {
  message.string(TCA_ACT.KIND, action.kind);
  message.nest(TCA_ACT.OPTIONS, () => {
    if (action.kind === 'police') return writePolice(message, action);
    const parameters = Buffer.alloc(28);
    parameters.writeInt32LE(action.how.endsWith('redirect') ? TC_ACT.STOLEN : TC_ACT.PIPE, 8);
    parameters.writeInt32LE(numberOf(MIRRED, action.how, 'a way to mirror'), 20);
    parameters.writeUInt32LE(indexOf(action.link), 24);
    message.raw(TCA_MIRRED_PARMS, parameters);
  });
}

function writePolice(message: Message, { rate, burst }: FilterAction & { kind: 'police' }): void {
  const bytes = byteRate(rate);
  const parameters = Buffer.alloc(56);
  parameters.writeInt32LE(TC_ACT.SHOT, 4);
  parameters.writeUInt32LE(transmitTicks(bytes, burst), 12);
  rateSpec(bytes).copy(parameters, 20);
  message.raw(TCA_POLICE.TBF, parameters).raw(TCA_POLICE.RATE, rateTable(bytes));
  if (isWide(bytes)) message.u64(TCA_POLICE.RATE64, bytes);
}

/** `struct tc_u32_sel` with its keys; one that matches everything where none are given. */
function selector(keys: readonly U32Key[]): Buffer {
  const all = keys.length ? keys : [{ offset: 0, value: 0, mask: 0 }];
  if (all.length > 128) throw invalid(`a filter compares 128 words at the most, not ${all.length}`);
  const bytes = Buffer.alloc(16 + 16 * all.length);
  bytes[0] = TC_U32_TERMINAL;
  bytes[2] = all.length;
  for (const [i, key] of all.entries()) {
    bytes.writeUInt32BE(key.mask, 16 + 16 * i);
    bytes.writeUInt32BE(key.value, 20 + 16 * i);
    bytes.writeInt32LE(key.offset, 24 + 16 * i);
  }
  return bytes;
}
