import { type Family, familyOf } from '../ip/ip.js';
import type { Message } from '../netlink/message.js';
import { type Flow, writeTuple } from './flow.js';
import { CTA, CTA_FILTER, CTA_FILTER_F } from './raw.js';

const [TCP, UDP] = [6, 17];

/** Which flows; what is not given counts for any. Addresses and ports are those of the first packet, before translation. */
export interface FlowFilter {
  family?: Family;
  /** Number: 6 is TCP, 17 UDP. */
  protocol?: number;
  source?: string;
  destination?: string;
  sourcePort?: number;
  destinationPort?: number;
  /** Where answers come from: the destination after translation. */
  replySource?: string;
  mark?: number;
}

/**
 * Has the kernel compare what it can, since Linux 5.8: of many flows few come over then. An older one answers with all.
 *
 * @param message - the request for a list
 * @param filter - which flows
 */
export function writeFilter(message: Message, filter: FlowFilter): void {
  const { family, protocol, sourcePort, destinationPort } = filter;
  if (family === undefined || (protocol !== TCP && protocol !== UDP)) return;
  // Of addresses of IPv6 a kernel (6.18) lists all but those that are asked for.
  const compares = (address: string | undefined) =>
    address !== undefined && familyOf(address) === family && family === 4 ? address : undefined;
  const [source, destination] = [compares(filter.source), compares(filter.destination)];
  const compared = { source, destination, sourcePort, destinationPort };
  writeTuple(message, { protocol, ...compared }, family);
  let bits: number = CTA_FILTER_F.protocol;
  for (const [name, value] of Object.entries(compared))
    if (value !== undefined) bits |= CTA_FILTER_F[name as keyof typeof compared];
  message.nest(CTA.FILTER, () => message.u32(CTA_FILTER.ORIG_FLAGS, bits).u32(CTA_FILTER.REPLY_FLAGS, 0));
}

/**
 * Whether a flow is one of them.
 *
 * @param flow - to look at
 * @param filter - which flows
 */
export function matches({ family, original, reply, mark }: Flow, filter: FlowFilter): boolean {
  const wanted = [
    [filter.family, family],
    [filter.protocol, original.protocol],
    [filter.source, original.source],
    [filter.destination, original.destination],
    [filter.sourcePort, original.sourcePort],
    [filter.destinationPort, original.destinationPort],
    [filter.replySource, reply.source],
    [filter.mark, mark],
  ];
  return wanted.every(([want, is]) => want === undefined || want === is);
}
