import type { Attributes } from '../netlink/attribute.js';
import type { Replies } from '../netlink/replies.js';
import { wordOf } from '../route/name.js';
import { FAMILIES, NFGENMSG, NFNL_SUBSYS } from './raw.js';
import type { TableFamily } from './table.js';

/** The attributes of a message of nf_tables, where it is of that type. */
export function enter(reply: Replies, type: number): Attributes | undefined {
  return reply.type === ((NFNL_SUBSYS.NFTABLES << 8) | type) ? reply.attributes(NFGENMSG) : undefined;
}

/** The family of the table that it is about. */
export function familyOf(reply: Replies): TableFamily {
  return wordOf(FAMILIES, reply.bytes[reply.header(NFGENMSG)] as number) as TableFamily;
}

/** The comment in user data that nft writes: entries of type, length, value. */
export function commentOf(bytes: Buffer): string | undefined {
  for (let at = 0; at + 2 <= bytes.length; at += 2 + (bytes[at + 1] as number))
    if (bytes[at] === 0)
      return bytes.toString('utf8', at + 2, at + 2 + (bytes[at + 1] as number)).replace(/\0.*$/s, '');
  return undefined;
}
