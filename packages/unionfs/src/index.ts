/**
 * Kernel union mounts.
 *
 * @packageDocumentation
 */
export { type OverlayOptions, overlay } from './overlay.js';
