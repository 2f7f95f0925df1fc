import { type Family, ipText } from '../ip/ip.js';
import type { Attributes } from '../netlink/attribute.js';
import { Monitor, type MonitorOptions } from '../netlink/monitor.js';
import { NETLINK } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from '../route/name.js';
import { NFNLGRP_NFTRACE, NFT_MSG, NFTA_TRACE, NFTA_VERDICT, TRACE_TYPES, VERDICTS } from './raw.js';
import { enter, familyOf } from './reply.js';
import type { TableFamily } from './table.js';

/** A packet as the kernel shows it. */
export interface TracedPacket {
  family: Family;
  /** Number: 6 is TCP, 17 UDP. */
  protocol: number;
  source: string;
  destination: string;
  sourcePort: number | undefined;
  destinationPort: number | undefined;
}

/** What became of a packet at one place. */
export interface TraceEvent {
  /** The same for all events of a packet. */
  id: number;
  family: TableFamily;
  table: string;
  chain: string;
  /** Who decided: a rule, the end of a chain that was jumped to, the policy of a base chain. */
  by: 'rule' | 'return' | 'policy';
  /** `accept`, `drop`, `continue`, `jump` …; undefined for what is not told. */
  verdict: string | undefined;
  /** Of the rule, as `nft -a` shows it. */
  handle: bigint | undefined;
  /** Only with the first event in a chain with a hook. */
  packet: TracedPacket | undefined;
}

const PORTS: ReadonlySet<number> = new Set([6, 17, 33, 132, 136]);

/**
 * What becomes of the packets that a rule with `trace()` has marked, rule by rule, in everybody's tables. Listens from the call on. Needs
 * CAP_NET_ADMIN in the user namespace that owns the network namespace.
 *
 * @param options - where, signal
 * @returns the events; undefined stands for some that were lost
 * @throws KernelError `EPERM`
 */
export function watchTrace(options: MonitorOptions = {}): Monitor<TraceEvent | undefined> {
  return new Monitor<TraceEvent | undefined>(
    NETLINK.NETFILTER,
    [NFNLGRP_NFTRACE],
    readTrace,
    () => [undefined],
    options,
  );
}

/** Reads NFT_MSG_TRACE. */
function readTrace(reply: Replies): TraceEvent | undefined {
  const attributes = enter(reply, NFT_MSG.TRACE);
  if (!attributes) return undefined;
  const event: TraceEvent = {
    id: 0,
    family: familyOf(reply),
    table: '',
    chain: '',
    by: 'rule',
    verdict: undefined,
    handle: undefined,
    packet: undefined,
  };
  let [network, transport]: (Buffer | undefined)[] = [];
  while (attributes.next()) {
    if (attributes.type === NFTA_TRACE.TABLE) event.table = attributes.string();
    else if (attributes.type === NFTA_TRACE.CHAIN) event.chain = attributes.string();
    else if (attributes.type === NFTA_TRACE.RULE_HANDLE) event.handle = attributes.u64be();
    else if (attributes.type === NFTA_TRACE.TYPE)
      event.by = wordOf(TRACE_TYPES, attributes.u32be()) as TraceEvent['by'];
    else if (attributes.type === NFTA_TRACE.VERDICT) event.verdict = readVerdict(attributes.nested());
    else if (attributes.type === NFTA_TRACE.POLICY) event.verdict = String(wordOf(VERDICTS, attributes.u32be()));
    else if (attributes.type === NFTA_TRACE.ID) event.id = attributes.u32be();
    else if (attributes.type === NFTA_TRACE.NETWORK_HEADER) network = Buffer.from(attributes.bytes());
    else if (attributes.type === NFTA_TRACE.TRANSPORT_HEADER) transport = Buffer.from(attributes.bytes());
  }
  if (network) event.packet = readPacket(network, transport);
  return event;
}

function readVerdict(attributes: Attributes): string | undefined {
  while (attributes.next())
    if (attributes.type === NFTA_VERDICT.CODE) return String(wordOf(VERDICTS, attributes.u32be() | 0));
  return undefined;
}

function readPacket(network: Buffer, transport: Buffer | undefined): TracedPacket | undefined {
  const version = (network[0] ?? 0) >> 4;
  const four = version === 4 && network.length >= 20;
  if (!four && !(version === 6 && network.length >= 40)) return undefined;
  const protocol = network[four ? 9 : 6] as number;
  const ports = transport && transport.length >= 4 && PORTS.has(protocol);
  return {
    family: four ? 4 : 6,
    protocol,
    source: four ? ipText(network, 12, 4) : ipText(network, 8, 16),
    destination: four ? ipText(network, 16, 4) : ipText(network, 24, 16),
    sourcePort: ports ? transport.readUInt16BE(0) : undefined,
    destinationPort: ports ? transport.readUInt16BE(2) : undefined,
  };
}
