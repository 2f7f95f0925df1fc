/**
 * Landlock rulesets: what a process may reach of files, ports and other processes.
 *
 * @packageDocumentation
 */
export { landlockAbi } from './abi.js';
export { Landlock, type LandlockReport, landlock } from './landlock.js';
export type { LandlockOptions, NetRules, PathRule } from './options.js';
export type { Access, FileRight, LogFlag, NetRight, Scope } from './rights.js';
