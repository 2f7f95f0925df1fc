import { statSync } from 'node:fs';
import type { Lease } from '@iso/netns/network';
import { isItself, type LiveContainer } from '../state/record.js';
import { openNetworks } from './networks.js';

/** A container in a network. */
export interface Membership {
  network: string;
  gateway: string | undefined;
  lease: Lease;
}

/**
 * The networks that a container is in, with its addresses and its ports there.
 *
 * @param container - one that runs
 * @returns one for each network
 */
export function memberships(container: Pick<LiveContainer, 'pid' | 'pidStart'>): Membership[] {
  const { pid } = container;
  const namespace = statSync(`/proc/${pid}/ns/net`, { throwIfNoEntry: false })?.ino;
  if (!isItself(container)) return [];
  using networks = openNetworks();
  return networks.list().flatMap(({ name }) => {
    using network = networks.get(name);
    const { gateway } = network;
    return network.members
      .filter(({ netns }) => netns === namespace)
      .map((lease) => ({ network: name, gateway, lease }));
  });
}
