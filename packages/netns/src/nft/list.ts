import type { Attributes } from '../netlink/attribute.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from '../route/name.js';
import { fieldTypes, type TypeName } from './field.js';
import {
  HOOKS,
  NFT_DATA_VERDICT,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_COUNTER,
  NFTA_EXPR,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET,
  NFTA_TABLE,
  SET_FLAGS,
  TABLE_FLAGS,
} from './raw.js';
import { commentOf, enter, familyOf } from './reply.js';
import type { Hook, TableFamily } from './table.js';

/** A table as the kernel describes it. */
export interface ListedTable {
  family: TableFamily;
  name: string;
  handle: bigint;
  flags: (keyof typeof TABLE_FLAGS)[];
  /** Port of the netlink socket that owns it. */
  owner: number | undefined;
}

/** A chain as the kernel describes it. */
export interface ListedChain {
  family: TableFamily;
  table: string;
  name: string;
  handle: bigint;
  hook: { type: string; hook: Hook; priority: number; policy: 'accept' | 'drop' | undefined } | undefined;
}

/** A rule as the kernel describes it. */
export interface ListedRule {
  family: TableFamily;
  table: string;
  chain: string;
  handle: bigint;
  /** The kernel's names of its expressions, in order. */
  expressions: string[];
  /** What it counted, where it has a counter. */
  counter: { packets: bigint; bytes: bigint } | undefined;
  comment: string | undefined;
}

/** A set or map as the kernel describes it. */
export interface ListedSet {
  family: TableFamily;
  table: string;
  name: string;
  handle: bigint;
  flags: (keyof typeof SET_FLAGS)[];
  /** Types of a key's fields; undefined where one is not known here. */
  key: TypeName[] | undefined;
  /** Types of what a map leads to. */
  data: TypeName[] | 'verdict' | undefined;
}

/** Reads NFT_MSG_NEWTABLE. */
export function readTable(reply: Replies): ListedTable | undefined {
  const attributes = enter(reply, NFT_MSG.NEWTABLE);
  if (!attributes) return undefined;
  const table: ListedTable = { family: familyOf(reply), name: '', handle: 0n, flags: [], owner: undefined };
  while (attributes.next()) {
    if (attributes.type === NFTA_TABLE.NAME) table.name = attributes.string();
    else if (attributes.type === NFTA_TABLE.HANDLE) table.handle = attributes.u64be();
    else if (attributes.type === NFTA_TABLE.FLAGS) table.flags = flagsOf(TABLE_FLAGS, attributes.u32be());
    else if (attributes.type === NFTA_TABLE.OWNER) table.owner = attributes.u32be();
  }
  return table;
}

/** Reads NFT_MSG_NEWCHAIN. */
export function readChain(reply: Replies): ListedChain | undefined {
  const attributes = enter(reply, NFT_MSG.NEWCHAIN);
  if (!attributes) return undefined;
  const family = familyOf(reply);
  const chain: ListedChain = { family, table: '', name: '', handle: 0n, hook: undefined };
  let [type, policy]: [string, number | undefined] = ['', undefined];
  while (attributes.next()) {
    if (attributes.type === NFTA_CHAIN.TABLE) chain.table = attributes.string();
    else if (attributes.type === NFTA_CHAIN.NAME) chain.name = attributes.string();
    else if (attributes.type === NFTA_CHAIN.HANDLE) chain.handle = attributes.u64be();
    else if (attributes.type === NFTA_CHAIN.TYPE) type = attributes.string();
    else if (attributes.type === NFTA_CHAIN.POLICY) policy = attributes.u32be();
    else if (attributes.type === NFTA_CHAIN.HOOK) {
      const names: Readonly<Record<string, number>> =
        family === 'netdev' || family === 'arp' ? HOOKS[family] : HOOKS.inet;
      const hook = { type, hook: 'input' as Hook, priority: 0, policy: undefined };
      const inner = attributes.nested();
      while (inner.next()) {
        if (inner.type === NFTA_HOOK.HOOKNUM) hook.hook = wordOf(names, inner.u32be()) as Hook;
        else if (inner.type === NFTA_HOOK.PRIORITY) hook.priority = inner.u32be() | 0;
      }
      chain.hook = hook;
    }
  }
  if (chain.hook)
    Object.assign(chain.hook, { type, policy: policy === undefined ? undefined : policy === 1 ? 'accept' : 'drop' });
  return chain;
}

/** Reads NFT_MSG_NEWRULE. */
export function readRule(reply: Replies): ListedRule | undefined {
  const attributes = enter(reply, NFT_MSG.NEWRULE);
  if (!attributes) return undefined;
  const rule: ListedRule = {
    family: familyOf(reply),
    table: '',
    chain: '',
    handle: 0n,
    expressions: [],
    counter: undefined,
    comment: undefined,
  };
  while (attributes.next()) {
    if (attributes.type === NFTA_RULE.TABLE) rule.table = attributes.string();
    else if (attributes.type === NFTA_RULE.CHAIN) rule.chain = attributes.string();
    else if (attributes.type === NFTA_RULE.HANDLE) rule.handle = attributes.u64be();
    else if (attributes.type === NFTA_RULE.USERDATA) rule.comment = commentOf(attributes.bytes());
    else if (attributes.type === NFTA_RULE.EXPRESSIONS) {
      const expressions = attributes.nested();
      while (expressions.next()) readExpression(rule, expressions.nested());
    }
  }
  return rule;
}

function readExpression(rule: ListedRule, expression: Attributes): void {
  let name = '';
  while (expression.next()) {
    if (expression.type === NFTA_EXPR.NAME) {
      name = expression.string();
      rule.expressions.push(name);
    } else if (expression.type === NFTA_EXPR.DATA && name === 'counter') {
      const counter = { packets: 0n, bytes: 0n };
      const data = expression.nested();
      while (data.next()) {
        if (data.type === NFTA_COUNTER.BYTES) counter.bytes = data.u64be();
        else if (data.type === NFTA_COUNTER.PACKETS) counter.packets = data.u64be();
      }
      rule.counter = counter;
    }
  }
}

/** Reads NFT_MSG_NEWSET. */
export function readSet(reply: Replies): ListedSet | undefined {
  const attributes = enter(reply, NFT_MSG.NEWSET);
  if (!attributes) return undefined;
  const set: ListedSet = {
    family: familyOf(reply),
    table: '',
    name: '',
    handle: 0n,
    flags: [],
    key: undefined,
    data: undefined,
  };
  while (attributes.next()) {
    if (attributes.type === NFTA_SET.TABLE) set.table = attributes.string();
    else if (attributes.type === NFTA_SET.NAME) set.name = attributes.string();
    else if (attributes.type === NFTA_SET.HANDLE) set.handle = attributes.u64be();
    else if (attributes.type === NFTA_SET.FLAGS) set.flags = flagsOf(SET_FLAGS, attributes.u32be());
    else if (attributes.type === NFTA_SET.KEY_TYPE) set.key = typesOfNumber(attributes.u32be());
    else if (attributes.type === NFTA_SET.DATA_TYPE) {
      const number = attributes.u32be();
      set.data = number === NFT_DATA_VERDICT ? 'verdict' : typesOfNumber(number);
    }
  }
  return set;
}

function flagsOf<K extends string>(names: Readonly<Record<K, number>>, bits: number): K[] {
  return (Object.keys(names) as K[]).filter((name) => bits & names[name]);
}

const byId = new Map(Object.entries(fieldTypes).map(([name, { id }]) => [id, name as TypeName]));

function typesOfNumber(number: number): TypeName[] | undefined {
  const names: TypeName[] = [];
  for (let rest = number; rest > 0; rest >>>= 6) {
    const name = byId.get(rest & 63);
    if (!name) return undefined;
    names.unshift(name);
  }
  return names.length ? names : undefined;
}
