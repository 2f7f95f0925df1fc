import { invalid } from '@iso/sys';
import { Message } from '../netlink/message.js';
import { NLM_F } from '../netlink/raw.js';
import { RuleCompiler } from './compile.js';
import {
  FAMILIES,
  HOOKS,
  NFGENMSG,
  NFNL_SUBSYS,
  NFT_DATA_VERDICT,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_HOOK,
  NFTA_LIST_ELEM,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_DESC,
  NFTA_SET_ELEM_LIST,
  NFTA_SET_FIELD_LEN,
  NFTA_TABLE,
  SET_FLAGS,
  TABLE_FLAGS,
} from './raw.js';
import { commentBytes, type SetElement, type SetSpec, sizeOf, typesOf, writeElement } from './set.js';
import type { ChainSpec, Operation, RuleSpec, TableFamily, TableSpec } from './table.js';

/** Elements of one message: what holds them has 16 bits of length. */
const ELEMENTS = 250;
const NAME_BYTES = 255;

/**
 * A message of nfnetlink.
 *
 * @param call - what errors call it
 * @param type - `NFT_MSG` number
 * @param family - of the table, default any
 * @param flags - beside NLM_F_REQUEST
 * @returns the message, its header written
 */
export function nftMessage(
  call: string,
  type: number,
  family: number,
  flags = 0,
  names?: Readonly<Record<string, number>>,
): Message {
  return new Message(call, (NFNL_SUBSYS.NFTABLES << 8) | type, flags, names).header(NFGENMSG, (header) => {
    header[0] = family;
  });
}

/**
 * The messages that an operation is.
 *
 * @param operation - the change
 * @param setId - number of a set that is made, unique in its transaction
 * @returns one, or several for many elements
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`)
 */
export function messagesOf(operation: Operation, setId: number): Message[] {
  const create = operation.verb === 'create' ? NLM_F.CREATE | NLM_F.EXCL : NLM_F.CREATE;
  switch (operation.what) {
    case 'table':
      return [operation.verb === 'remove' ? tableRemoval(operation.table) : tableMessage(operation.table, create)];
    case 'chain': {
      const { chain, verb } = operation;
      if (verb === 'flush') {
        const message = start('DELRULE', NFT_MSG.DELRULE, chain.table.family, 0, chain.name, NFTA_RULE);
        return [message.string(NFTA_RULE.TABLE, name(chain.table.name)).string(NFTA_RULE.CHAIN, name(chain.name))];
      }
      if (verb === 'remove') {
        const message = start('DELCHAIN', NFT_MSG.DELCHAIN, chain.table.family, 0, chain.name, NFTA_CHAIN);
        return [message.string(NFTA_CHAIN.TABLE, name(chain.table.name)).string(NFTA_CHAIN.NAME, name(chain.name))];
      }
      return [chainMessage(chain, create)];
    }
    case 'set': {
      const { set, verb } = operation;
      if (verb === 'flush') return [elementsMessage('DEL', set, [])];
      if (verb === 'remove') {
        const message = start('DELSET', NFT_MSG.DELSET, set.table.family, 0, set.name, NFTA_SET);
        return [message.string(NFTA_SET.TABLE, name(set.table.name)).string(NFTA_SET.NAME, name(set.name))];
      }
      return [setMessage(set, create, setId)];
    }
    case 'rule': {
      if (operation.verb === 'create') return [ruleMessage(operation.rule)];
      const { chain, handle } = operation;
      const message = start('DELRULE', NFT_MSG.DELRULE, chain.table.family, 0, `${chain.name} ${handle}`, NFTA_RULE);
      message.string(NFTA_RULE.TABLE, name(chain.table.name)).string(NFTA_RULE.CHAIN, name(chain.name));
      return [message.u64be(NFTA_RULE.HANDLE, handle)];
    }
    case 'elements': {
      const { set, elements, verb } = operation;
      const parts = Array.from({ length: Math.ceil(elements.length / ELEMENTS) }, (_, i) =>
        elements.slice(i * ELEMENTS, (i + 1) * ELEMENTS),
      );
      return parts.map((part) => elementsMessage(verb === 'create' ? 'NEW' : 'DEL', set, part));
    }
  }
}

function start(
  verb: string,
  type: number,
  family: TableFamily,
  flags: number,
  what: string,
  names: Readonly<Record<string, number>>,
): Message {
  if (!Object.hasOwn(FAMILIES, family)) throw invalid(`no such family of tables: ${JSON.stringify(family)}`);
  return nftMessage(`NFT_MSG_${verb} ${what}`, type, FAMILIES[family], flags, names);
}

function tableRemoval(table: { family: TableFamily; name: string }): Message {
  const message = start('DELTABLE', NFT_MSG.DELTABLE, table.family, 0, table.name, NFTA_TABLE);
  return message.string(NFTA_TABLE.NAME, name(table.name));
}

function tableMessage(table: TableSpec, flags: number): Message {
  const message = start('NEWTABLE', NFT_MSG.NEWTABLE, table.family, flags, table.name, NFTA_TABLE);
  const bits = (table.flags ?? []).reduce((all, flag) => all | TABLE_FLAGS[flag], 0);
  return message.string(NFTA_TABLE.NAME, name(table.name)).u32be(NFTA_TABLE.FLAGS, bits);
}

function chainMessage(chain: ChainSpec, flags: number): Message {
  const { family } = chain.table;
  const message = start('NEWCHAIN', NFT_MSG.NEWCHAIN, family, flags, chain.name, NFTA_CHAIN);
  message.string(NFTA_CHAIN.TABLE, name(chain.table.name)).string(NFTA_CHAIN.NAME, name(chain.name));
  const { hook } = chain;
  if (!hook) return message;
  const numbers: Readonly<Record<string, number>> =
    family === 'netdev' || family === 'arp' ? HOOKS[family] : HOOKS.inet;
  const number = numbers[hook.hook];
  if (number === undefined) throw invalid(`family ${family} has no hook ${hook.hook}`);
  message.nest(
    NFTA_CHAIN.HOOK,
    () => {
      message.u32be(NFTA_HOOK.HOOKNUM, number).u32be(NFTA_HOOK.PRIORITY, hook.priority >>> 0);
      const { devices } = hook;
      if (devices?.length === 1) message.string(NFTA_HOOK.DEV, devices[0] as string);
      else if (devices?.length)
        message.nest(NFTA_HOOK.DEVS, () => {
          for (const device of devices) message.string(1, device);
        });
    },
    NFTA_HOOK,
  );
  if (hook.policy !== undefined) message.u32be(NFTA_CHAIN.POLICY, hook.policy === 'accept' ? 1 : 0);
  return message.string(NFTA_CHAIN.TYPE, hook.type);
}

function setMessage(set: SetSpec, flags: number, id: number): Message {
  const message = start('NEWSET', NFT_MSG.NEWSET, set.table.family, flags, set.name, NFTA_SET);
  const key = typesOf(set.key);
  let bits = (set.flags ?? []).reduce((all, flag) => all | SET_FLAGS[flag], 0);
  if (set.data !== undefined) bits |= SET_FLAGS.map;
  if (key.length > 1 && bits & SET_FLAGS.interval) bits |= SET_FLAGS.concat;
  message.string(NFTA_SET.TABLE, name(set.table.name)).string(NFTA_SET.NAME, name(set.name));
  message.u32be(NFTA_SET.FLAGS, bits).u32be(NFTA_SET.KEY_TYPE, typeNumber(key)).u32be(NFTA_SET.KEY_LEN, sizeOf(key));
  if (set.data === 'verdict') message.u32be(NFTA_SET.DATA_TYPE, NFT_DATA_VERDICT).u32be(NFTA_SET.DATA_LEN, 0);
  else if (set.data !== undefined) {
    const data = typesOf(set.data);
    message.u32be(NFTA_SET.DATA_TYPE, typeNumber(data)).u32be(NFTA_SET.DATA_LEN, sizeOf(data));
  }
  const { size } = set;
  if (size !== undefined || bits & SET_FLAGS.concat) {
    message.nest(NFTA_SET.DESC, () => {
      if (size !== undefined) message.u32be(NFTA_SET_DESC.SIZE, size);
      if (bits & SET_FLAGS.concat)
        message.nest(NFTA_SET_DESC.CONCAT, () => {
          for (const type of key) message.nest(NFTA_LIST_ELEM, () => message.u32be(NFTA_SET_FIELD_LEN, type.size));
        });
    });
  }
  if (set.timeout !== undefined) message.u64be(NFTA_SET.TIMEOUT, set.timeout);
  message.raw(NFTA_SET.USERDATA, keyOrder(key, set));
  return message.u32be(NFTA_SET.ID, id);
}

/** Where nft looks up in which order of bytes to print keys and data. */
function keyOrder(key: readonly { name: string }[], set: SetSpec): Buffer {
  const order = (types: readonly { name: string }[]) => {
    const [only] = types;
    const host = types.length === 1 && only && hostOrder.has(only.name);
    return host ? 1 : 2;
  };
  const entry = (type: number, value: number) => Buffer.from([type, 4, value, 0, 0, 0]);
  const entries = [entry(0, order(key))];
  if (set.data !== undefined && set.data !== 'verdict') entries.push(entry(1, order(typesOf(set.data))));
  return Buffer.concat(entries);
}

const hostOrder: ReadonlySet<string> = new Set([
  'mark',
  'iface_index',
  'ifname',
  'ct_state',
  'ct_status',
  'fib_addrtype',
]);

/** nft counts the types of a concatenation in steps of six bits. */
function typeNumber(types: readonly { id: number }[]): number {
  return types.reduce((number, { id }) => (number << 6) | id, 0) >>> 0;
}

function ruleMessage(rule: RuleSpec): Message {
  const { table } = rule.chain;
  const flags = NLM_F.CREATE | (rule.insert ? 0 : NLM_F.APPEND);
  const message = start('NEWRULE', NFT_MSG.NEWRULE, table.family, flags, `${table.name} ${rule.chain.name}`, NFTA_RULE);
  message.string(NFTA_RULE.TABLE, name(table.name)).string(NFTA_RULE.CHAIN, name(rule.chain.name));
  message.nest(NFTA_RULE.EXPRESSIONS, () => {
    const compiler = new RuleCompiler(message, table.family);
    for (const statement of rule.statements) compiler.add(statement);
  });
  if (rule.comment !== undefined) message.raw(NFTA_RULE.USERDATA, commentBytes(rule.comment));
  return message;
}

function elementsMessage(verb: 'NEW' | 'DEL', set: SetSpec, elements: readonly SetElement[]): Message {
  const type = verb === 'NEW' ? NFT_MSG.NEWSETELEM : NFT_MSG.DELSETELEM;
  const flags = verb === 'NEW' ? NLM_F.CREATE | NLM_F.EXCL : 0;
  const message = start(`${verb}SETELEM`, type, set.table.family, flags, set.name, NFTA_SET_ELEM_LIST);
  message.string(NFTA_SET_ELEM_LIST.TABLE, name(set.table.name)).string(NFTA_SET_ELEM_LIST.SET, name(set.name));
  if (elements.length === 0) return message;
  return message.nest(NFTA_SET_ELEM_LIST.ELEMENTS, () => {
    for (const element of elements) writeElement(message, set, element, verb === 'NEW');
  });
}

function name(text: string): string {
  if (text === '' || Buffer.byteLength(text) > NAME_BYTES)
    throw invalid(`a name has 1 to ${NAME_BYTES} bytes: ${JSON.stringify(text)}`);
  return text;
}
