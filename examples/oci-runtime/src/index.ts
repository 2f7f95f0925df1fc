/**
 * An OCI runtime composed of the packages.
 *
 * @packageDocumentation
 */
export type { Bundle } from './config/read.js';
export type { Config, ProcessConfig } from './config/spec.js';
export { Container, type CreateOptions } from './container/container.js';
export type { State } from './container/state.js';
export { type Saved, Store } from './container/store.js';
export { NoContainerError, RuntimeError } from './error.js';
