import type { Attributes } from '../netlink/attribute.js';
import { malformed } from '../netlink/error.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from '../route/name.js';
import { type FieldType, fieldTypes, type TypeName } from './field.js';
import type { ListedSet } from './list.js';
import {
  NFT_MSG,
  NFTA_DATA,
  NFTA_SET_ELEM,
  NFTA_SET_ELEM_LIST,
  NFTA_VERDICT,
  SET_ELEM_INTERVAL_END,
  VERDICTS,
} from './raw.js';
import { commentOf, enter } from './reply.js';
import type { Verdict } from './statement.js';

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
