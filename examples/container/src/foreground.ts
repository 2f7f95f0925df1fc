import type { Readable } from 'node:stream';
import { isatty } from 'node:tty';
import { type Child, type StdioItem, terminalSize } from '@iso/process';
import { ProxiedSignals } from './attach/signals.js';
import { rawTerminal } from './attach/terminal.js';
import { exitCode, failureCode } from './exitcode.js';
import { clean } from './state/clean.js';
import { now } from './state/document.js';
import type { HeldRecord } from './state/held.js';
import { type Outcome, type RunIo, runOnce } from './supervise/once.js';

/** How the command's own terminal and input are used. */
export interface ForegroundOptions {
  /** Gives it a terminal of its own, docker's `-t`. */
  tty: boolean;
  /** Passes standard input on, docker's `-i`. */
  interactive: boolean;
}

/**
 * Runs a container that goes with its end, in the foreground, without a supervisor: it writes where this process does.
 *
 * @param record - held by this process
 * @param how - terminal and input
 * @returns the exit code
 * @throws what `run()` throws
 */
export async function foreground(record: HeldRecord, how: ForegroundOptions): Promise<number> {
  let outcome: Outcome | undefined;
  try {
    const code = await inForeground(how, async (io, running) => {
      outcome = await runOnce(record, io, ({ child }) => running(child));
      return outcome.exitCode;
    });
    // A start that a signal gave up has one too.
    outcome ??= { exitCode: code, oomKilled: false };
    return code;
  } catch (error) {
    outcome = { exitCode: failureCode(error), oomKilled: false };
    throw error;
  } finally {
    record.finish({ status: 'exited', finishedAt: now(), ...(outcome ?? {}) });
    await clean(record.home);
  }
}

/**
 * Runs a process in the foreground: signals go to it, its output comes here, the terminal is its own.
 *
 * @param how - terminal and input
 * @param run - starts it with these descriptors, says so, and waits for its end
 * @returns the exit code
 * @throws what `run` throws
 */
export async function inForeground(
  how: ForegroundOptions,
  run: (io: RunIo, running: (child: Child) => void) => Promise<number>,
): Promise<number> {
  using signals = new ProxiedSignals(how.tty);
  let detach = () => {};
  try {
    const io: RunIo = {
      signal: signals.before,
      stdio: how.tty ? 'pty' : [how.interactive ? own(0) : 'ignore', own(1), own(2)],
      ...(how.tty ? { terminal: terminalSize() } : {}),
    };
    return await run(io, (child) => {
      detach = attach(child, how);
      signals.goTo((signal) => child.kill(signal));
    });
  } catch (error) {
    if (signals.ended) return exitCode({ code: null, signal: signals.ended });
    throw error;
  } finally {
    detach();
  }
}

/** A terminal of the host is never given away: who holds it can type into it. */
function own(fd: number): StdioItem {
  return isatty(fd) ? 'pipe' : 'inherit';
}

const END_OF_FILE = '\x04';

/** Joins its streams with this process's own. */
function attach(child: Child, { tty, interactive }: ForegroundOptions): () => void {
  const undo: (() => void)[] = [];
  // Who touches a standard stream makes it non-blocking, for the container too: not where that has it itself.
  if (child.stdout) pump(child, child.stdout, process.stdout);
  if (child.stderr) pump(child, child.stderr, process.stderr);
  if (tty) {
    const resize = () => child.resize(terminalSize());
    process.stdout.on('resize', resize);
    undo.push(() => process.stdout.off('resize', resize));
  }
  if (interactive && child.stdin) {
    const { stdin } = child;
    // It may have closed its input.
    stdin.on('error', () => {});
    if (tty) {
      const raw = rawTerminal();
      undo.push(() => raw[Symbol.dispose]());
    }
    process.stdin.pipe(stdin, { end: !tty });
    // A terminal has no end; what a person would type stands for it.
    if (tty) process.stdin.once('end', () => stdin.write(END_OF_FILE));
    undo.push(() => process.stdin.destroy());
  }
  return () => {
    for (const action of undo) action();
  };
}

function pump(child: Child, theirs: Readable, ours: NodeJS.WriteStream): void {
  theirs.pipe(ours, { end: false });
  ours.once('error', () => {
    // Nobody reads any more: as a terminal that was closed. What does not care is ended.
    theirs.resume();
    void child.stop({ signal: 'SIGHUP', graceMs: 1000 });
  });
}
