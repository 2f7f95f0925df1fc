import { AF } from '@iso/sys';
import { Monitor, type MonitorOptions } from '../netlink/monitor.js';
import { NETLINK } from '../netlink/raw.js';
import type { Replies } from '../netlink/replies.js';
import { type Address, readAddress } from './addresses.js';
import { type Link, readLink } from './link.js';
import { type Neighbour, readNeighbour } from './neighbours.js';
import { IFINFOMSG, RTM, RTNLGRP } from './raw.js';
import { type Route, readRoute } from './route.js';
import type { Rtnetlink } from './rtnetlink.js';
import { type Rule, readRule } from './rules.js';

/** What to watch. Where nothing is named, everything. */
export interface WatchTopics {
  links?: boolean;
  addresses?: boolean;
  routes?: boolean;
  rules?: boolean;
  neighbours?: boolean;
}

/** All there is, of the topics that are watched. */
export interface Snapshot {
  links?: Link[];
  addresses?: Address[];
  routes?: Route[];
  rules?: Rule[];
  neighbours?: Neighbour[];
}

/** A change: `new` also stands for one that changed. */
export type RouteEvent =
  | { type: 'new' | 'del'; topic: 'links'; link: Link }
  | { type: 'new' | 'del'; topic: 'addresses'; address: Address }
  | { type: 'new' | 'del'; topic: 'routes'; route: Route }
  | { type: 'new' | 'del'; topic: 'rules'; rule: Rule }
  | { type: 'new' | 'del'; topic: 'neighbours'; neighbour: Neighbour }
  | { type: 'resync'; state: Snapshot };

const groups: Readonly<Record<keyof WatchTopics, readonly number[]>> = {
  links: [RTNLGRP.LINK],
  addresses: [RTNLGRP.IPV4_IFADDR, RTNLGRP.IPV6_IFADDR],
  routes: [RTNLGRP.IPV4_ROUTE, RTNLGRP.IPV6_ROUTE],
  rules: [RTNLGRP.IPV4_RULE, RTNLGRP.IPV6_RULE],
  neighbours: [RTNLGRP.NEIGH],
};

/**
 * Watches a namespace.
 *
 * @param rtnl - reads the state after an overrun
 * @param topics - what to watch
 * @param options - where, buffer, signal
 * @returns the events
 */
export function watchRoutes(rtnl: Rtnetlink, topics: WatchTopics, options: MonitorOptions): Monitor<RouteEvent> {
  const all = Object.keys(groups) as (keyof WatchTopics)[];
  const named = all.filter((topic) => topics[topic]);
  const wanted = named.length ? named : all;
  const resync = (): RouteEvent => ({
    type: 'resync',
    state: Object.fromEntries(wanted.map((topic) => [topic, rtnl[topic].list()])),
  });
  const numbers = wanted.flatMap((topic) => groups[topic]);
  return new Monitor<RouteEvent>(NETLINK.ROUTE, numbers, readEvent, resync, options);
}

function readEvent(message: Replies): RouteEvent | undefined {
  switch (message.type) {
    case RTM.NEWLINK:
    case RTM.DELLINK: {
      // A port that leaves its bridge is told of as a deleted link of family bridge, though it lives on.
      if (message.bytes[message.header(IFINFOMSG)] === AF.BRIDGE) return undefined;
      return { type: message.type === RTM.NEWLINK ? 'new' : 'del', topic: 'links', link: readLink(message) };
    }
    case RTM.NEWADDR:
    case RTM.DELADDR: {
      const address = readAddress(message);
      return address && { type: message.type === RTM.NEWADDR ? 'new' : 'del', topic: 'addresses', address };
    }
    case RTM.NEWROUTE:
    case RTM.DELROUTE: {
      const route = readRoute(message);
      return route && { type: message.type === RTM.NEWROUTE ? 'new' : 'del', topic: 'routes', route };
    }
    case RTM.NEWRULE:
    case RTM.DELRULE: {
      const rule = readRule(message);
      return rule && { type: message.type === RTM.NEWRULE ? 'new' : 'del', topic: 'rules', rule };
    }
    case RTM.NEWNEIGH:
    case RTM.DELNEIGH: {
      const neighbour = readNeighbour(message);
      return neighbour && { type: message.type === RTM.NEWNEIGH ? 'new' : 'del', topic: 'neighbours', neighbour };
    }
    default:
      return undefined;
  }
}
