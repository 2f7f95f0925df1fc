import { join } from 'node:path';
import { type Network, Networks } from '@iso/netns/network';
import { KernelError } from '@iso/sys';
import { UsageError } from '../options.js';
import { home } from '../state/home.js';
import { checkNetworkName } from './options.js';

/** Name of the network that is there when it is asked for, as docker's. */
const DEFAULT = 'bridge';

/**
 * The networks of this user: kept in `$ISO_ROOT/networks`, else where the machine forgets them when it restarts, as the kernel does.
 *
 * @returns to be closed
 */
export function openNetworks(): Networks {
  const directory = process.env.ISO_ROOT ? join(home(), 'networks') : '/run/iso/networks';
  if (process.getuid?.() !== 0)
    throw new UsageError('networks need root: a plain user has --network none, host, pasta and slirp4netns');
  return Networks.open({ directory });
}

/**
 * Opens a network; `bridge` is made where it is missing.
 *
 * @param networks - of this user
 * @param name - as typed
 * @returns to be closed
 * @throws {@link UsageError} where there is none of that name
 */
export function openNetwork(networks: Networks, name: string): Network {
  checkNetworkName(name);
  try {
    return networks.get(name);
  } catch (error) {
    if (!KernelError.is(error, 'ENOENT') || networks.list().some((network) => network.name === name)) throw error;
    if (name !== DEFAULT) throw new UsageError(`no such network: ${name}`);
  }
  try {
    return networks.create({ name });
  } catch (error) {
    // Somebody else was first.
    if (KernelError.is(error, 'EEXIST')) return networks.get(name);
    throw error;
  }
}
