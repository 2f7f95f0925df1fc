/**
 * For tests of anything that makes system calls: a kernel that only plays, and a ledger of what is left behind.
 *
 * @packageDocumentation
 */
export { difference, type Ledger, ledger } from './ledger.js';
export { type RecordedCall, type RecordedLaunch, RecordingKernel } from './recorder.js';
