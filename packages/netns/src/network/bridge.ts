import { type BridgeOptions, bridgeOf } from './bridge-driver.js';
import { type CommonNetworkOptions, Network, type NetworkParts } from './network.js';

/** A bridge network as it is to be. */
export interface BridgeNetworkOptions extends CommonNetworkOptions, BridgeOptions {}

/**
 * A {@link Network} on a bridge, all of whose options stand side by side.
 *
 * @example
 * ```ts root
 * import { NetNS } from '@iso/netns';
 * import { BridgeNetwork } from '@iso/netns/network';
 * using host = NetNS.create();
 * using box = NetNS.create();
 * using network = BridgeNetwork.create({ name: 'app', host, subnets: ['10.50.0.0/24'] });
 * const endpoint = await network.attach(box);
 * if (endpoint.ip !== '10.50.0.2') throw new Error('not the first address');
 * ```
 */
export class BridgeNetwork extends Network {
  /** Name of the bridge. */
  readonly bridge: string;

  private constructor(parts: NetworkParts) {
    super(parts);
    this.bridge = bridgeOf(parts.config);
  }

  /**
   * Makes a network.
   *
   * @param options - name, subnets, what it lets through
   * @returns the network
   * @throws KernelError as {@link Network.create}
   */
  static override create(options: BridgeNetworkOptions): BridgeNetwork {
    const { bridge, isolated, masquerade, ...common } = options;
    const given = Object.entries({ bridge, isolated, masquerade }).filter(([, value]) => value !== undefined);
    return new BridgeNetwork(Network.parts({ ...common, options: Object.fromEntries(given) }));
  }
}
