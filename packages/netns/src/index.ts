/**
 * Network namespaces as objects, with the sockets, settings and rtnetlink inside of them. The other parts have entries of their own:
 * `@iso/netns/route`, `@iso/netns/netlink`.
 *
 * @packageDocumentation
 */
export { type ListedNetNS, listNetNS } from './namespace/list.js';
export { NetNS, type NetNSOptions, type NetNSSource } from './namespace/netns.js';
export type { ListenOptions } from './namespace/server.js';
export type { ConnectOptions, DatagramOptions } from './namespace/socket.js';
export { Sysctl } from './namespace/sysctl.js';
export { Tun, type TunOptions } from './namespace/tun.js';
