import type { Message } from '../netlink/message.js';
import { byteRate, isWide, narrow, rateSpec, rateTable, share, ticks, transmitTicks } from './rate.js';
import { HTB_RATE_TO_QUANTUM, HTB_VERSION, TCA, TCA_FQ_CODEL, TCA_HTB, TCA_NETEM, TCA_TBF } from './raw.js';

/** A token bucket: no more than a rate leaves. */
export interface TbfOptions {
  kind: 'tbf';
  /** Bits a second. */
  rate: number;
  /** Bytes that may leave at once: at least a packet as large as segmentation offload makes them, 64 KiB. */
  burst: number;
  /** Milliseconds that a packet may wait at the most; or `limit`, in bytes. */
  latency?: number;
  limit?: number;
}

/** A hierarchy of rates; its classes hold them. */
export interface HtbOptions {
  kind: 'htb';
  /** Minor number of the class of what no filter takes, 0 for none. */
  defaultClass?: number;
}

/** Fair queues that are kept short. */
export interface FqCodelOptions {
  kind: 'fq_codel';
  /** Packets. */
  limit?: number;
  flows?: number;
  /** Milliseconds. */
  target?: number;
  interval?: number;
  /** Bytes. */
  quantum?: number;
  ecn?: boolean;
}

/** A bad line, for tests: times in milliseconds, shares in percent. */
export interface NetemOptions {
  kind: 'netem';
  delay?: number;
  jitter?: number;
  delayCorrelation?: number;
  loss?: number;
  duplicate?: number;
  reorder?: number;
  reorderCorrelation?: number;
  corrupt?: number;
  /** Bits a second. */
  rate?: number;
  /** Packets, default 1000. */
  limit?: number;
}

/** Queues of a fixed length, in packets. */
export interface PfifoOptions {
  kind: 'pfifo';
  limit: number;
}

/** Places for filters on what comes in (`ingress`), or both ways (`clsact`). */
export interface IngressOptions {
  kind: 'ingress' | 'clsact';
}

/** Settings of a queueing discipline, by kind; see tc(8). */
export type QdiscSettings = TbfOptions | HtbOptions | FqCodelOptions | NetemOptions | PfifoOptions | IngressOptions;

/** Settings of a class of htb. */
export interface ClassSettings {
  /** Bits a second that it is given, and that it may borrow up to; `ceil` is `rate` by default. */
  rate: number;
  ceil?: number;
  /** Bytes that may leave at once; default is what the rate gives in a tick, and a packet. */
  burst?: number;
  ceilBurst?: number;
  /** Bytes that it may send in its turn. */
  quantum?: number;
  /** Lower ones borrow first. */
  priority?: number;
}

/** Largest packet for which htb makes its tables. */
const HTB_MTU = 1600;
const NETEM_LIMIT = 1000;

/**
 * Adds TCA_OPTIONS.
 *
 * @param message - where to
 * @param settings - the settings
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function writeQdisc(message: Message, settings: QdiscSettings): void {
  switch (settings.kind) {
    case 'tbf':
      message.nest(TCA.OPTIONS, () => writeTbf(message, settings), TCA_TBF, false);
      break;
    case 'htb':
      message.nest(TCA.OPTIONS, () => message.raw(TCA_HTB.INIT, htbInit(settings)), TCA_HTB, false);
      break;
    case 'fq_codel':
      message.nest(TCA.OPTIONS, () => writeFqCodel(message, settings), TCA_FQ_CODEL, false);
      break;
    case 'netem':
      message.nest(TCA.OPTIONS, () => writeNetem(message, settings), TCA_NETEM, false);
      break;
    case 'pfifo':
      message.u32(TCA.OPTIONS, settings.limit);
      break;
    case 'ingress':
    case 'clsact':
      break;
  }
}

function writeTbf(message: Message, { rate, burst, latency = 50, limit }: TbfOptions): void {
  const bytes = byteRate(rate);
  const parameters = Buffer.alloc(36);
  rateSpec(bytes).copy(parameters, 0);
  parameters.writeUInt32LE(limit ?? Math.floor((bytes * latency) / 1000) + burst, 24);
  parameters.writeUInt32LE(transmitTicks(narrow(bytes), burst), 28);
  message.raw(TCA_TBF.PARMS, parameters).u32(TCA_TBF.BURST, burst);
  if (isWide(bytes)) message.u64(TCA_TBF.RATE64, bytes);
  message.raw(TCA_TBF.RTAB, rateTable(bytes));
}

function htbInit({ defaultClass = 0 }: HtbOptions): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt32LE(HTB_VERSION, 0);
  bytes.writeUInt32LE(HTB_RATE_TO_QUANTUM, 4);
  bytes.writeUInt32LE(defaultClass, 8);
  return bytes;
}

/**
 * Adds TCA_OPTIONS of a class of htb.
 *
 * @param message - where to
 * @param settings - the settings
 */
export function writeHtbClass(message: Message, settings: ClassSettings): void {
  const rate = byteRate(settings.rate);
  const ceil = byteRate(settings.ceil ?? settings.rate);
  const parameters = Buffer.alloc(44);
  rateSpec(rate, HTB_MTU).copy(parameters, 0);
  rateSpec(ceil, HTB_MTU).copy(parameters, 12);
  const burst = (bytes: number) => Math.floor(bytes / 1e9) + HTB_MTU;
  parameters.writeUInt32LE(transmitTicks(rate, settings.burst ?? burst(rate)), 24);
  parameters.writeUInt32LE(transmitTicks(ceil, settings.ceilBurst ?? burst(ceil)), 28);
  parameters.writeUInt32LE(settings.quantum ?? 0, 32);
  parameters.writeUInt32LE(settings.priority ?? 0, 40);
  message.nest(
    TCA.OPTIONS,
    () => {
      if (isWide(rate)) message.u64(TCA_HTB.RATE64, rate);
      if (isWide(ceil)) message.u64(TCA_HTB.CEIL64, ceil);
      message.raw(TCA_HTB.PARMS, parameters);
      message.raw(TCA_HTB.RTAB, rateTable(rate, HTB_MTU)).raw(TCA_HTB.CTAB, rateTable(ceil, HTB_MTU));
    },
    TCA_HTB,
    false,
  );
}

function writeFqCodel(message: Message, settings: FqCodelOptions): void {
  const { limit, flows, quantum, interval, target, ecn } = settings;
  if (limit !== undefined) message.u32(TCA_FQ_CODEL.LIMIT, limit);
  if (flows !== undefined) message.u32(TCA_FQ_CODEL.FLOWS, flows);
  if (quantum !== undefined) message.u32(TCA_FQ_CODEL.QUANTUM, quantum);
  if (interval !== undefined) message.u32(TCA_FQ_CODEL.INTERVAL, Math.round(interval * 1000));
  if (target !== undefined) message.u32(TCA_FQ_CODEL.TARGET, Math.round(target * 1000));
  if (ecn !== undefined) message.u32(TCA_FQ_CODEL.ECN, ecn ? 1 : 0);
}

function writeNetem(message: Message, settings: NetemOptions): void {
  const {
    delay = 0,
    jitter = 0,
    delayCorrelation,
    loss = 0,
    duplicate = 0,
    reorder,
    reorderCorrelation = 0,
  } = settings;
  const words = (...values: number[]) => {
    const bytes = Buffer.alloc(4 * values.length);
    for (const [i, value] of values.entries()) bytes.writeUInt32LE(value, 4 * i);
    return bytes;
  };
  // A structure stands before the attributes; with reordering every packet is a candidate.
  const gap = reorder === undefined ? 0 : 1;
  const limit = settings.limit ?? NETEM_LIMIT;
  const head = words(ticks(delay), limit, share(loss), gap, share(duplicate), ticks(jitter));
  message.header(head.length, (header) => head.copy(header));
  if (delayCorrelation !== undefined) message.raw(TCA_NETEM.CORR, words(share(delayCorrelation), 0, 0));
  if (reorder !== undefined) message.raw(TCA_NETEM.REORDER, words(share(reorder), share(reorderCorrelation)));
  if (settings.corrupt !== undefined) message.raw(TCA_NETEM.CORRUPT, words(share(settings.corrupt), 0));
  if (settings.rate === undefined) return;
  const rate = byteRate(settings.rate);
  if (isWide(rate)) message.u64(TCA_NETEM.RATE64, rate);
  message.raw(TCA_NETEM.RATE, words(narrow(rate), 0, 0, 0));
}
