/**
 * nf_tables over netlink: tables, chains, sets, maps and rules, changed in transactions, without `nft`.
 *
 * @packageDocumentation
 */

export type { ListedElement } from './element.js';
export type { FieldName, TypeName } from './field.js';
export type { ListedChain, ListedRule, ListedSet, ListedTable } from './list.js';
export { Nft } from './nft.js';
export type { KeyPart, SetElement, SetSpec } from './set.js';
export {
  accept,
  counter,
  dnat,
  drop,
  goto,
  inSet,
  jump,
  type LimitPeriod,
  limit,
  log,
  type MatchValue,
  masquerade,
  match,
  type NatTarget,
  notrack,
  redirect,
  reject,
  returns,
  type Statement,
  setMark,
  snat,
  trace,
  type Verdict,
  vmap,
} from './statement.js';
export type { ChainRef, ChainSpec, Hook, Operation, RuleSpec, TableFamily, TableRef, TableSpec } from './table.js';
export { ruleText } from './text.js';
export { type TracedPacket, type TraceEvent, watchTrace } from './trace.js';
export { Transaction } from './transaction.js';
