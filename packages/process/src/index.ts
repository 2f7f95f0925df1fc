/**
 * Child processes by clone3 and pidfd, with the habits of `child_process`.
 *
 * @packageDocumentation
 */
export type { Attributes, ResourceLimit, ResourceName } from './attributes.js';
export { Child, type ChildEvents, type Exit } from './child.js';
export { Pty, PtyStream, type TerminalSize } from './pty.js';
export { ExitError, OutputLimitError, type RunOptions, type RunResult, run } from './run.js';
export { signalName, signalNumber } from './signal.js';
export { explain, type SpawnOptions, spawn } from './spawn.js';
export type { OpenStdio, Stdio, StdioItem } from './stdio.js';
export { attach, terminalSize, type UserTerminal } from './terminal.js';
