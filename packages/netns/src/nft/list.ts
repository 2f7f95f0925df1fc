import type { Attributes } from '../netlink/attribute.js';
import { malformed } from '../netlink/error.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from '../route/name.js';
import { type FieldType, fieldTypes, type TypeName } from './field.js';
import {
  FAMILIES,
  HOOKS,
  NFGENMSG,
  NFNL_SUBSYS,
  NFT_DATA_VERDICT,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_COUNTER,
  NFTA_DATA,
  NFTA_EXPR,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_TABLE,
  NFTA_VERDICT,
  SET_ELEM_INTERVAL_END,
  SET_FLAGS,
  TABLE_FLAGS,
  VERDICTS,
} from './raw.js';
import type { Verdict } from './statement.js';
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

/** An element as the kernel describes it. Of a range without concatenation, `end` stands at the first value behind it. */
export interface ListedElement {
  /** Values of its fields; the whole as hexadecimal digits where the types are not known here. */
  key: (string | number)[];
  /** Last values of a range in a concatenation. */
  keyEnd: (string | number)[] | undefined;
  end: boolean;
  data: (string | number)[] | Verdict | undefined;
  /** Milliseconds that it has left. */
  expires: number | undefined;
  comment: string | undefined;
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

/** Reads NFT_MSG_NEWSETELEM. */
export function readElements(reply: Replies, set: ListedSet): ListedElement[] | undefined {
  const attributes = enter(reply, NFT_MSG.NEWSETELEM);
  if (!attributes) return undefined;
  const elements: ListedElement[] = [];
  while (attributes.next()) {
    if (attributes.type !== NFTA_SET_ELEM_LIST.ELEMENTS) continue;
    const list = attributes.nested();
    while (list.next()) elements.push(readElement(list.nested(), set));
  }
  return elements;
}

function readElement(attributes: Attributes, set: ListedSet): ListedElement {
  const element: ListedElement = {
    key: [],
    keyEnd: undefined,
    end: false,
    data: undefined,
    expires: undefined,
    comment: undefined,
  };
  while (attributes.next()) {
    if (attributes.type === NFTA_SET_ELEM.KEY) element.key = readValue(attributes.nested(), set.key);
    else if (attributes.type === NFTA_SET_ELEM.KEY_END) element.keyEnd = readValue(attributes.nested(), set.key);
    else if (attributes.type === NFTA_SET_ELEM.FLAGS) element.end = (attributes.u32be() & SET_ELEM_INTERVAL_END) !== 0;
    else if (attributes.type === NFTA_SET_ELEM.EXPIRATION) element.expires = Number(attributes.u64be());
    else if (attributes.type === NFTA_SET_ELEM.USERDATA) element.comment = commentOf(attributes.bytes());
    else if (attributes.type === NFTA_SET_ELEM.DATA)
      element.data =
        set.data === 'verdict' ? readVerdict(attributes.nested()) : readValue(attributes.nested(), set.data);
  }
  return element;
}

function readValue(attributes: Attributes, types: readonly TypeName[] | undefined): (string | number)[] {
  while (attributes.next()) {
    if (attributes.type !== NFTA_DATA.VALUE) continue;
    const bytes = attributes.bytes();
    if (!types) return [bytes.toString('hex')];
    let at = 0;
    return types.map((name) => {
      const type: FieldType = fieldTypes[name];
      if (at + type.size > bytes.length) throw malformed(`a value of ${bytes.length} bytes`, attributes.start);
      const value = type.decode(bytes.subarray(at, at + type.size));
      at += (type.size + 3) & ~3;
      return value;
    });
  }
  return [];
}

function readVerdict(attributes: Attributes): Verdict | undefined {
  while (attributes.next()) {
    if (attributes.type !== NFTA_DATA.VERDICT) continue;
    let [code, chain] = [0, ''];
    const inner = attributes.nested();
    while (inner.next()) {
      if (inner.type === NFTA_VERDICT.CODE) code = inner.u32be() | 0;
      else if (inner.type === NFTA_VERDICT.CHAIN) chain = inner.string();
    }
    if (code === VERDICTS.jump) return { jump: chain };
    if (code === VERDICTS.goto) return { goto: chain };
    return wordOf(VERDICTS, code) as Verdict;
  }
  return undefined;
}

function enter(reply: Replies, type: number): Attributes | undefined {
  return reply.type === ((NFNL_SUBSYS.NFTABLES << 8) | type) ? reply.attributes(NFGENMSG) : undefined;
}

function familyOf(reply: Replies): TableFamily {
  return wordOf(FAMILIES, reply.bytes[reply.header(NFGENMSG)] as number) as TableFamily;
}

function flagsOf<K extends string>(names: Readonly<Record<K, number>>, bits: number): K[] {
  return (Object.keys(names) as K[]).filter((name) => bits & names[name]);
}

/** The comment in user data that nft writes: entries of type, length, value. */
function commentOf(bytes: Buffer): string | undefined {
  for (let at = 0; at + 2 <= bytes.length; at += 2 + (bytes[at + 1] as number))
    if (bytes[at] === 0)
      return bytes.toString('utf8', at + 2, at + 2 + (bytes[at + 1] as number)).replace(/\0.*$/s, '');
  return undefined;
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
