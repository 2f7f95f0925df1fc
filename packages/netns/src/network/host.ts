import { invalid, KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import type { BridgeNetworkOptions } from './bridge.js';
import { freeSubnet, overlap, Pool } from './pool.js';

const EADDRINUSE = 98;

/**
 * The pools of a network: those that were named, or one that is free.
 *
 * @throws KernelError `EADDRINUSE` where one overlaps what the host has a route to
 */
export function poolsOf(host: NetNS, options: Pick<BridgeNetworkOptions, 'subnets'>): Pool[] {
  const routed = host.rtnl.routes
    .list({ table: 'main' })
    .filter(({ dst, type }) => dst !== 'default' && type === 'unicast')
    .map((route) => ({ dst: route.dst, link: route.link }));
  const wanted = options.subnets ?? [freeSubnet(routed.map(({ dst }) => dst))];
  const pools = wanted.map((subnet) => new Pool(typeof subnet === 'string' ? { subnet } : subnet));
  if (pools.length === 0) throw invalid('a network needs a subnet');
  if (new Set(pools.map(({ family }) => family)).size < pools.length)
    throw invalid('a network has one subnet of each family at the most');
  for (const { subnet } of pools) {
    const other = routed.find(({ dst }) => overlap(subnet, dst));
    if (other) {
      throw new KernelError(EADDRINUSE, {
        syscall: 'bind',
        call: `subnet ${subnet}`,
        hint: `the host has a route to ${other.dst} already${other.link ? ` by ${host.rtnl.links.get(other.link).name}` : ''}`,
      });
    }
  }
  return pools.sort((a, b) => a.family - b.family);
}

/** Lets the host pass packets on. */
export function forward(host: NetNS, pools: readonly Pool[]): void {
  if (pools.some(({ family }) => family === 4)) host.sysctl.set('net.ipv4.ip_forward', 1);
  if (pools.some(({ family }) => family === 6)) host.sysctl.set('net.ipv6.conf.all.forwarding', 1);
}

/** IPv6 without waiting: a link that looks for duplicates of its address first cannot find its neighbours meanwhile. Or no IPv6. */
export function atOnce(netns: NetNS, link: string, pools: readonly Pool[]): void {
  const six = pools.some(({ family }) => family === 6);
  try {
    netns.sysctl.set(`net/ipv6/conf/${link}/${six ? 'accept_dad' : 'disable_ipv6'}`, six ? 0 : 1);
  } catch (error) {
    // A kernel without IPv6.
    if (!KernelError.is(error, 'ENOENT')) throw error;
  }
}

/** A setting, where the kernel has it. */
export function settingOf(netns: NetNS, name: string): string | undefined {
  try {
    return netns.sysctl.get(name);
  } catch (error) {
    if (KernelError.is(error, 'ENOENT')) return undefined;
    throw error;
  }
}
