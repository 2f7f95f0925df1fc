/**
 * Traffic control: queueing disciplines, classes and filters, as `NetNS.rtnl.qdiscs`, `classes` and `filters` take them.
 *
 * @packageDocumentation
 */
export { type FilterAction, type FilterSettings, ipv4Keys, type U32Key } from './filter.js';
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
export {
  Classes,
  type FilterPlace,
  Filters,
  type ListedFilter,
  type ListedQdisc,
  type QdiscPlace,
  Qdiscs,
} from './traffic.js';
