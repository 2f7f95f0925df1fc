/**
 * cgroups v1, v2 and hybrid.
 *
 * @packageDocumentation
 */
export { Cgroup, type CreateOptions, type Stats } from './cgroup.js';
export { type Controller, detect, type Layout } from './layout.js';
export { type Limits, plan, type Write } from './limits.js';
