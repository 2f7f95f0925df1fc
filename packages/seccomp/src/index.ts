/**
 * System call filters: compiled here, installed in a child by a launch, supervised by JavaScript.
 *
 * @packageDocumentation
 */
export type { Action } from './action.js';
export type { Architecture } from './architecture.js';
export type { Comparison, Operator } from './comparison.js';
export { defaultProfile } from './default-profile.js';
export { SeccompError, type SeccompReason } from './error.js';
export { Filter, type FilterOptions, type Rule } from './filter.js';
export { type DeniedCall, Learner } from './learner.js';
export { Notification } from './notification.js';
export { type InstallFlag, type InstallOptions, seccomp } from './part.js';
export { Profile, type ProfileContext } from './profile.js';
export { type Answerer, Supervisor } from './supervisor.js';
