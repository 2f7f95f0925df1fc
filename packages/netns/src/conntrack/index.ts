/**
 * Connection tracking over netlink: flows listed and forgotten.
 *
 * @packageDocumentation
 */
export { Conntrack } from './conntrack.js';
export type { FlowFilter } from './filter.js';
export type { Flow, FlowCounter, Tuple } from './flow.js';
