/**
 * Kernel union mounts.
 *
 * @packageDocumentation
 */
export { type OverlayOptions, overlay } from './overlay.js';
export { type PatchworkOptions, patchwork } from './patchwork.js';
