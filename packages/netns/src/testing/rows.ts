// What `ip -j` says and what we say, each row in one form.
import type { NetNS } from '../index.js';
import type { Address, Link, Route, Rtnetlink } from '../route/index.js';
import { IFA_F, IFF } from '../route/raw.js';
import { ip } from './judge.js';

/** Numbers of the flags by the names that `ip` gives them. */
const FLAGS: Readonly<Record<string, number>> = {
  UP: IFF.UP,
  BROADCAST: 2,
  LOOPBACK: 8,
  POINTOPOINT: 0x10,
  NOARP: 0x80,
  PROMISC: 0x100,
  ALLMULTI: 0x200,
  MASTER: 0x400,
  SLAVE: 0x800,
  MULTICAST: 0x1000,
  LOWER_UP: IFF.LOWER_UP,
};
const flagBits = (names: readonly string[]) => names.reduce((bits, name) => bits | (FLAGS[name] ?? 0), 0);
const VISIBLE = Object.values(FLAGS).reduce((a, b) => a | b, 0);

/** Our links. */
export function ourLinks(links: readonly Link[]) {
  const names = new Map(links.map((link) => [link.index, link.name]));
  return links.map((link) => ({
    ifindex: link.index,
    ifname: link.name,
    flags: link.flags & VISIBLE,
    mtu: link.mtu,
    qdisc: link.qdisc,
    operstate: link.operstate,
    address: link.mac,
    broadcast: link.broadcast,
    txqlen: link.txQueueLength || undefined,
    kind: link.kind,
    master: link.master && names.get(link.master),
    parent: link.parent && (link.parentNsid === undefined ? names.get(link.parent) : link.parent),
    nsid: link.parentNsid,
    alias: link.alias,
    altnames: link.altNames.length ? link.altNames : undefined,
  }));
}

/** Links of `ip -j`, which has them in the kernel's order. */
export function theirLinks(ns: NetNS) {
  const links = ip(ns, '-d link').sort((a, b) => Number(a.ifindex) - Number(b.ifindex));
  return links.map((link) => {
    return {
      ifindex: link.ifindex,
      ifname: link.ifname,
      flags: flagBits(link.flags as string[]),
      mtu: link.mtu,
      qdisc: link.qdisc,
      operstate: link.operstate,
      address: link.address,
      broadcast: link.broadcast,
      txqlen: link.txqlen,
      kind: (link.linkinfo as { info_kind?: string } | undefined)?.info_kind,
      master: link.master,
      parent: link.link ?? link.link_index,
      nsid: link.link_netnsid,
      alias: link.ifalias,
      altnames: link.altnames,
    };
  });
}

const ADDRESS_FLAGS = ['nodad', 'secondary', 'tentative'] as const;

/** Our addresses. */
export function ourAddresses(rtnl: Rtnetlink, addresses: readonly Address[]) {
  const names = new Map(rtnl.links.list().map((link) => [link.index, link.name]));
  return addresses.map((address) => ({
    dev: names.get(address.link),
    address: address.address,
    prefixlen: address.prefixLength,
    peer: address.peer,
    broadcast: address.broadcast,
    scope: address.scope,
    label: address.label,
    metric: address.metric,
    forever: address.validFor === undefined,
    flags: ADDRESS_FLAGS.filter((flag) => flag in IFA_F && address.flags.includes(flag)),
  }));
}

/** Those of `ip -j`. */
export function theirAddresses(ns: NetNS) {
  return ip(ns, '-d addr').flatMap((link) =>
    (link.addr_info as Record<string, unknown>[]).map((info) => ({
      dev: link.ifname,
      address: info.local ?? info.address,
      prefixlen: info.prefixlen,
      peer: info.address,
      broadcast: info.broadcast,
      scope: info.scope,
      label: info.label,
      metric: info.metric,
      forever: info.valid_life_time === 4294967295,
      flags: ADDRESS_FLAGS.filter((flag) => info[flag]),
    })),
  );
}

/** Our routes. */
export function ourRoutes(rtnl: Rtnetlink, routes: readonly Route[]) {
  const names = new Map(rtnl.links.list().map((link) => [link.index, link.name]));
  const name = (index: number | string | undefined) => index && names.get(index as number);
  return routes.map((route) => ({
    type: route.type === 'unicast' ? undefined : route.type,
    dst: route.dst,
    gateway: route.gateway,
    dev: name(route.link),
    table: route.table === 254 ? undefined : route.table === 255 ? 'local' : String(route.table),
    protocol: String(route.protocol),
    scope: route.scope === 'global' || route.family === 6 ? undefined : route.scope,
    prefsrc: route.source,
    metric: route.metric,
    mtu: route.mtu,
    nexthops: route.nextHops?.map((hop) => ({ gateway: hop.gateway, dev: name(hop.link), weight: hop.weight })),
    nhid: route.nextHopId,
  }));
}

/** Those of `ip -j`. */
export function theirRoutes(ns: NetNS, args: string) {
  return ip(ns, args).map((route) => ({
    type: route.type === 'unicast' ? undefined : route.type,
    dst: route.dst,
    gateway: route.gateway ?? (route.via as { host?: string } | undefined)?.host,
    dev: route.dev,
    table: route.table === 'main' ? undefined : route.table,
    protocol: route.protocol,
    scope: route.scope === 'global' ? undefined : route.scope,
    prefsrc: route.prefsrc,
    metric: route.metric,
    mtu: (route.metrics as { mtu?: number }[] | undefined)?.[0]?.mtu,
    nexthops: (
      route.nexthops as { gateway?: string; via?: { host: string }; dev: string; weight: number }[] | undefined
    )?.map((hop) => ({ gateway: hop.gateway ?? hop.via?.host, dev: hop.dev, weight: hop.weight })),
    nhid: route.nhid,
  }));
}

/**
 * Both, read of one state: a kernel goes on adding addresses and routes of its own, and takes up to two seconds to look for their duplicates,
 * in which a slow machine has executed `ip` once.
 */
export function settled<T, U>(ours: () => T, theirs: () => U): [ours: T, theirs: U] {
  for (let attempts = 10; ; attempts--) {
    const [before, judged, after] = [ours(), theirs(), ours()];
    if (attempts === 0 || JSON.stringify(before) === JSON.stringify(after)) return [after, judged];
  }
}

/** Whether two are written the same: the first and the second of a pair. */
export const same = ([ours, theirs]: unknown[]) => JSON.stringify(ours) === JSON.stringify(theirs);
/** In an order of their own. */
export const byText = <T>(list: readonly T[]) => list.map((item) => JSON.stringify(item)).sort();
