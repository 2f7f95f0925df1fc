import type { ReadStream, WriteStream } from 'node:tty';
import { invalid } from '@iso/sys';
import type { Child } from './child.js';
import type { TerminalSize } from './pty.js';

/** The two streams of the terminal that a user sits at. */
export interface UserTerminal {
  /** Default `process.stdin`. */
  input?: ReadStream | NodeJS.ReadableStream;
  /** Default `process.stdout`. */
  output?: WriteStream | NodeJS.WritableStream;
}

/**
 * Connects the terminal that a user sits at with a child's (`stdio: 'pty'`), as `docker run -it` does: keys go to the child
 * unchanged, Ctrl-C too, so that its own terminal makes signals of them; sizes follow. Ends with the child, or when disposed:
 * the user's terminal is then as it was before.
 *
 * @param child - started with `stdio: 'pty'`
 * @param terminal - the user's, default this process's
 * @returns to be disposed to let go
 * @throws `TypeError` (`ERR_INVALID_ARG_VALUE`) where the child has no terminal
 *
 * @example
 * ```ts
 * import { attach, spawn, terminalSize } from '@iso/process';
 * const child = await spawn('sh', ['-c', 'stty size'], { stdio: 'pty', terminal: terminalSize() });
 * attach(child);
 * await child.exited;
 * ```
 */
export function attach(child: Child, terminal: UserTerminal = {}): Disposable {
  const { terminal: pty } = child;
  if (!pty) throw invalid("the child has no terminal: start it with stdio: 'pty'");
  const { input = process.stdin, output = process.stdout } = terminal;
  const raw = 'setRawMode' in input && input.isTTY && !input.isRaw;
  const resize = () => pty.resize(terminalSize(output));
  if (raw) input.setRawMode(true);
  input.pipe(pty.stream);
  pty.stream.pipe(output, { end: false });
  output.on('resize', resize);
  let attached = true;
  const release = () => {
    if (!attached) return;
    attached = false;
    input.unpipe(pty.stream);
    input.pause();
    pty.stream.unpipe(output);
    output.off('resize', resize);
    if (raw) input.setRawMode(false);
  };
  // What it wrote last is still to come when it has ended.
  pty.stream.once('close', release);
  return { [Symbol.dispose]: release };
}

/**
 * Size of a terminal.
 *
 * @param output - default `process.stdout`
 * @returns its size, 80 by 24 where it is no terminal
 */
export function terminalSize(output: WriteStream | NodeJS.WritableStream = process.stdout): TerminalSize {
  return 'columns' in output && output.columns > 0
    ? { columns: output.columns, rows: output.rows }
    : { columns: 80, rows: 24 };
}
