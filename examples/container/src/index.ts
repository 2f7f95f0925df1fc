/**
 * A container runtime composed of the packages.
 *
 * @packageDocumentation
 */
export type { Confinement, ContainerOptions } from './assemble.js';
export { Container, explainContainer, run } from './container.js';
export type { DeviceMapping } from './device.js';
export type { ExecOptions } from './exec/exec.js';
export type { HardeningOptions, Privileges, SeccompChoice } from './hardening.js';
export { type Hook, HookError, type HookState, type Hooks } from './hook.js';
export { type Tmpfs, UsageError, type Volume } from './options.js';
export type { DeviceRate, Resources } from './resources.js';
export type { SharedWith, SharingOptions } from './sharing.js';
