import type { Readable } from 'node:stream';
import { isatty } from 'node:tty';
import type { StdioItem, TerminalSize } from '@iso/process';
import type { ContainerOptions } from './assemble.js';
import { type Container, run } from './container.js';
import { exitCode } from './exitcode.js';

/** How the command's own terminal and input are used. */
export interface ForegroundOptions {
  /** Gives the container a terminal of its own, docker's `-t`. */
  tty: boolean;
  /** Passes standard input on, docker's `-i`. */
  interactive: boolean;
}

/**
 * Runs a container in the foreground: signals go to it, its output comes here, the terminal is its own.
 *
 * @param options - root, command and limits
 * @param how - terminal and input
 * @returns the exit code
 * @throws what {@link run} throws
 */
export async function foreground(options: ContainerOptions, how: ForegroundOptions): Promise<number> {
  const signals = new Signals(how.tty);
  let detach = () => {};
  try {
    const container = await run({
      ...options,
      signal: signals.before,
      stdio: how.tty ? 'pty' : [how.interactive ? own(0) : 'ignore', own(1), own(2)],
      ...(how.tty ? { terminal: terminalSize() } : {}),
    });
    const closed = new Promise<void>((resolve) => container.child.once('close', () => resolve()));
    detach = attach(container, how);
    signals.goTo(container);
    const exit = await container.exited;
    await closed;
    return exitCode(exit);
  } catch (error) {
    if (signals.ended) return exitCode({ code: null, signal: signals.ended });
    throw error;
  } finally {
    detach();
    signals.stop();
  }
}

/** A terminal of the host is never given away: who holds it can type into it. */
function own(fd: number): StdioItem {
  return isatty(fd) ? 'pipe' : 'inherit';
}

const forwarded: readonly NodeJS.Signals[] = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGALRM',
  'SIGCONT',
  'SIGWINCH',
];
/** As docker's client: so many requests to end are enough. */
const INSISTENT = 3;
/** A start that takes longer stands still: in a frozen cgroup, or on a file system that does not answer. */
const PATIENCE_MS = 1000;

/** Passes this process's signals on. Those that come before the container runs wait for it, but not for long. */
class Signals {
  readonly #start = new AbortController();
  readonly #handlers = new Map<NodeJS.Signals, () => void>();
  readonly #waiting: NodeJS.Signals[] = [];
  #container: Container | undefined;
  #requests = 0;

  constructor(tty: boolean) {
    for (const signal of forwarded) {
      // A terminal of its own tells the container itself that its size has changed.
      if (tty && signal === 'SIGWINCH') continue;
      const handler = () => this.#handle(signal);
      this.#handlers.set(signal, handler);
      process.on(signal, handler);
    }
  }

  /** Aborted when the start is given up. */
  get before(): AbortSignal {
    return this.#start.signal;
  }

  /** The signal for which it was. */
  get ended(): NodeJS.Signals | undefined {
    return this.#start.signal.aborted ? this.#start.signal.reason : undefined;
  }

  goTo(container: Container): void {
    this.#container = container;
    for (const signal of this.#waiting) this.#handle(signal);
  }

  stop(): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }

  #handle(signal: NodeJS.Signals): void {
    if (this.#container) {
      if (signal === 'SIGINT' || signal === 'SIGTERM') this.#requests += 1;
      this.#container.child.kill(this.#requests >= INSISTENT ? 'SIGKILL' : signal);
    } else {
      this.#waiting.push(signal);
      if (signal === 'SIGCONT' || signal === 'SIGWINCH') return;
      setTimeout(() => this.#container || this.#start.abort(signal), PATIENCE_MS).unref();
    }
  }
}

const END_OF_FILE = '\x04';

/** Joins the container's streams with this process's own. */
function attach(container: Container, { tty, interactive }: ForegroundOptions): () => void {
  const { child } = container;
  const undo: (() => void)[] = [];
  // Who touches a standard stream makes it non-blocking, for the container too: not where that has it itself.
  if (child.stdout) pump(container, child.stdout, process.stdout);
  if (child.stderr) pump(container, child.stderr, process.stderr);
  if (tty) {
    const resize = () => child.resize(terminalSize());
    process.stdout.on('resize', resize);
    undo.push(() => process.stdout.off('resize', resize));
  }
  if (interactive && child.stdin) {
    const { stdin } = child;
    // It may have closed its input.
    stdin.on('error', () => {});
    if (tty && process.stdin.isTTY) {
      process.stdin.setRawMode(true);
      const cooked = () => process.stdin.setRawMode(false);
      process.once('exit', cooked);
      undo.push(cooked, () => process.off('exit', cooked));
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

function pump({ child }: Container, theirs: Readable, ours: NodeJS.WriteStream): void {
  theirs.pipe(ours, { end: false });
  ours.once('error', () => {
    // Nobody reads any more: as a terminal that was closed. What does not care is ended.
    theirs.resume();
    void child.stop({ signal: 'SIGHUP', graceMs: 1000 });
  });
}

function terminalSize(): TerminalSize {
  return { columns: process.stdout.columns ?? 80, rows: process.stdout.rows ?? 24 };
}
