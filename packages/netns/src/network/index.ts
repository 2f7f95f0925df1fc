/**
 * Networks of namespaces: bridges with addresses, a way out, published ports, bandwidth.
 *
 * @packageDocumentation
 */
export { BridgeNetwork, type BridgeNetworkOptions } from './bridge.js';
export { NameServer, type NameServerOptions } from './dns/server.js';
export { BridgeEndpoint } from './endpoint.js';
export type { AttachOptions, Bandwidth, Endpoint, Network } from './network.js';
export { sweepNetworks } from './owner.js';
export { Pool, type PoolOptions } from './pool.js';
export type { Publication, PublishOptions } from './publication.js';
