/**
 * rtnetlink: links, addresses, routes, rules, neighbours, forwarding tables, next hops, and what changes of them.
 *
 * @packageDocumentation
 */
export { type Address, Addresses, type AddressFlag, type AddressOptions } from './addresses.js';
export { Fdb, type FdbEntry, type FdbOptions } from './fdb.js';
export type { Link, LinkOptions, LinkSettings, NetNSRef, NewLink, Peer } from './link.js';
export type { BridgeData, BridgePort, IpvlanData, MacvlanData, VlanData, VxlanData } from './link-kind.js';
export { type LinkFilter, type LinkRef, Links } from './links.js';
export { type Neighbour, type NeighbourOptions, Neighbours } from './neighbours.js';
export { type NextHopObject, type NextHopOptions, NextHops } from './nexthops.js';
export type { NextHop, Route, RouteOptions, RouteType } from './route.js';
export { type RouteFilter, Routes } from './routes.js';
export { Rtnetlink } from './rtnetlink.js';
export { type Rule, type RuleOptions, Rules } from './rules.js';
export type { LinkStats } from './stats.js';
export type { RouteEvent, Snapshot, WatchTopics } from './watch.js';
