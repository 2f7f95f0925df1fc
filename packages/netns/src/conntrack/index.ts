/**
 * Connection tracking over netlink: flows listed and forgotten.
 *
 * @packageDocumentation
 */
export { Conntrack, type FlowFilter } from './conntrack.js';
export type { Flow, FlowCounter, Tuple } from './flow.js';
