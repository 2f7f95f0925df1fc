/**
 * Netlink as such: messages and attributes, sockets in any network namespace, requests, dumps, batches, notifications. What
 * the other parts of the package are written on, for families that they do not have.
 *
 * @packageDocumentation
 */
export { Attributes } from './attribute.js';
export { type AttributeNames, Message, nameOf } from './message.js';
export { Monitor, type MonitorOptions } from './monitor.js';
export { Replies } from './replies.js';
export { NetlinkSocket, type NetlinkSocketOptions, type SocketHome } from './socket.js';
