/**
 * A container runtime composed of the packages.
 *
 * @packageDocumentation
 */
export { Container, type ContainerOptions, explainContainer, run } from './container.js';
export { UsageError, type Volume } from './options.js';
