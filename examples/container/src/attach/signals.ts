const proxied: readonly NodeJS.Signals[] = [
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
export class ProxiedSignals implements Disposable {
  readonly #start = new AbortController();
  readonly #handlers = new Map<NodeJS.Signals, () => void>();
  readonly #waiting: NodeJS.Signals[] = [];
  #kill: ((signal: NodeJS.Signals) => void) | undefined;
  #requests = 0;

  constructor(tty: boolean) {
    for (const signal of proxied) {
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

  /** The container runs: this sends it a signal. */
  goTo(kill: (signal: NodeJS.Signals) => void): void {
    this.#kill = kill;
    for (const signal of this.#waiting) this.#handle(signal);
  }

  #handle(signal: NodeJS.Signals): void {
    if (this.#kill) {
      if (signal === 'SIGINT' || signal === 'SIGTERM') this.#requests += 1;
      this.#kill(this.#requests >= INSISTENT ? 'SIGKILL' : signal);
    } else {
      this.#waiting.push(signal);
      if (signal === 'SIGCONT' || signal === 'SIGWINCH') return;
      setTimeout(() => this.#kill || this.#start.abort(signal), PATIENCE_MS).unref();
    }
  }

  /** They are this process's own again. */
  [Symbol.dispose](): void {
    for (const [signal, handler] of this.#handlers) process.off(signal, handler);
  }
}
