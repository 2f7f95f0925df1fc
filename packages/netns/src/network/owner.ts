import { readFileSync, readlinkSync } from 'node:fs';
import { KernelError } from '@iso/sys';
import type { NetNS } from '../namespace/netns.js';

/** Start time of a process, by which it is told from one that got its number later; undefined where there is none. */
function startOf(pid: number | 'self'): string | undefined {
  try {
    // Behind the name, which may hold anything: field 22 of stat.
    return readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')[19];
  } catch {
    return undefined;
  }
}

/**
 * What is written on the links of a network, so that they are found when its process is gone.
 *
 * @returns pid namespace, pid and start of this process
 */
export function ownerMark(): string {
  return `iso ${readlinkSync('/proc/self/ns/pid')} ${process.pid} ${startOf('self')}`;
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
  const here = readlinkSync('/proc/self/ns/pid');
  const left = host.rtnl.links.list().filter(({ alias }) => {
    const mark = /^iso (\S+) (\d+) (\d+)$/.exec(alias ?? '');
    return mark && mark[1] === here && startOf(Number(mark[2])) !== mark[3];
  });
  return left
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
}
