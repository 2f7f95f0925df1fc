/**
 * Traffic control: queueing disciplines, classes and filters, as `NetNS.rtnl.qdiscs`, `classes` and `filters` take them.
 *
 * @packageDocumentation
 */

export { Classes } from './classes.js';
export { type FilterAction, type FilterSettings, ipv4Keys, type U32Key } from './filter.js';
export { type FilterPlace, Filters, type ListedFilter } from './filters.js';
export type { TcHandle } from './handle.js';
export type {
  ClassSettings,
  FqCodelOptions,
  HtbOptions,
  IngressOptions,
  NetemOptions,
  PfifoOptions,
  QdiscSettings,
  TbfOptions,
} from './qdisc.js';
export { type QdiscPlace, Qdiscs } from './qdiscs.js';
export type { ListedQdisc } from './tcmsg.js';
