/**
 * Networks of namespaces: bridges and other drivers, with addresses, a way out, published ports, bandwidth, names.
 *
 * @packageDocumentation
 */
export type { Bandwidth } from './bandwidth.js';
export { BridgeNetwork, type BridgeNetworkOptions } from './bridge.js';
export type { BridgeOptions } from './bridge-driver.js';
export type { GivenAddress } from './dns/addresses.js';
export type { NamePolicy } from './dns/policy.js';
export { NameServer, type NameServerOptions } from './dns/server.js';
export type { DriverContext, DriverNetwork, JoinOptions, NetworkConfig, NetworkDriver } from './driver.js';
export { type Drop, type DropOptions, watchDrops } from './drops.js';
export { Egress, type EgressOptions, type EgressStats } from './egress/egress.js';
export type { EgressRules, Refusals } from './egress/rules.js';
export type { Restricted } from './egress/tables.js';
export { Endpoint } from './endpoint.js';
export type { Forwarding } from './firewall.js';
export { type HostEntry, HostsFile } from './hosts-file.js';
export type { Lease, LeasedPort } from './lease.js';
export { type AttachOptions, type CommonNetworkOptions, Network, type NetworkOptions } from './network.js';
export { Networks, type NetworksOptions } from './networks.js';
export { sweepNetworks } from './owner.js';
export type { IpvlanOptions, MacvlanOptions } from './parent-drivers.js';
export { Pool, type PoolOptions } from './pool.js';
export { type Publication, type PublishOptions, publishPort, type Translation } from './publication.js';
export { type ResolvConf, ResolvFile, readResolvConf } from './resolv-file.js';
export { type ConnectOptions, Sandbox, type SandboxOptions } from './sandbox.js';
export { Uplink, type UplinkOptions, type UplinkProcess, type UplinkSpawn } from './uplink.js';
