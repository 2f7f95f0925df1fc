import { AF } from '@iso/sys';
import { type Family, ipBytes, parsePrefix } from '../ip/ip.js';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { numberOf, wordOf } from './name.js';
import { FIB_RULE_HDR, FIB_RULE_INVERT, FRA, RTM, RULE_ACTIONS, TABLES } from './raw.js';
import type { Requests } from './requests.js';

/** A rule that chooses a table, as it is to be: ip-rule(8). */
export interface RuleOptions {
  /** Lower ones are asked first. */
  priority?: number;
  family?: Family;
  /** Prefixes of source and destination. */
  from?: string;
  to?: string;
  /** Names of the links by which packets come and go. */
  iif?: string;
  oif?: string;
  mark?: number;
  /** Bits of the mark that count, default all. */
  mask?: number;
  /** Default action is to look this up. */
  table?: keyof typeof TABLES | number;
  action?: keyof typeof RULE_ACTIONS;
  /** Priority of the rule to go to, for action `goto`. */
  goto?: number;
  /** Number of the protocol: 6 is TCP, 17 UDP. */
  ipProtocol?: number;
  sourcePorts?: readonly [number, number];
  destinationPorts?: readonly [number, number];
  /** Routes with prefixes up to this length do not count. */
  suppressPrefixLength?: number;
  invert?: boolean;
}

/** A rule as the kernel describes it. */
export interface Rule {
  family: Family;
  priority: number;
  from: string | undefined;
  to: string | undefined;
  iif: string | undefined;
  oif: string | undefined;
  mark: number | undefined;
  mask: number | undefined;
  table: number;
  action: keyof typeof RULE_ACTIONS | number;
  goto: number | undefined;
  ipProtocol: number | undefined;
  sourcePorts: readonly [number, number] | undefined;
  destinationPorts: readonly [number, number] | undefined;
  suppressPrefixLength: number | undefined;
  invert: boolean;
}

/** The policy of a network namespace: `ip rule`. */
export class Rules {
  readonly #rtnl: Requests;

  /** @internal */
  constructor(rtnl: Requests) {
    this.#rtnl = rtnl;
  }

  /**
   * Adds a rule.
   *
   * @param options - what it matches, what it does
   * @throws KernelError `EEXIST`, `EINVAL`
   */
  create(options: RuleOptions): void {
    this.#rtnl.request(message('NEW', options, NLM_F.CREATE | NLM_F.EXCL));
  }

  /**
   * Removes a rule.
   *
   * @param options - what is not given counts for any
   * @throws KernelError `ENOENT` where there is none
   */
  remove(options: RuleOptions): void {
    this.#rtnl.request(message('DEL', options, 0));
  }

  /**
   * Lists rules.
   *
   * @param filter - of which family; default both
   * @returns by family, then priority
   */
  list(filter: { family?: Family } = {}): Rule[] {
    const families: readonly Family[] = filter.family ? [filter.family] : [4, 6];
    return families.flatMap((family) => {
      const request = new Message('RTM_GETRULE', RTM.GETRULE, NLM_F.DUMP, FRA);
      request.header(FIB_RULE_HDR, (header) => {
        header[0] = family === 4 ? AF.INET : AF.INET6;
      });
      return this.#rtnl.dump(request, RTM.NEWRULE, readRule);
    });
  }
}

function message(verb: 'NEW' | 'DEL', options: RuleOptions, flags: number): Message {
  const { priority, iif, oif, mark, mask, ipProtocol } = options;
  const call = `RTM_${verb}RULE${priority === undefined ? '' : ` ${priority}`}`;
  const request = new Message(call, verb === 'NEW' ? RTM.NEWRULE : RTM.DELRULE, flags, FRA);
  const [from, to] = [options.from, options.to].map((text) => (text === undefined ? undefined : parsePrefix(text)));
  const family = options.family ?? from?.family ?? to?.family ?? 4;
  const table = options.table === undefined ? undefined : numberOf(TABLES, options.table, 'a table');
  const action = options.action ?? (table === undefined && verb === 'DEL' ? undefined : 'lookup');
  request.header(FIB_RULE_HDR, (header) => {
    header[0] = family === 4 ? AF.INET : AF.INET6;
    header[1] = to?.length ?? 0;
    header[2] = from?.length ?? 0;
    header[4] = table === undefined || table > 255 ? 0 : table;
    header[7] = action === undefined ? 0 : numberOf(RULE_ACTIONS, action, 'an action of a rule');
    header.writeUInt32LE(options.invert ? FIB_RULE_INVERT : 0, 8);
  });
  if (priority !== undefined) request.u32(FRA.PRIORITY, priority);
  if (to?.length) request.raw(FRA.DST, ipBytes(to.address));
  if (from?.length) request.raw(FRA.SRC, ipBytes(from.address));
  if (iif !== undefined) request.string(FRA.IIFNAME, iif);
  if (oif !== undefined) request.string(FRA.OIFNAME, oif);
  if (mark !== undefined) request.u32(FRA.FWMARK, mark);
  if (mask !== undefined) request.u32(FRA.FWMASK, mask);
  if (table !== undefined) request.u32(FRA.TABLE, table);
  if (options.goto !== undefined) request.u32(FRA.GOTO, options.goto);
  if (ipProtocol !== undefined) request.u8(FRA.IP_PROTO, ipProtocol);
  if (options.sourcePorts) request.raw(FRA.SPORT_RANGE, ports(options.sourcePorts));
  if (options.destinationPorts) request.raw(FRA.DPORT_RANGE, ports(options.destinationPorts));
  if (options.suppressPrefixLength !== undefined) request.u32(FRA.SUPPRESS_PREFIXLEN, options.suppressPrefixLength);
  return request;
}

/**
 * Reads RTM_NEWRULE.
 *
 * @param reply - the message
 * @returns the rule; undefined for one of another family
 * @throws KernelError `EBADMSG`
 */
export function readRule(reply: Replies): Rule | undefined {
  const { bytes } = reply;
  const at = reply.header(FIB_RULE_HDR);
  const family = bytes[at];
  if (family !== AF.INET && family !== AF.INET6) return undefined;
  const rule: Rule = {
    family: family === AF.INET ? 4 : 6,
    priority: 0,
    from: undefined,
    to: undefined,
    iif: undefined,
    oif: undefined,
    mark: undefined,
    mask: undefined,
    table: bytes[at + 4] as number,
    action: wordOf(RULE_ACTIONS, bytes[at + 7] as number),
    goto: undefined,
    ipProtocol: undefined,
    sourcePorts: undefined,
    destinationPorts: undefined,
    suppressPrefixLength: undefined,
    invert: (bytes.readUInt32LE(at + 8) & FIB_RULE_INVERT) !== 0,
  };
  const attributes = reply.attributes(FIB_RULE_HDR);
  const range = () => {
    const pair = attributes.fixed(4);
    return [pair.readUInt16LE(0), pair.readUInt16LE(2)] as const;
  };
  while (attributes.next()) {
    const { type } = attributes;
    if (type === FRA.PRIORITY) rule.priority = attributes.u32();
    else if (type === FRA.DST) rule.to = `${attributes.ip()}/${bytes[at + 1]}`;
    else if (type === FRA.SRC) rule.from = `${attributes.ip()}/${bytes[at + 2]}`;
    else if (type === FRA.IIFNAME) rule.iif = attributes.string();
    else if (type === FRA.OIFNAME) rule.oif = attributes.string();
    else if (type === FRA.FWMARK) rule.mark = attributes.u32();
    else if (type === FRA.FWMASK) rule.mask = attributes.u32();
    else if (type === FRA.TABLE) rule.table = attributes.u32();
    else if (type === FRA.GOTO) rule.goto = attributes.u32();
    else if (type === FRA.IP_PROTO) rule.ipProtocol = attributes.u8();
    else if (type === FRA.SPORT_RANGE) rule.sourcePorts = range();
    else if (type === FRA.DPORT_RANGE) rule.destinationPorts = range();
    else if (type === FRA.SUPPRESS_PREFIXLEN && attributes.i32() >= 0) rule.suppressPrefixLength = attributes.u32();
  }
  return rule;
}

function ports([from, to]: readonly [number, number]): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt16LE(from, 0);
  bytes.writeUInt16LE(to, 2);
  return bytes;
}
