import { readdirSync, readlinkSync } from 'node:fs';
import { KernelError, startTime } from '@iso/sys';
import { familyOf, ipNumber, rangeOf } from '../ip/ip.js';
import { listNetNS } from '../namespace/list.js';
import type { NetNS } from '../namespace/netns.js';
import { forgetFlows } from './flows.js';

/**
 * What is written on the links of a network, so that they are found when its process is gone.
 *
 * @returns pid namespace, pid and start of this process
 */
export function ownerMark(): string {
  own ??= `iso ${here()} ${process.pid} ${startTime('self')}`;
  return own;
}

let own: string | undefined;

/**
 * Whether the process of a mark lives, as far as can be told: of other pid namespaces nobody here knows, so there it does.
 *
 * @param mark - of {@link ownerMark}
 */
export function ownerLives(mark: string): boolean {
  const owner = parse(mark);
  return owner === undefined || owner.namespace !== here() || startTime(owner.pid) === owner.start;
}

/** A mark as people read it. */
export function ownerText(mark: string): string {
  const owner = parse(mark);
  if (!owner) return 'somebody';
  return owner.namespace === here() ? `process ${owner.pid}` : `process ${owner.pid} of ${owner.namespace}`;
}

/**
 * Which leases belong to a namespace that still exists: one with a process in it, or a name, or which the process that attached it has
 * open. Those of other pid namespaces, into which nobody can look from here, count as such.
 *
 * @param leases - to look at
 * @returns the ids of those
 */
export function namespacesOf(leases: readonly { id: string; netns: number; owner: string }[]): Set<string> {
  const populated = new Set(listNetNS().map(({ id }) => id));
  const held = new Map<string, ReadonlySet<number> | 'unknown'>();
  const holds = (owner: string, netns: number) => {
    const known = held.get(owner) ?? namespacesHeldBy(owner);
    held.set(owner, known);
    return known === 'unknown' || known.has(netns);
  };
  return new Set(leases.filter(({ netns, owner }) => populated.has(netns) || holds(owner, netns)).map(({ id }) => id));
}

/** Inodes of the namespaces that a process has descriptors of. */
function namespacesHeldBy(mark: string): ReadonlySet<number> | 'unknown' {
  const owner = parse(mark);
  if (!owner || owner.namespace !== here()) return 'unknown';
  const found = new Set<number>();
  if (startTime(owner.pid) !== owner.start) return found;
  for (const name of readdirSync(`/proc/${owner.pid}/fd`)) {
    try {
      const inode = /^net:\[(\d+)\]$/.exec(readlinkSync(`/proc/${owner.pid}/fd/${name}`))?.[1];
      if (inode) found.add(Number(inode));
    } catch {
      // Closed meanwhile.
    }
  }
  return found;
}

function parse(mark: string | undefined): { namespace: string; pid: number; start: string } | undefined {
  const [, namespace, pid, start] = /^iso (\S+) (\d+) (\d+)$/.exec(mark ?? '') ?? [];
  return namespace && pid && start ? { namespace, pid: Number(pid), start } : undefined;
}

function here(): string {
  return readlinkSync('/proc/self/ns/pid');
}

/**
 * Removes the bridges, and the links on them, of networks whose process ended without closing them. Their rules went with it.
 * Those of the living are left alone, and those of other pid namespaces, of which nobody here knows.
 *
 * @param host - the namespace that plays the host
 * @returns names of the links that were removed
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { sweepNetworks } from '@iso/netns/network';
 * using host = NetNS.create();
 * if (sweepNetworks(host).length) throw new Error('something was left in a new namespace');
 * ```
 */
export function sweepNetworks(host: NetNS): string[] {
  const left = host.rtnl.links.list().filter(({ alias }) => parse(alias) && !ownerLives(alias as string));
  const subnets = left
    .filter(({ kind }) => kind === 'bridge')
    .flatMap(({ index }) => host.rtnl.addresses.list({ link: index }))
    .map(({ address, prefixLength }) => rangeOf(`${address}/${prefixLength}`));
  const removed = left
    .map(({ name, index }) => {
      try {
        host.rtnl.links.remove(index);
        return name;
      } catch (error) {
        // It went meanwhile.
        if (KernelError.is(error, 'ENODEV')) return undefined;
        throw error;
      }
    })
    .filter((name) => name !== undefined);
  if (subnets.length)
    forgetFlows(host, (address) => {
      const [number, family] = [ipNumber(address), familyOf(address)];
      return subnets.some((subnet) => subnet.family === family && subnet.first <= number && number <= subnet.last);
    });
  return removed;
}
