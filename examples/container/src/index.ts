/**
 * A container runtime composed of the packages.
 *
 * @packageDocumentation
 */
export type { ContainerOptions } from './assemble.js';
export { Container, explainContainer, run } from './container.js';
export { type Tmpfs, UsageError, type Volume } from './options.js';
