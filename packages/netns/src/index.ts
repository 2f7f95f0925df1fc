/**
 * Network namespaces as objects.
 *
 * @packageDocumentation
 */
export { NetNS } from './netns.js';
