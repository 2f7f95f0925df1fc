import { readFileSync } from 'node:fs';
import { invalid, KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';
import { freeSubnet, overlap, Pool, type PoolOptions, uniqueLocalSubnet } from './pool.js';
import { readResolvConf } from './resolv-file.js';

const EADDRINUSE = 98;
/** Values of accept_ra: unless it forwards; also then. */
const LISTENS = '1';
const LISTENS_ALL_THE_SAME = 2;

/**
 * The subnets of a network: those that were named, or ones that are free.
 *
 * @param host - whose routes count
 * @param options - `ipv6` adds a unique local one where none is named
 * @param others - subnets of other networks; `link` is that of the network itself, whose routes are its own
 * @throws KernelError `EADDRINUSE` where one overlaps what the host has a route to, or what another network has
 */
export function poolsOf(
  host: NetNS,
  options: { subnets?: readonly (string | PoolOptions)[]; ipv6?: boolean },
  others: { networks?: readonly { name: string; subnet: string }[]; link?: string | undefined } = {},
): Pool[] {
  const networks = others.networks ?? [];
  const own = others.link === undefined ? undefined : indexOf(host, others.link);
  const routed = host.rtnl.routes
    .list({ table: 'main' })
    .filter(({ dst, type, link }) => dst !== 'default' && type === 'unicast' && (own === undefined || link !== own));
  const used = [...routed.map(({ dst }) => dst), ...networks.map(({ subnet }) => subnet)];
  const named = options.subnets ?? [freeSubnet([...used, ...nameServers()])];
  const pools = named.map((subnet) => new Pool(typeof subnet === 'string' ? { subnet } : subnet));
  if (options.ipv6 && !pools.some(({ family }) => family === 6))
    pools.push(new Pool({ subnet: uniqueLocalSubnet(used) }));
  if (pools.length === 0) throw invalid('a network needs a subnet');
  if (new Set(pools.map(({ family }) => family)).size < pools.length)
    throw invalid('a network has one subnet of each family at the most');
  for (const { subnet } of pools) {
    const network = networks.find((other) => overlap(subnet, other.subnet));
    if (network) throw inUse(subnet, `network ${network.name} has ${network.subnet}`);
    const route = routed.find(({ dst }) => overlap(subnet, dst));
    if (!route) continue;
    const by = route.link === undefined ? '' : ` by ${host.rtnl.links.get(route.link).name}`;
    throw inUse(subnet, `the host has a route to ${route.dst} already${by}`);
  }
  return pools.sort((a, b) => a.family - b.family);
}

/** Whom this machine asks for names is reached by its way out: no subnet is to lie in front of them. */
function nameServers(): readonly string[] {
  try {
    return readResolvConf(readFileSync('/etc/resolv.conf', 'utf8')).servers;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function inUse(subnet: string, hint: string): KernelError {
  return new KernelError(EADDRINUSE, { syscall: 'bind', call: `subnet ${subnet}`, hint });
}

function indexOf(host: NetNS, link: string): number | undefined {
  try {
    return host.rtnl.links.index(link);
  } catch (error) {
    if (KernelError.is(error, 'ENODEV')) return undefined;
    throw error;
  }
}

/** Lets the host pass packets on. */
export function forward(host: NetNS, pools: readonly Pool[]): void {
  if (pools.some(({ family }) => family === 4)) host.sysctl.set('net.ipv4.ip_forward', 1);
  if (!pools.some(({ family }) => family === 6)) return;
  // Who passes packets on no longer listens to routers, and would lose the way out that one told it of.
  const told = host.rtnl.routes.list({ family: 6, table: 'main' }).filter(({ protocol }) => protocol === 'ra');
  for (const link of new Set(told.map((route) => route.link))) {
    if (link === undefined) continue;
    const setting = `net/ipv6/conf/${host.rtnl.links.get(link).name}/accept_ra`;
    if (settingOf(host, setting) === LISTENS) host.sysctl.set(setting, LISTENS_ALL_THE_SAME);
  }
  host.sysctl.set('net.ipv6.conf.all.forwarding', 1);
}

/** IPv6 without waiting: a link that looks for duplicates of its address first cannot find its neighbours meanwhile. Or no IPv6. */
export function atOnce(netns: NetNS, link: string, pools: readonly Pool[]): void {
  try {
    netns.sysctl.set(...settingFor(link, pools));
  } catch (error) {
    unlessLacking(error);
  }
}

/** The same while the event loop goes on. */
export async function atOnceAsync(netns: NetNS, link: string, pools: readonly Pool[]): Promise<void> {
  await netns.sysctl.setAsync(...settingFor(link, pools)).catch(unlessLacking);
}

function settingFor(link: string, pools: readonly Pool[]): [name: string, value: number] {
  const six = pools.some(({ family }) => family === 6);
  return [`net/ipv6/conf/${link}/${six ? 'accept_dad' : 'disable_ipv6'}`, six ? 0 : 1];
}

/** A kernel may be without IPv6. */
function unlessLacking(error: unknown): void {
  if (!KernelError.is(error, 'ENOENT')) throw error;
}

/**
 * Whether the kernel takes for its own what is sent to an address. To an IPv6 address it does some milliseconds after that was given: its
 * route is made by who looks for duplicates, also where nobody is to be looked for.
 */
export function isTakenIn(netns: NetNS, address: string): boolean {
  try {
    return netns.rtnl.routes.get(address).type === 'local';
  } catch (error) {
    if (KernelError.is(error, 'ENETUNREACH', 'EHOSTUNREACH')) return false;
    throw error;
  }
}

/**
 * Tells those on the wire whose the addresses of a link are now: who remembers them otherwise would not find it for a minute. The kernel does
 * so (arp_notify, ndisc_notify) when a link gets a MAC, also the one that it has.
 *
 * @param netns - namespace of the link, which is up
 * @param link - its name
 * @param mac - that it has
 * @param pools - of which it has an address each
 */
export async function announce(netns: NetNS, link: string, mac: string, pools: readonly Pool[]): Promise<void> {
  for (const { family } of pools)
    await netns.sysctl.setAsync(`net/ipv${family}/conf/${link}/${family === 4 ? 'arp' : 'ndisc'}_notify`, 1);
  await netns.rtnl.later(() => netns.rtnl.links.set(link, { mac }));
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
