import { Conntrack } from '../conntrack/index.js';
import type { NetNS } from '../namespace/netns.js';

/**
 * Forgets the connections of addresses that somebody else may get.
 *
 * @param host - whose connection tracking it is
 * @param gone - whether an address is such a one
 */
export function forgetFlows(host: NetNS, gone: (address: string) => boolean): void {
  using conntrack = Conntrack.open({ home: host });
  for (const flow of conntrack.list()) {
    const { original, reply } = flow;
    if ([original.source, original.destination, reply.source].some(gone)) conntrack.remove(flow);
  }
}
